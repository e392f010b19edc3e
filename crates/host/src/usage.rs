//! Addresses that the CNI plugin `host-local` has given to Mesos's containers.
//!
//! The plugin keeps one file for each address, named after it, in a directory named after
//! the network. A thread of its own counts them every few seconds: a hanging disk must hold
//! up neither Mesos nor the reconciliation of the host.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use overlay_core::host_api::desired::{Desired, Overlay};
use overlay_core::host_api::usage::InUse;
use overlay_core::util::line::list_first;

use crate::files::exposure;
use crate::panics::catch;
use crate::progress;
use crate::supervisor::{self, Control, Received, Report, Supervisor};

pub mod reserved;

use reserved::{Containers, DATA_DIR, GivenBack, Reserved, State, give_back, reserved};

/// Addresses in use by overlay. An overlay whose files cannot be read is absent.
type Usage = BTreeMap<String, InUse>;

/// Time from one count to the next.
const INTERVAL: Duration = Duration::from_secs(2);

/// A thread that counts the addresses in use now and then.
pub struct Sampler {
    supervisor: Supervisor<Usage, EventFd>,
}

impl Report for Usage {
    type Desired = Desired;

    const TASK: &'static str = "count the addresses in use";

    /// Returns that nothing is known.
    fn failed(_: &Desired, _: String) -> Usage {
        Usage::new()
    }

    fn set_generation(&mut self, _: u64) {}

    fn operations(&self) -> usize {
        0
    }

    fn says_the_same_as(&self, other: &Usage) -> bool {
        self == other
    }
}

impl Sampler {
    /// Starts the thread. It calls `wake` whenever there is something to
    /// [`poll`](Sampler::poll); `wake` must not wait for the thread that drops the sampler.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(wake: impl Fn() + Send + 'static) -> io::Result<Sampler> {
        let signal = supervisor::poll_signal;
        let supervisor = Supervisor::spawn("overlay-usage", signal, wake, keep_counting)?;
        Ok(Sampler { supervisor })
    }

    /// Requests counts for the networks of `desired` from now on. The first count after this
    /// is reported in any case, later ones if they differ. Returns at once.
    pub fn watch(&self, desired: Arc<Desired>) {
        self.supervisor.apply(0, desired);
    }

    /// Returns the latest count, once.
    pub fn poll(&self) -> Option<Usage> {
        self.supervisor.poll()
    }

    /// Has another thread take over if the present one hangs or has ended. Call it again after
    /// the returned time.
    pub fn look_after(&mut self) -> Duration {
        self.supervisor.look_after()
    }

    /// Orders the thread to end, without waiting for it.
    pub fn stop(&mut self) {
        self.supervisor.stop();
    }
}

/// Counts until the sampler is dropped.
fn keep_counting(control: &mut Control<Usage, EventFd>) -> io::Result<()> {
    let mut warning = None;
    while control.receive() != Received::Stop {
        if let Some(desired) = control.desired() {
            warn_of_exposure(desired, &mut warning);
            let usage = catch(|| sample(desired))
                .unwrap_or_else(|panic| supervisor::failed(&**desired, &panic));
            publish(control, usage);
        }
        let (interval, timeout) = match control.desired() {
            Some(_) => (Some(INTERVAL), PollTimeout::try_from(INTERVAL)),
            None => (None, Ok(PollTimeout::NONE)),
        };
        progress::wait(interval);
        let signal = control.signal().as_fd();
        // An interrupted wait leads to an early count.
        let _ = poll(
            &mut [PollFd::new(signal, PollFlags::POLLIN)],
            timeout.unwrap_or(PollTimeout::MAX),
        );
    }
    Ok(())
}

/// Warns once if others can write to the directory. `warning` is the one before.
fn warn_of_exposure(desired: &Desired, warning: &mut Option<String>) {
    let danger = "have the plugin host-local give out addresses that are in use";
    let dir = data_dir(desired);
    progress::step(format!("look at the permissions of {}", dir.display()));
    let found = exposure("cni_data_dir", dir, danger);
    if let Some(line) = found
        .as_ref()
        .filter(|line| warning.as_ref() != Some(*line))
    {
        log::warn!("{line}");
    }
    *warning = found;
}

/// Publishes a count, unless it is for networks that are out of date meanwhile.
fn publish(control: &mut Control<Usage, EventFd>, usage: Usage) {
    if !control.is_superseded() {
        control.publish(usage);
    }
}

/// Returns the directory of the plugin's files.
fn data_dir(desired: &Desired) -> &Path {
    let configured = desired.cni.data_dir.as_deref();
    configured.unwrap_or(Path::new(DATA_DIR))
}

/// Counts the addresses of Mesos's containers, and gives back those whose containers cannot exist.
pub(crate) fn sample(desired: &Desired) -> Usage {
    let data_dir = data_dir(desired);
    let containers = Containers::of_host().inspect_err(|error| {
        log::debug!("it is not known which containers there are: {error}");
    });
    let count = |(name, overlay): (&String, &Overlay)| {
        let bridge = overlay.mesos_bridge.as_ref()?;
        let dir = data_dir.join(name);
        progress::step(format!("count the addresses in {}", dir.display()));
        let in_use = in_use(&dir, &bridge.subnets, containers.as_ref().ok()).inspect_err(|error| {
            log::debug!("cannot count the addresses in {}: {error}", dir.display());
        });
        Some((name.clone(), in_use.ok()?))
    };
    desired.overlays.iter().filter_map(count).collect()
}

/// Counts the addresses of these prefixes that are reserved in a directory, and gives the stale
/// ones back.
fn in_use(dir: &Path, subnets: &[IpNet], containers: Option<&Containers>) -> io::Result<InUse> {
    let now = SystemTime::now();
    let mut reserved = reserved(dir, subnets)?;
    let state = |reserved: &Reserved| {
        containers.map_or(State::InUse, |containers| reserved.state(containers, now))
    };
    let stale: Vec<_> = reserved
        .iter()
        .filter(|reserved| state(reserved) == State::Stale)
        .cloned()
        .collect();
    let given = give_stale_back(dir, &stale);
    reserved.retain(|reserved| !given.contains(&reserved.ip));
    let leaked = reserved
        .iter()
        .filter(|reserved| state(reserved) != State::InUse);
    Ok(InUse {
        leaked: leaked.count() as u64,
        ..InUse::count(reserved.iter().map(|reserved| reserved.ip))
    })
}

fn give_stale_back(dir: &Path, stale: &[Reserved]) -> Vec<IpAddr> {
    if stale.is_empty() {
        return Vec::new();
    }
    let GivenBack {
        addresses: given,
        error,
    } = give_back(dir, stale, |_| true).unwrap_or_else(|error| GivenBack {
        error: Some(error),
        ..GivenBack::default()
    });
    if let Some(error) = error {
        log::debug!("cannot give addresses back in {}: {error}", dir.display());
    }
    if !given.is_empty() {
        let addresses: Vec<_> = given.iter().map(ToString::to_string).collect();
        log::info!(
            "gave back addresses in {} that containers had before the host was restarted: {}",
            dir.display(),
            list_first(&addresses, 10)
        );
    }
    given
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

    use super::*;
    use overlay_core::host_api::desired::{Bridge, Cni};

    const PATIENCE: Duration = Duration::from_secs(10);

    fn desired(data_dir: &Path) -> Desired {
        let subnets = ["9.0.0.0/25", "fd01:b::/81"]
            .map(|subnet| subnet.parse().unwrap())
            .to_vec();
        let mesos_bridge = Some(Bridge {
            name: "m-dcos".into(),
            subnets,
        });
        let dcos = Overlay {
            mesos_bridge,
            ..Overlay::default()
        };
        Desired {
            cni: Cni {
                dir: "/cni".into(),
                data_dir: Some(data_dir.into()),
                file_prefix: String::new(),
            },
            overlays: [
                ("dcos".to_owned(), dcos),
                ("docker".to_owned(), Overlay::default()),
            ]
            .into(),
            ..Desired::default()
        }
    }

    fn dcos(v4: u64, v6: u64) -> Usage {
        [("dcos".to_owned(), InUse { v4, v6, leaked: 0 })].into()
    }

    #[test]
    fn counts_addresses_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            sample(&desired(dir.path())),
            dcos(0, 0),
            "before the first container"
        );
        let files = [
            "9.0.0.2",
            "9.0.0.17",
            "fd01:b::2",
            "lock",
            "last_reserved_ip.0",
            "last_reserved_ip.1",
            "9.0.0.130",
            "9.7.0.2",
            "fd01:b:0:1::2",
        ];
        fs::create_dir(dir.path().join("dcos")).unwrap();
        for file in files {
            fs::write(dir.path().join("dcos").join(file), "container").unwrap();
        }
        assert_eq!(sample(&desired(dir.path())), dcos(2, 1));
    }

    #[test]
    fn addresses_from_before_a_restart_are_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let network = dir.path().join("dcos");
        fs::create_dir(&network).unwrap();
        let write = |name: &str, modified: SystemTime| {
            let path = network.join(name);
            fs::write(&path, "gone\r\neth0").unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(modified).unwrap();
        };
        let long_ago = SystemTime::UNIX_EPOCH;
        let booted = Containers::of_host().unwrap().booted.unwrap();
        for number in 2..127 {
            write(&format!("9.0.0.{number}"), long_ago);
        }
        write("9.0.0.130", long_ago); // of another bridge
        write("9.0.0.7", SystemTime::now());
        write("9.0.0.8", booted);
        let mut expected = dcos(2, 0);
        if booted + Duration::from_secs(60) < SystemTime::now() {
            expected.get_mut("dcos").unwrap().leaked = 1;
        }
        assert_eq!(sample(&desired(dir.path())), expected);
        let mut left: Vec<_> = fs::read_dir(&network)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        // The last one is what the plugin locks, too.
        assert_eq!(left, ["9.0.0.130", "9.0.0.7", "9.0.0.8", "lock"]);
    }

    #[test]
    fn an_unreadable_directory_is_unknown_and_not_zero() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dcos"), "a file").unwrap();
        assert!(sample(&desired(dir.path())).is_empty());
    }

    #[test]
    fn a_directory_that_others_can_write_is_one_warning() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let mut warning = None;
        warn_of_exposure(&desired(dir.path()), &mut warning);
        assert_eq!(warning, None);
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
        warn_of_exposure(&desired(dir.path()), &mut warning);
        let line = warning.clone().unwrap();
        assert!(line.starts_with("cni_data_dir "), "{line}");
        assert!(line.contains("can be written by all users"), "{line}");
        warn_of_exposure(&desired(dir.path()), &mut warning);
        assert_eq!(warning, Some(line));
    }

    fn sampler() -> (Sampler, Receiver<()>) {
        let (wake, woken) = channel();
        (
            Sampler::spawn(move || wake.send(()).unwrap()).unwrap(),
            woken,
        )
    }

    #[test]
    fn reports_the_first_count_and_then_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (sampler, woken) = sampler();
        assert_eq!(sampler.poll(), None);
        let desired = Arc::new(desired(dir.path()));
        // A new request is answered although the count is the same.
        for _ in 0..2 {
            sampler.watch(desired.clone());
            woken.recv_timeout(PATIENCE).unwrap();
            assert_eq!(sampler.poll(), Some(dcos(0, 0)));
            assert_eq!(sampler.poll(), None);
        }
        fs::create_dir(dir.path().join("dcos")).unwrap();
        fs::write(dir.path().join("dcos/9.0.0.2"), "container").unwrap();
        woken.recv_timeout(PATIENCE).unwrap();
        assert_eq!(sampler.poll(), Some(dcos(1, 0)));
        let again = woken.recv_timeout(INTERVAL + INTERVAL / 2);
        assert_eq!(again, Err(RecvTimeoutError::Timeout), "nothing changed");
    }

    #[test]
    fn dropping_ends_the_thread_at_once() {
        let (sampler, woken) = sampler();
        drop(sampler);
        assert_eq!(
            woken.recv_timeout(PATIENCE),
            Err(RecvTimeoutError::Disconnected)
        );
    }

    #[test]
    fn only_counts_for_the_newest_request_are_reported() {
        let signal = supervisor::poll_signal().unwrap();
        let (supervisor, mut control) = Supervisor::without_thread(signal, || {});
        let count = |control: &mut Control<Usage, EventFd>, usage: Usage| {
            publish(control, usage.clone());
            let reported = supervisor.poll();
            assert!(reported.is_none() || reported == Some(usage));
            reported.is_some()
        };
        assert!(!count(&mut control, dcos(1, 0)), "nobody asked");
        supervisor.apply(0, Arc::default());
        assert!(!count(&mut control, dcos(1, 0)), "superseded");
        assert_eq!(control.receive(), Received::Desired);
        assert!(count(&mut control, dcos(1, 0)));
        assert!(!count(&mut control, dcos(1, 0)), "the same again");
        assert!(count(&mut control, dcos(1, 1)));
        supervisor.apply(0, Arc::default());
        assert!(!count(&mut control, dcos(2, 2)), "superseded");
        assert_eq!(control.receive(), Received::Desired);
        assert!(count(&mut control, dcos(1, 1)), "a new request");
        assert!(!count(&mut control, dcos(1, 1)));
    }

    #[test]
    fn addresses_within_the_bounds_of_the_subnets_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["9.0.0.0", "9.0.0.127", "9.0.0.128", "8.255.255.255"];
        let files6 = [
            "fd01:b::",
            "fd01:b::7fff:ffff:ffff",
            "fd01:b::8000:0:0",
            "fd01:a:ffff::",
        ];
        fs::create_dir(dir.path().join("dcos")).unwrap();
        for file in files.iter().chain(&files6) {
            fs::write(dir.path().join("dcos").join(file), "container").unwrap();
        }
        fs::write(dir.path().join("dcos/9.0.0.1"), "container").unwrap();
        assert_eq!(sample(&desired(dir.path())), dcos(3, 2));
    }
}
