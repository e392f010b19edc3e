//! Thread that looks up host names of agents.

use std::net::IpAddr;
use std::sync::mpsc::{self, Sender, SyncSender};

use super::{Message, spawn};
use crate::output::Failure;
use crate::resolve;

/// Queue of host names.
#[derive(Debug)]
pub struct Names(Sender<String>);

impl Names {
    /// Asks for the address of a host name, which is told to the table.
    pub fn ask(&self, name: String) {
        // The thread ends with the table.
        let _ = self.0.send(name);
    }
}

/// Starts the thread.
///
/// # Errors
/// The system has no room for it.
pub fn start(table: SyncSender<Message>) -> Result<Names, Failure> {
    let (names, wanted) = mpsc::channel::<String>();
    spawn("dns-names", move || {
        for name in wanted {
            let found = resolve::addresses(&name).unwrap_or_default();
            let ip = found.iter().find(|ip| ip.is_ipv4()).or(found.first());
            let ip: Option<IpAddr> = ip.copied();
            if table.send(Message::Resolved(name, ip)).is_err() {
                return;
            }
        }
    })?;
    Ok(Names(names))
}
