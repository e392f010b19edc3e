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
use crate::reconcile::{Clue, ExpectedState, Object, Reaction};

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
const MAX_DATAGRAMS: usize = 20_000;

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
    /// Parts of the host that events pointed to since they were last taken.
    clues: BTreeSet<Clue>,
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
            clues: BTreeSet::new(),
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
            clues: BTreeSet::new(),
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
        self.clues.clear();
    }

    /// Returns the parts of the host that events pointed to, once.
    pub(crate) fn take_clues(&mut self) -> BTreeSet<Clue> {
        std::mem::take(&mut self.clues)
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
        for _ in 0..MAX_DATAGRAMS {
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
        self.clues.append(&mut differences.clues);
        differences.reaction()
    }

    fn read_nftables(&mut self) -> Reaction {
        let Some(socket) = &self.nftables else {
            return Reaction::Ignore;
        };
        let mut reaction = Reaction::Ignore;
        for _ in 0..MAX_DATAGRAMS {
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
    clues: BTreeSet<Clue>,
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
            self.clues.extend(expected.clue(&event));
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use nix::sys::eventfd::EventFd;

    use super::*;
    use crate::kernel::tests::sent_by_kernel;
    use crate::reconcile::{NewRoute, Op};
    use overlay_core::host_api::desired::{Desired, Mac, Overlay, Peer, Vtep};

    const INDEX: u32 = 7;

    fn mac(n: u8) -> Mac {
        Mac([0x70, 0xb3, 0xd5, 0x80, 0, n])
    }

    /// Agent 1 with agents 2 and 3.
    fn expected() -> ExpectedState {
        let peer = |n: u8| {
            let peer = Peer {
                vtep_ips: vec![[44, 128, 0, n].into()],
                vtep_mac: mac(n),
                subnets: vec![format!("9.0.{n}.0/24").parse().unwrap()],
            };
            ([10, 0, 0, n].into(), Arc::new(peer))
        };
        let addresses = vec!["44.128.0.1/20".parse().unwrap()];
        let vtep = Vtep {
            name: "vtep1024".into(),
            vni: 1024,
            mac: mac(1),
            addresses,
            mtu: None,
        };
        let peers = Some(Arc::new([peer(2), peer(3)].into()));
        let dcos = Overlay {
            ranges: vec!["9.0.0.0/8".parse().unwrap()],
            ..Overlay::default()
        };
        let desired = Desired {
            vtep: Some(vtep),
            overlays: [("dcos".to_owned(), dcos)].into(),
            peers,
            ..Desired::default()
        };
        ExpectedState::new(&desired, Some(INDEX), None, &[], &Default::default(), None)
    }

    /// Event about a neighbour with this agent's address and that agent's hardware address.
    fn neighbour(of: u8, as_of: u8) -> Vec<u8> {
        sent_by_kernel(
            &Op::SetNeighbour("vtep1024".into(), [44, 128, 0, of].into(), mac(as_of)),
            INDEX,
        )
    }

    /// Event about a route.
    fn route(to: u8, via: u8) -> Vec<u8> {
        let dst = format!("9.0.{to}.0/24").parse().unwrap();
        let via = [44, 128, 0, via].into();
        sent_by_kernel(
            &Op::SetRoute(
                "vtep1024".into(),
                NewRoute {
                    table: 254,
                    dst,
                    via,
                    nexthop: None,
                    replaces: false,
                },
            ),
            INDEX,
        )
    }

    /// Message of this type without content.
    fn message(kind: u16) -> Vec<u8> {
        [&16_u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat()
    }

    fn reaction(datagrams: &[Vec<u8>]) -> Reaction {
        let (expected, mut differences) = (expected(), Differences::default());
        datagrams
            .iter()
            .for_each(|datagram| differences.add(&expected, datagram));
        let one_by_one = differences.reaction();
        let mut differences = Differences::default();
        differences.add(&expected, &datagrams.concat());
        assert_eq!(differences.reaction(), one_by_one, "in one datagram");
        one_by_one
    }

    #[test]
    fn a_difference_that_was_undone_is_ignored() {
        let (right, wrong) = (neighbour(2, 2), neighbour(2, 9));
        assert_eq!(reaction(&[]), Reaction::Ignore);
        assert_eq!(reaction(std::slice::from_ref(&right)), Reaction::Ignore);
        assert_eq!(reaction(std::slice::from_ref(&wrong)), Reaction::Reconcile);
        assert_eq!(reaction(&[wrong.clone(), right.clone()]), Reaction::Ignore);
        assert_eq!(
            reaction(&[right.clone(), wrong.clone()]),
            Reaction::Reconcile
        );
        assert_eq!(
            reaction(&[wrong.clone(), right.clone(), wrong.clone()]),
            Reaction::Reconcile
        );
        // Another object does not matter.
        assert_eq!(
            reaction(&[wrong.clone(), neighbour(3, 3)]),
            Reaction::Reconcile
        );
        assert_eq!(
            reaction(&[wrong, neighbour(3, 9), right]),
            Reaction::Reconcile
        );
    }

    /// Several routes can have the same destination.
    #[test]
    fn a_wrong_route_is_not_undone_by_a_right_one() {
        assert_eq!(reaction(&[route(2, 2)]), Reaction::Ignore);
        assert_eq!(reaction(&[route(2, 3)]), Reaction::Reconcile);
        assert_eq!(reaction(&[route(2, 3), route(2, 2)]), Reaction::Reconcile);
    }

    #[test]
    fn an_unreadable_message_needs_a_reconciliation() {
        const LINK: u16 = 16;
        assert_eq!(reaction(&[message(LINK)]), Reaction::Reconcile);
        assert_eq!(
            reaction(&[message(LINK), neighbour(2, 2)]),
            Reaction::Reconcile
        );
        assert_eq!(
            reaction(&[neighbour(2, 2), message(LINK)]),
            Reaction::Reconcile
        );
        assert_eq!(
            reaction(&[message(200)]),
            Reaction::Ignore,
            "a message of a later kernel"
        );
    }

    #[test]
    fn a_setting_needs_a_quick_check_besides_other_reactions() {
        const SETTING: u16 = 80;
        assert_eq!(reaction(&[message(SETTING)]), Reaction::QuickCheck);
        assert_eq!(
            reaction(&[message(SETTING), neighbour(2, 9)]),
            Reaction::Reconcile
        );
        assert_eq!(
            reaction(&[neighbour(2, 9), message(SETTING)]),
            Reaction::Reconcile
        );
        assert_eq!(
            reaction(&[neighbour(2, 9), message(SETTING), neighbour(2, 2)]),
            Reaction::QuickCheck
        );
    }

    /// A watch of files only.
    fn files() -> Watch {
        let files = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        Watch {
            files: Some(files),
            ..Watch::silent()
        }
    }

    fn hear(watch: &mut Watch, wakeup: &EventFd, wait_for: WaitFor) -> Reaction {
        watch
            .wait(
                wakeup.as_fd(),
                Duration::ZERO,
                &ExpectedState::default(),
                wait_for,
            )
            .unwrap()
    }

    #[test]
    fn changed_files_need_a_quick_check() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (mut watch, wakeup) = (files(), EventFd::new().unwrap());
        watch.watch_directory(dir.path());
        let file = dir.path().join("dcos.conf");
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(&file, "one").unwrap(),
            &|| fs::write(&file, "two").unwrap(),
            &|| fs::rename(&file, dir.path().join("other")).unwrap(),
            &|| fs::remove_file(dir.path().join("other")).unwrap(),
        ];
        for change in changes {
            assert_eq!(hear(&mut watch, &wakeup, WaitFor::Events), Reaction::Ignore);
            change();
            // The event stays queued until somebody reads it, once.
            assert_eq!(hear(&mut watch, &wakeup, WaitFor::Wakeup), Reaction::Ignore);
            assert_eq!(
                hear(&mut watch, &wakeup, WaitFor::Events),
                Reaction::QuickCheck
            );
            // Discarded events have no effect.
            watch.watch_directory(dir.path());
            discard_change(&mut watch, &dir);
        }
        // Only the newest directory is watched.
        watch.watch_directory(other.path());
        fs::write(&file, "one").unwrap();
        assert_eq!(hear(&mut watch, &wakeup, WaitFor::Events), Reaction::Ignore);
        fs::write(other.path().join("dcos.conf"), "one").unwrap();
        assert_eq!(
            hear(&mut watch, &wakeup, WaitFor::Events),
            Reaction::QuickCheck
        );
        assert!(watch.is_without_events(), "no events of the kernel");
    }

    fn discard_change(watch: &mut Watch, dir: &tempfile::TempDir) {
        fs::write(dir.path().join("foreign"), "").unwrap();
        watch.discard();
        fs::read(dir.path().join("foreign")).unwrap();
    }

    #[test]
    fn a_wakeup_ends_the_wait_without_a_reaction() {
        let (mut watch, wakeup) = (files(), EventFd::new().unwrap());
        wakeup.write(1).unwrap();
        for wait_for in [WaitFor::Wakeup, WaitFor::Events] {
            let reaction = watch.wait(
                wakeup.as_fd(),
                Duration::MAX,
                &ExpectedState::default(),
                wait_for,
            );
            assert_eq!(reaction.unwrap(), Reaction::Ignore);
        }
    }
}
