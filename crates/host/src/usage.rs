//! The addresses that the CNI plugin `host-local` has given to Mesos's containers.
//!
//! It keeps one file for each, named after the address, in a directory named after
//! the network. A thread of its own counts them every few seconds: a disk that
//! hangs must hold up neither Mesos nor a pass over the host.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, Overlay};
use overlay_core::host_api::usage::InUse;
use parking_lot::{Condvar, Mutex};

/// By overlay; one that could not be looked at is absent.
type Usage = BTreeMap<String, InUse>;

/// Where `host-local` keeps its files unless its configuration says otherwise.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// From one count to the next.
const INTERVAL: Duration = Duration::from_secs(2);

/// Counts the addresses in use, now and then, on a thread of its own.
pub struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whose networks to look at, and whether nobody has yet.
    desired: Option<Arc<Desired>>,
    fresh: bool,
    /// The latest count.
    usage: Option<Usage>,
    /// It was not taken yet.
    news: bool,
    stop: bool,
}

impl Sampler {
    /// Starts the thread. `wake` is called from it when there is something to
    /// [`poll`](Sampler::poll); it must not block on whoever drops the sampler.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(wake: impl Fn() + Send + 'static) -> io::Result<Sampler> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new()
            .name("overlay-usage".into())
            .spawn({
                let shared = shared.clone();
                move || {
                    while let Some(desired) = shared.next() {
                        if shared.put(&desired, sample(&desired)) {
                            wake();
                        }
                    }
                }
            })?;
        Ok(Sampler {
            shared,
            thread: Some(thread),
        })
    }

    /// Counts for the networks of `desired` from now on. The first count after this is
    /// told in any case, later ones when they differ. Returns at once.
    pub fn watch(&self, desired: Arc<Desired>) {
        let mut state = self.shared.state.lock();
        state.desired = Some(desired);
        state.fresh = true;
        self.shared.changed.notify_one();
    }

    /// The latest count, once.
    pub fn poll(&self) -> Option<Usage> {
        let mut state = self.shared.state.lock();
        if std::mem::take(&mut state.news) {
            state.usage.clone()
        } else {
            None
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked, other than in `wake`.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Waits until it is time to count; `None`: that is over.
    fn next(&self) -> Option<Arc<Desired>> {
        let mut state = self.state.lock();
        let mut in_time = false;
        loop {
            if state.stop {
                return None;
            }
            if let Some(desired) = state.desired.clone().filter(|_| state.fresh || in_time) {
                return Some(desired);
            }
            in_time = self.changed.wait_for(&mut state, INTERVAL).timed_out();
        }
    }

    /// Keeps a count; gives whether it is news.
    fn put(&self, of: &Arc<Desired>, usage: Usage) -> bool {
        let mut state = self.state.lock();
        // One that was overtaken while it was made is made again.
        let current = state
            .desired
            .as_ref()
            .is_some_and(|desired| Arc::ptr_eq(desired, of));
        let news = current && (state.fresh || state.usage.as_ref() != Some(&usage));
        if news {
            state.fresh = false;
            state.usage = Some(usage);
            state.news = true;
        }
        news
    }
}

/// Counts the addresses that Mesos's containers have.
pub(crate) fn sample(desired: &Desired) -> Usage {
    let data_dir = desired
        .cni
        .data_dir
        .as_deref()
        .unwrap_or(Path::new(DATA_DIR));
    let count = |(name, overlay): (&String, &Overlay)| {
        let bridge = overlay.mesos_bridge.as_ref()?;
        match in_use(&data_dir.join(name), &bridge.subnets) {
            Ok(in_use) => Some((name.clone(), in_use)),
            Err(error) => {
                log::debug!(
                    "cannot count the addresses in {}: {error}",
                    data_dir.join(name).display()
                );
                None
            }
        }
    };
    desired.overlays.iter().filter_map(count).collect()
}

/// The files whose names are addresses of these prefixes. (There may be some of a
/// subnet that this host had before, which do not matter, and there are a lock and
/// the address that was given last.)
fn in_use(dir: &Path, subnets: &[IpNet]) -> io::Result<InUse> {
    let mut in_use = InUse::default();
    let entries = match fs::read_dir(dir) {
        // It comes with the first container.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(in_use),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(ip) = name.to_str().and_then(|name| name.parse::<IpAddr>().ok()) else {
            continue;
        };
        if subnets.iter().any(|subnet| subnet.contains(&ip)) {
            *(if ip.is_ipv4() {
                &mut in_use.v4
            } else {
                &mut in_use.v6
            }) += 1;
        }
    }
    Ok(in_use)
}

#[cfg(test)]
mod tests {
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
        [("dcos".to_owned(), InUse { v4, v6 })].into()
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
    fn what_cannot_be_read_is_unknown_and_not_zero() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dcos"), "a file").unwrap();
        assert!(sample(&desired(dir.path())).is_empty());
    }

    fn sampler() -> (Sampler, Receiver<()>) {
        let (wake, woken) = channel();
        (
            Sampler::spawn(move || wake.send(()).unwrap()).unwrap(),
            woken,
        )
    }

    #[test]
    fn tells_the_first_count_and_then_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (sampler, woken) = sampler();
        assert_eq!(sampler.poll(), None);
        let desired = Arc::new(desired(dir.path()));
        // Whoever asks anew knows nothing: it is told although nothing changed.
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

    /// A count for what was wanted before is no answer to what is wanted now.
    #[test]
    fn only_counts_of_what_is_wanted_now_are_told() {
        let (old, new) = (Arc::new(Desired::default()), Arc::new(Desired::default()));
        let shared = Shared::default();
        let taken = || std::mem::take(&mut shared.state.lock().news);
        let want = |desired: &Arc<Desired>| {
            let mut state = shared.state.lock();
            (state.desired, state.fresh) = (Some(desired.clone()), true);
        };
        assert!(!shared.put(&old, dcos(1, 0)), "nobody asked");
        want(&new);
        assert!(!shared.put(&old, dcos(1, 0)) && !taken(), "overtaken");
        assert!(shared.put(&new, dcos(1, 0)) && taken());
        assert!(!shared.put(&new, dcos(1, 0)) && !taken(), "the same again");
        assert!(shared.put(&new, dcos(1, 1)) && taken());
        want(&new);
        assert!(
            shared.put(&new, dcos(1, 1)) && taken(),
            "whoever asks anew is told"
        );
        assert!(!shared.put(&new, dcos(1, 1)));
    }

    /// The boundaries of the subnets, in both families.
    #[test]
    fn addresses_at_the_ends_of_the_subnets_count_and_those_behind_them_do_not() {
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
