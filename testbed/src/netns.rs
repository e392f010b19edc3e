//! Network namespaces by their file: threads, child processes and sockets in them.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};

/// An open network namespace. Clones refer to the same namespace.
#[derive(Clone, Debug)]
pub struct Netns(Arc<File>);

impl Netns {
    /// Opens the namespace behind a file: `/run/netns/<name>` or `/proc/<pid>/ns/net`.
    pub fn open(path: &Path) -> Result<Netns> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Netns(Arc::new(file)))
    }

    /// Moves the calling thread into the namespace, permanently.
    pub fn enter(&self) -> nix::Result<()> {
        setns(self.as_fd(), CloneFlags::CLONE_NEWNET)
    }

    /// Calls `f` on a thread in the namespace. Sockets that `f` makes belong to the
    /// namespace, wherever they are used later.
    pub fn within<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter()
                    .context("entering a network namespace")
                    .map(|()| f())
            });
            inside
                .join()
                .map_err(|_| anyhow!("a thread in a network namespace panicked"))?
        })
    }

    /// Makes a command run in the namespace. Only its network changes: `ip netns exec` would
    /// remount /sys as well, and hide the cgroups.
    pub fn apply_to(&self, command: &mut Command) {
        let netns = self.clone();
        // SAFETY: between fork and exec only setns(2) is called, which is async-signal-safe.
        unsafe { command.pre_exec(move || netns.enter().map_err(io::Error::from)) };
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens a TCP connection from a namespace; `None`: from this process's own. `limit` is the
/// timeout of connecting and of each read.
pub fn connect(from: Option<&Netns>, to: SocketAddr, limit: Duration) -> Result<TcpStream> {
    let connect = || TcpStream::connect_timeout(&to, limit);
    let stream = match from {
        Some(netns) => netns.within(connect)?,
        None => connect(),
    };
    let stream = stream.with_context(|| format!("connecting to {to}"))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
