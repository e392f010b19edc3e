//! Waits for news: from the kernel about its network configuration, from the disk
//! about the CNI configurations, from our own side about work.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::{setsockopt, sockopt};

use super::events::events;
use crate::reconcile::{Meaning, Object, Watched};

/// Groups of rtnetlink (`RTNLGRP_*`): links, neighbours (FDB entries too), IPv4
/// addresses, routes and rules, those of IPv6, and the settings of both.
const ROUTE_GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 9, 11, 19, 24];
/// The IPv6 settings, and the nexthop objects; not there in a kernel without them.
const OPTIONAL_GROUPS: [u32; 2] = [25, 32];
/// Changes of nf_tables (`NFNLGRP_NFTABLES`).
const NFT_GROUP: u32 = 7;

/// Receive buffer, bytes: some thousand events. What does not fit is told as
/// lost, and then everything is compared.
const BUFFER: usize = 4 << 20;

/// The most datagrams that are taken from a socket at once, so that a storm does
/// not keep us from everything else.
const AT_ONCE: usize = 20_000;

/// The largest datagram that the kernel sends.
const DATAGRAM: usize = 64 << 10;

/// What a file in the directory of the CNI configurations can undergo.
fn file_events() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

/// Sources of news. What cannot be had of them is left out, with a warning: the
/// host is still looked at regularly.
pub(crate) struct Watch {
    route: Option<Socket>,
    nftables: Option<Socket>,
    files: Option<Inotify>,
    directory: Option<PathBuf>,
    buffer: Vec<u8>,
}

impl Watch {
    /// Of the network namespace of the calling thread.
    pub(crate) fn new() -> Watch {
        let told = |error: io::Error, what: &str| {
            log::warn!("cannot watch {what} ({error}); changes by others are noticed more slowly");
        };
        let route = open_route()
            .map_err(|error| told(error, "the kernel's network configuration"))
            .ok();
        // A kernel may have no nf_tables, and then there is nothing to watch.
        let nftables = open(NETLINK_NETFILTER, &[NFT_GROUP]).ok();
        let files = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let files = files
            .map_err(|error| told(error.into(), "the CNI configurations"))
            .ok();
        Watch {
            route,
            nftables,
            files,
            directory: None,
            buffer: Vec::with_capacity(DATAGRAM),
        }
    }

    /// Without any source.
    #[cfg(test)]
    pub(crate) fn silent() -> Watch {
        Watch {
            route: None,
            nftables: None,
            files: None,
            directory: None,
            buffer: Vec::new(),
        }
    }

    /// Whether the kernel's changes go unnoticed.
    pub(crate) fn is_blind(&self) -> bool {
        self.route.is_none()
    }

    /// Watches this directory too; call it after each pass, since a directory that
    /// was made anew is another one.
    pub(crate) fn watch_directory(&mut self, directory: &Path) {
        let Some(files) = &self.files else { return };
        if directory.as_os_str().is_empty() {
            return;
        }
        if self
            .directory
            .as_deref()
            .is_some_and(|before| before != directory)
        {
            // Start over: one descriptor for each directory is never needed.
            self.files = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
            self.directory = None;
            return self.watch_directory(directory);
        }
        // Watching the same one again changes nothing. One that is not there is
        // found by the next look.
        if files.add_watch(directory, file_events()).is_ok() {
            self.directory = Some(directory.to_owned());
        }
    }

    /// Forgets what happened up to now.
    pub(crate) fn discard(&mut self) {
        self.read_route(None);
        self.read_nftables();
        self.read_files();
    }

    /// Waits until something is readable in `wakeup`, something happened that
    /// means something, or the time is over. `deaf`: the events wait until later.
    ///
    /// # Errors
    /// It is not possible to wait.
    pub(crate) fn wait(
        &mut self,
        wakeup: BorrowedFd<'_>,
        timeout: Duration,
        watched: &Watched,
        deaf: bool,
    ) -> io::Result<Meaning> {
        // Round up, so that nobody is woken a bit too early, again and again.
        let ms = timeout.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
        let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
        let mut sources = vec![PollFd::new(wakeup, PollFlags::POLLIN)];
        if !deaf {
            let sockets = [&self.route, &self.nftables]
                .into_iter()
                .flatten()
                .map(AsFd::as_fd);
            let files = self.files.iter().map(AsFd::as_fd);
            sources.extend(
                sockets
                    .chain(files)
                    .map(|source| PollFd::new(source, PollFlags::POLLIN)),
            );
        }
        match poll(&mut sources, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Meaning::Nothing),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        if deaf {
            return Ok(Meaning::Nothing);
        }
        let route = self.read_route(Some(watched));
        Ok(route.max(self.read_nftables()).max(self.read_files()))
    }

    /// Takes what the kernel said, and gives what all of it means.
    fn read_route(&mut self, watched: Option<&Watched>) -> Meaning {
        let Some(socket) = &self.route else {
            return Meaning::Nothing;
        };
        let mut heard = Heard::default();
        for _ in 0..AT_ONCE {
            self.buffer.clear();
            match (socket.recv(&mut self.buffer, 0), watched) {
                (Ok(_), Some(watched)) => heard.take(watched, &self.buffer),
                (Ok(_), None) => {}
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => break,
                (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => {}
                // Events were lost.
                (Err(_), _) => heard.lost = true,
            }
        }
        heard.meaning()
    }

    fn read_nftables(&mut self) -> Meaning {
        let Some(socket) = &self.nftables else {
            return Meaning::Nothing;
        };
        let mut meaning = Meaning::Nothing;
        for _ in 0..AT_ONCE {
            self.buffer.clear();
            match socket.recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => meaning = Meaning::Look,
            }
        }
        meaning
    }

    fn read_files(&mut self) -> Meaning {
        match self.files.as_ref().map(Inotify::read_events) {
            Some(Ok(events)) if !events.is_empty() => Meaning::Look,
            _ => Meaning::Nothing,
        }
    }
}

/// What the kernel said, as far as it is not overtaken: a device that is being
/// made is not as desired at first.
#[derive(Default)]
struct Heard {
    /// Something that cannot be overtaken.
    lost: bool,
    look: bool,
    /// What is not as desired, so far.
    wrong: BTreeSet<Object>,
}

impl Heard {
    fn take(&mut self, watched: &Watched, datagram: &[u8]) {
        // Beyond what cannot be overtaken nothing need be understood.
        if self.lost {
            return;
        }
        for event in events(datagram) {
            let Some(event) = event else {
                self.lost = true;
                return;
            };
            let meaning = watched.meaning(&event);
            if meaning == Meaning::Pass {
                log::debug!("somebody changed the host: {event:?}");
            }
            match (meaning, event.object()) {
                (Meaning::Look, _) => self.look = true,
                (Meaning::Pass, Some(object)) => _ = self.wrong.insert(object),
                (Meaning::Pass, None) => self.lost = true,
                (Meaning::Nothing, Some(object)) if !self.wrong.is_empty() => {
                    self.wrong.remove(&object);
                }
                (Meaning::Nothing, _) => {}
            }
        }
    }

    fn meaning(&self) -> Meaning {
        match self {
            Heard { lost: true, .. } => Meaning::Pass,
            Heard { wrong, .. } if !wrong.is_empty() => Meaning::Pass,
            Heard { look: true, .. } => Meaning::Look,
            _ => Meaning::Nothing,
        }
    }
}

fn open_route() -> io::Result<Socket> {
    let socket = open(NETLINK_ROUTE, &ROUTE_GROUPS)?;
    for group in OPTIONAL_GROUPS {
        let _ = socket.add_membership(group);
    }
    Ok(socket)
}

/// A socket that hears what is sent to these groups.
fn open(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    socket.set_non_blocking(true)?;
    // Without the right to more the default has to do.
    let descriptor = socket.as_fd();
    if setsockopt(&descriptor, sockopt::RcvBufForce, &BUFFER).is_err() {
        log::debug!(
            "cannot enlarge the buffer for events of socket {}",
            socket.as_raw_fd()
        );
    }
    Ok(socket)
}
