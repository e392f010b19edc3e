//! Threads that look up host names of agents.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use parking_lot::{Condvar, Mutex};

use super::{Message, spawn};
use crate::output::Failure;
use crate::resolve;

/// Host names that wait. Those beyond it are asked for again later.
const MAX_WAITING: usize = 100_000;
/// Number of threads, so that names without an answer delay few others.
const THREADS: usize = 4;

/// Host names to be looked up.
#[derive(Debug, Default)]
struct Queue {
    /// Names without an address yet, which come first.
    new: VecDeque<String>,
    /// Names that may have another address by now.
    known: VecDeque<String>,
    /// All of both.
    waiting: HashSet<String>,
    is_closed: bool,
}

impl Queue {
    /// Adds a name, unless it waits already. Returns false if there is no room.
    fn add(&mut self, name: &str, is_new: bool) -> bool {
        if self.waiting.contains(name) {
            return true;
        }
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        self.waiting.insert(name.to_owned());
        let queue = if is_new {
            &mut self.new
        } else {
            &mut self.known
        };
        queue.push_back(name.to_owned());
        true
    }

    /// Takes the next name.
    fn next(&mut self) -> Option<String> {
        let name = self.new.pop_front().or_else(|| self.known.pop_front())?;
        self.waiting.remove(&name);
        Some(name)
    }
}

/// Names that wait, and the signal that there are some.
#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

/// Queue of host names. The threads end with it.
#[derive(Debug)]
pub struct Names(Arc<Shared>);

impl Names {
    /// Asks for the address of a host name, which is told to the table. New ones come first. Returns
    /// false if there is no room.
    pub fn ask(&self, name: &str, is_new: bool) -> bool {
        let has_room = self.0.queue.lock().add(name, is_new);
        self.0.filled.notify_one();
        has_room
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.0.queue.lock().is_closed = true;
        self.0.filled.notify_all();
    }
}

/// Starts the threads.
///
/// # Errors
/// The system has no room for them.
pub fn start(table: &SyncSender<Message>) -> Result<Names, Failure> {
    let names = Names(Arc::default());
    for _ in 0..THREADS {
        let (shared, table) = (Arc::clone(&names.0), table.clone());
        spawn("dns-names", move || {
            while let Some(name) = wait(&shared) {
                let found = resolve::addresses(&name).unwrap_or_default();
                let ip = found.iter().find(|ip| ip.is_ipv4()).or(found.first());
                let ip: Option<IpAddr> = ip.copied();
                if table.send(Message::Resolved(name, ip)).is_err() {
                    return;
                }
            }
        })?;
    }
    Ok(names)
}

/// Waits for a name. `None`: there will be none any more.
fn wait(shared: &Shared) -> Option<String> {
    let mut queue = shared.queue.lock();
    loop {
        if queue.is_closed {
            return None;
        }
        if let Some(name) = queue.next() {
            return Some(name);
        }
        shared.filled.wait(&mut queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_names_come_first_and_each_once() {
        let mut queue = Queue::default();
        for (name, is_new) in [("a", false), ("b", false), ("c", true), ("a", false)] {
            assert!(queue.add(name, is_new));
        }
        let order: Vec<String> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(order, ["c", "a", "b"]);
        assert!(queue.add("a", false));
        assert_eq!(queue.next().as_deref(), Some("a"));
    }

    #[test]
    fn a_full_queue_refuses() {
        let mut queue = Queue::default();
        for number in 0..MAX_WAITING {
            assert!(queue.add(&number.to_string(), false));
        }
        assert!(!queue.add("x", true));
        assert!(queue.add("7", true), "it waits already");
        assert_eq!(queue.next().as_deref(), Some("0"));
        assert!(queue.add("x", true));
    }
}
