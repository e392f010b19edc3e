//! A run: everything that the test bed puts on the machine carries the run's id, so
//! that it can be found and removed without anyone's memory: at the end, on
//! Ctrl-C, or by the next run if this one was killed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{cleanup, wait};

/// The start of every run's id.
pub const PREFIX: &str = "mesos-overlay-";
/// In the directory of a run that outlives its process.
const KEPT: &str = "kept";

/// Something that the test bed does on the machine. Dropping it removes all of it.
#[derive(Debug)]
pub struct Run {
    id: String,
    dir: PathBuf,
    kept: bool,
}

/// Runs of this process that are to be removed when it is interrupted.
static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
/// Held for reading while something is made, for writing (and for ever) once this process is
/// being stopped: nothing is made any more while everything is removed.
static GATE: RwLock<()> = RwLock::new(());

/// To be held while something is made that a run has to remove.
pub fn creation_guard() -> RwLockReadGuard<'static, ()> {
    GATE.read().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    /// A new run, with a directory of its own. The first one of a process removes
    /// what killed runs left behind, and takes care of signals from then on.
    pub fn new() -> Result<Run> {
        static FIRST: Once = Once::new();
        static SIGNALS: OnceLock<Result<(), String>> = OnceLock::new();
        FIRST.call_once(remove_stale);
        if let Err(error) =
            SIGNALS.get_or_init(|| watch_signals().map_err(|error| format!("{error:#}")))
        {
            anyhow::bail!("{error}");
        }
        let _gate = creation_guard();
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = std::process::id();
        let started = start_time(pid).context("this process is not in /proc")?;
        let id = (1..)
            .map(|number| format!("{PREFIX}{pid}-{started}-{number}"))
            .find(|id| !live.contains(id) && !directory(id).exists())
            .expect("numbers do not end");
        let dir = directory(&id);
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        live.insert(id.clone());
        Ok(Run {
            id,
            dir,
            kept: false,
        })
    }

    /// The id; what is made for a part of the run is called `<id>.<part>`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What a part of this run is called where names are the whole machine's.
    pub fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.id)
    }

    /// The directory of the run's files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Leaves everything in place until [`remove_kept`].
    pub fn keep(&mut self) -> Result<()> {
        fs::write(self.dir.join(KEPT), "")?;
        LIVE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
        self.kept = true;
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        remove(&self.id);
        LIVE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

/// Removes the runs that were kept; their ids are returned.
pub fn remove_kept() -> Vec<String> {
    let kept: Vec<String> = cleanup::ids(PREFIX)
        .into_iter()
        .filter(|id| is_kept(id))
        .collect();
    kept.iter().for_each(|id| remove(id));
    kept
}

fn remove(id: &str) {
    for error in cleanup::remove(id, &directory(id)) {
        eprintln!("cleaning up after {id}: {error:#}");
    }
}

fn remove_stale() {
    for id in cleanup::ids(PREFIX) {
        if !is_kept(&id) && !is_alive(&id) {
            eprintln!("removing what a killed run left behind ({id})");
            remove(&id);
        }
    }
}

fn directory(id: &str) -> PathBuf {
    std::env::temp_dir().join(id)
}

fn is_kept(id: &str) -> bool {
    directory(id).join(KEPT).exists()
}

/// Whether the process that the id names still runs. A pid alone would not do: it is given
/// to another process sooner or later.
fn is_alive(id: &str) -> bool {
    let mut parts = id[PREFIX.len()..].split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(started))) = (parts.next(), parts.next()) else {
        return true; // not one of ours, so none of our business
    };
    u32::try_from(pid).ok().and_then(start_time) == Some(started)
}

/// When the process started, in clock ticks since boot; `None`: there is none.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

fn watch_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("catching signals")?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let _for_ever = GATE.write();
                let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
                if !live.is_empty() {
                    eprintln!("\ninterrupted: taking everything down");
                }
                live.iter().for_each(|id| remove(id));
                reap();
                std::process::exit(128 + signal);
            }
        })?;
    Ok(())
}

/// Takes note of the children's ends, so that no zombie is left to an init that may
/// not care for them (in containers it often does not).
fn reap() {
    let _ = wait::until("the children", Duration::from_secs(1), || {
        // An error: there are no more. Some that are not a run's may go on.
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                return Ok(None);
            }
        }
        Ok(Some(()))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_alive_as_long_as_its_process() {
        let pid = std::process::id();
        let started = start_time(pid).unwrap();
        assert!(is_alive(&format!("{PREFIX}{pid}-{started}-1")));
        assert!(!is_alive(&format!("{PREFIX}{pid}-{}-1", started + 1)));
        assert!(is_alive(&format!("{PREFIX}of-someone-else")));
    }

    #[test]
    fn its_directory_goes_with_it() {
        let run = Run::new().unwrap();
        let dir = run.dir().to_owned();
        fs::write(dir.join("file"), "").unwrap();
        drop(run);
        assert!(!dir.exists());
    }
}
