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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use nix::sys::eventfd::EventFd;

    use super::*;
    use crate::kernel::tests::told;
    use crate::reconcile::{NewRoute, Op};
    use overlay_core::host_api::desired::{Desired, Mac, Peer, Vtep};

    const INDEX: u32 = 7;

    fn mac(n: u8) -> Mac {
        Mac([0x70, 0xb3, 0xd5, 0x80, 0, n])
    }

    /// Agent 1 with agents 2 and 3.
    fn watched() -> Watched {
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
        let peers = Some([peer(2), peer(3)].into());
        let desired = Desired {
            vtep: Some(vtep),
            peers,
            ..Desired::default()
        };
        Watched::new(&desired, Some(INDEX), None, &[], None)
    }

    /// What somebody did to a neighbour and to a route.
    fn neighbour(of: u8, as_of: u8) -> Vec<u8> {
        told(
            &Op::SetNeighbour("vtep1024".into(), [44, 128, 0, of].into(), mac(as_of)),
            INDEX,
        )
    }

    fn route(to: u8, via: u8) -> Vec<u8> {
        let dst = format!("9.0.{to}.0/24").parse().unwrap();
        let via = [44, 128, 0, via].into();
        told(
            &Op::SetRoute(
                "vtep1024".into(),
                NewRoute {
                    table: 254,
                    dst,
                    via,
                    nexthop: None,
                },
            ),
            INDEX,
        )
    }

    /// A switch that somebody turned, and something that nobody understands.
    fn message(kind: u16) -> Vec<u8> {
        [&16_u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat()
    }

    fn meaning(datagrams: &[Vec<u8>]) -> Meaning {
        let (watched, mut heard) = (watched(), Heard::default());
        datagrams
            .iter()
            .for_each(|datagram| heard.take(&watched, datagram));
        let one_by_one = heard.meaning();
        let mut heard = Heard::default();
        heard.take(&watched, &datagrams.concat());
        assert_eq!(heard.meaning(), one_by_one, "in one datagram");
        one_by_one
    }

    #[test]
    fn what_is_right_again_means_nothing() {
        let (right, wrong) = (neighbour(2, 2), neighbour(2, 9));
        assert_eq!(meaning(&[]), Meaning::Nothing);
        assert_eq!(meaning(std::slice::from_ref(&right)), Meaning::Nothing);
        assert_eq!(meaning(std::slice::from_ref(&wrong)), Meaning::Pass);
        assert_eq!(meaning(&[wrong.clone(), right.clone()]), Meaning::Nothing);
        assert_eq!(meaning(&[right.clone(), wrong.clone()]), Meaning::Pass);
        assert_eq!(
            meaning(&[wrong.clone(), right.clone(), wrong.clone()]),
            Meaning::Pass
        );
        // Another one that is right says nothing of it.
        assert_eq!(meaning(&[wrong.clone(), neighbour(3, 3)]), Meaning::Pass);
        assert_eq!(meaning(&[wrong, neighbour(3, 9), right]), Meaning::Pass);
    }

    /// Of one destination there can be several routes.
    #[test]
    fn a_route_that_is_wrong_is_not_made_right_by_another_one() {
        assert_eq!(meaning(&[route(2, 2)]), Meaning::Nothing);
        assert_eq!(meaning(&[route(2, 3)]), Meaning::Pass);
        assert_eq!(meaning(&[route(2, 3), route(2, 2)]), Meaning::Pass);
    }

    #[test]
    fn what_is_not_understood_needs_a_pass_whatever_comes_after_it() {
        const LINK: u16 = 16;
        assert_eq!(meaning(&[message(LINK)]), Meaning::Pass);
        assert_eq!(meaning(&[message(LINK), neighbour(2, 2)]), Meaning::Pass);
        assert_eq!(meaning(&[neighbour(2, 2), message(LINK)]), Meaning::Pass);
        assert_eq!(
            meaning(&[message(200)]),
            Meaning::Nothing,
            "something of a later kernel"
        );
    }

    #[test]
    fn a_switch_is_looked_at_and_takes_nothing_from_the_rest() {
        const SETTING: u16 = 80;
        assert_eq!(meaning(&[message(SETTING)]), Meaning::Look);
        assert_eq!(meaning(&[message(SETTING), neighbour(2, 9)]), Meaning::Pass);
        assert_eq!(meaning(&[neighbour(2, 9), message(SETTING)]), Meaning::Pass);
        assert_eq!(
            meaning(&[neighbour(2, 9), message(SETTING), neighbour(2, 2)]),
            Meaning::Look
        );
    }

    /// Sources of the disk alone.
    fn files() -> Watch {
        let files = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
        Watch {
            files: Some(files),
            ..Watch::silent()
        }
    }

    fn hear(watch: &mut Watch, wakeup: &EventFd, deaf: bool) -> Meaning {
        watch
            .wait(wakeup.as_fd(), Duration::ZERO, &Watched::default(), deaf)
            .unwrap()
    }

    #[test]
    fn files_that_come_change_and_go_are_looked_at() {
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
            assert_eq!(hear(&mut watch, &wakeup, false), Meaning::Nothing);
            change();
            // It waits for whoever wants to hear it, and is heard once.
            assert_eq!(hear(&mut watch, &wakeup, true), Meaning::Nothing);
            assert_eq!(hear(&mut watch, &wakeup, false), Meaning::Look);
            // What a pass will see is no news.
            watch.watch_directory(dir.path());
            change_nothing(&mut watch, &dir);
        }
        // With another directory the former one is none of our business.
        watch.watch_directory(other.path());
        fs::write(&file, "one").unwrap();
        assert_eq!(hear(&mut watch, &wakeup, false), Meaning::Nothing);
        fs::write(other.path().join("dcos.conf"), "one").unwrap();
        assert_eq!(hear(&mut watch, &wakeup, false), Meaning::Look);
        assert!(watch.is_blind(), "the kernel's changes are others");
    }

    fn change_nothing(watch: &mut Watch, dir: &tempfile::TempDir) {
        fs::write(dir.path().join("foreign"), "").unwrap();
        watch.discard();
        fs::read(dir.path().join("foreign")).unwrap();
    }

    #[test]
    fn an_order_ends_the_wait_and_means_nothing_by_itself() {
        let (mut watch, wakeup) = (files(), EventFd::new().unwrap());
        wakeup.write(1).unwrap();
        for deaf in [true, false] {
            let meaning = watch.wait(wakeup.as_fd(), Duration::MAX, &Watched::default(), deaf);
            assert_eq!(meaning.unwrap(), Meaning::Nothing);
        }
    }
}
