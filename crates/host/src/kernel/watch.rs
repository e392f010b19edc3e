//! Events of the host: of the kernel's network configuration, of nf_tables, and of the
//! directory of the CNI configurations.

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
use crate::reconcile::{ExpectedState, Object, Reaction};

/// Multicast groups of rtnetlink (`RTNLGRP_*`): links, neighbours (with FDB entries), IPv4
/// addresses, routes and rules, those of IPv6, and the settings of both families.
const ROUTE_GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 9, 11, 19, 24];
/// Groups that not every kernel has: IPv6 settings and nexthop objects.
const OPTIONAL_GROUPS: [u32; 2] = [25, 32];
/// Multicast group of nf_tables (`NFNLGRP_NFTABLES`).
const NFT_GROUP: u32 = 7;

/// Size of the receive buffer in bytes: room for some thousand events. If more come, the
/// kernel reports a loss, and everything is compared.
const BUFFER: usize = 4 << 20;

/// Upper bound of datagrams that are read from a socket at once, so that a storm of events
/// does not block everything else.
const AT_ONCE: usize = 20_000;

/// Size of the largest datagram that the kernel sends, in bytes.
const DATAGRAM: usize = 64 << 10;

/// Returns the kinds of changes in the directory of the CNI configurations.
fn file_events() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

/// Part of the events that a wait reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// Events of the host and the wakeup.
    Events,
    /// Only the wakeup; events stay queued.
    Wakeup,
}

/// Sources of events. A source that cannot be opened is left out with a warning: changes are
/// then found by the regular checks.
pub(crate) struct Watch {
    route: Option<Socket>,
    nftables: Option<Socket>,
    files: Option<Inotify>,
    directory: Option<PathBuf>,
    buffer: Vec<u8>,
}

impl Watch {
    /// Opens all sources, in the network namespace of the calling thread.
    pub(crate) fn new() -> Watch {
        let warn = |error: io::Error, what: &str| {
            log::warn!("cannot watch {what} ({error}); changes by others will be noticed later");
        };
        let route = open_route()
            .map_err(|error| warn(error, "the kernel's network configuration"))
            .ok();
        // A kernel without nf_tables has no such events.
        let nftables = open(NETLINK_NETFILTER, &[NFT_GROUP]).ok();
        let files = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let files = files
            .map_err(|error| warn(error.into(), "the CNI configurations"))
            .ok();
        Watch {
            route,
            nftables,
            files,
            directory: None,
            buffer: Vec::with_capacity(DATAGRAM),
        }
    }

    /// Returns a watch without any source.
    pub(crate) fn silent() -> Watch {
        Watch {
            route: None,
            nftables: None,
            files: None,
            directory: None,
            buffer: Vec::new(),
        }
    }

    /// Returns whether there are no events of the kernel's network configuration.
    pub(crate) fn is_without_events(&self) -> bool {
        self.route.is_none()
    }

    /// Adds a directory. Call it after each reconciliation: a directory that was removed and
    /// created is another one.
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
            // Nobody needs the events of the former directory.
            self.files = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok();
            self.directory = None;
            return self.watch_directory(directory);
        }
        // Adding a directory twice changes nothing. A directory that does not exist is found
        // by a quick check later.
        if files.add_watch(directory, file_events()).is_ok() {
            self.directory = Some(directory.to_owned());
        }
    }

    /// Discards all queued events.
    pub(crate) fn discard(&mut self) {
        self.read_route(None);
        self.read_nftables();
        self.read_files();
    }

    /// Waits until `wakeup` is readable, events came, or the time is over. Returns the
    /// strongest reaction that the events ask for.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub(crate) fn wait(
        &mut self,
        wakeup: BorrowedFd<'_>,
        timeout: Duration,
        expected: &ExpectedState,
        wait_for: WaitFor,
    ) -> io::Result<Reaction> {
        // Rounding up avoids a series of wakeups right before the time.
        let ms = timeout.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
        let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
        let mut sources = vec![PollFd::new(wakeup, PollFlags::POLLIN)];
        if wait_for == WaitFor::Events {
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
            Ok(0) | Err(Errno::EINTR) => return Ok(Reaction::Ignore),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        if wait_for == WaitFor::Wakeup {
            return Ok(Reaction::Ignore);
        }
        let route = self.read_route(Some(expected));
        Ok(route.max(self.read_nftables()).max(self.read_files()))
    }

    /// Reads the events of the kernel's network configuration. Without an expected state
    /// they are discarded.
    fn read_route(&mut self, expected: Option<&ExpectedState>) -> Reaction {
        let Some(socket) = &self.route else {
            return Reaction::Ignore;
        };
        let mut differences = Differences::default();
        for _ in 0..AT_ONCE {
            self.buffer.clear();
            match (socket.recv(&mut self.buffer, 0), expected) {
                (Ok(_), Some(expected)) => differences.add(expected, &self.buffer),
                (Ok(_), None) => {}
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => break,
                (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => {}
                // Events were lost.
                (Err(_), _) => differences.needs_reconciliation = true,
            }
        }
        differences.reaction()
    }

    fn read_nftables(&mut self) -> Reaction {
        let Some(socket) = &self.nftables else {
            return Reaction::Ignore;
        };
        let mut reaction = Reaction::Ignore;
        for _ in 0..AT_ONCE {
            self.buffer.clear();
            match socket.recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => reaction = Reaction::QuickCheck,
            }
        }
        reaction
    }

    fn read_files(&mut self) -> Reaction {
        match self.files.as_ref().map(Inotify::read_events) {
            Some(Ok(events)) if !events.is_empty() => Reaction::QuickCheck,
            _ => Reaction::Ignore,
        }
    }
}

/// Differences that a series of events leaves behind. A later event about the same object
/// replaces an earlier one: a device that is being created differs at first.
#[derive(Default)]
struct Differences {
    /// A difference that later events cannot undo, or a loss of events.
    needs_reconciliation: bool,
    needs_quick_check: bool,
    /// Objects that differ after the events so far.
    objects: BTreeSet<Object>,
}

impl Differences {
    /// Adds the events of a datagram.
    fn add(&mut self, expected: &ExpectedState, datagram: &[u8]) {
        if self.needs_reconciliation {
            return;
        }
        for event in events(datagram) {
            let Some(event) = event else {
                self.needs_reconciliation = true;
                return;
            };
            let reaction = expected.reaction(&event);
            if reaction == Reaction::Reconcile {
                log::debug!("somebody changed the host: {event:?}");
            }
            match (reaction, event.object()) {
                (Reaction::QuickCheck, _) => self.needs_quick_check = true,
                (Reaction::Reconcile, Some(object)) => _ = self.objects.insert(object),
                (Reaction::Reconcile, None) => self.needs_reconciliation = true,
                (Reaction::Ignore, Some(object)) => _ = self.objects.remove(&object),
                (Reaction::Ignore, None) => {}
            }
        }
    }

    fn reaction(&self) -> Reaction {
        if self.needs_reconciliation || !self.objects.is_empty() {
            Reaction::Reconcile
        } else if self.needs_quick_check {
            Reaction::QuickCheck
        } else {
            Reaction::Ignore
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

/// Opens a socket that receives the events of these groups.
fn open(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    socket.set_non_blocking(true)?;
    // Without the privilege for it the default size remains.
    let descriptor = socket.as_fd();
    if setsockopt(&descriptor, sockopt::RcvBufForce, &BUFFER).is_err() {
        log::debug!(
            "cannot enlarge the receive buffer of socket {}",
            socket.as_raw_fd()
        );
    }
    Ok(socket)
}
