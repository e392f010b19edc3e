//! Files of the CNI plugin `host-local`: one for each address, with the container that has it.
//!
//! The plugin removes a file when the container ends. When the host is restarted, Mesos forgets
//! its containers, and nobody removes their files if they are on a disk.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::files::{self, Links};

/// Directory in which `host-local` keeps its files unless its configuration names another.
pub const DATA_DIR: &str = "/var/lib/cni/networks";

/// Size limit of a file, in bytes. It has the id of a container and the name of an interface.
const LIMIT: u64 = 4 << 10;

/// Time after which a container has a network namespace, if there is such a container. Clocks
/// may be set by some seconds, too.
const MARGIN: Duration = Duration::from_secs(60);

/// An address that a container has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// The address.
    pub ip: IpAddr,
    /// Name of the file.
    pub name: OsString,
    /// Id of the container, as Mesos names it; empty if the file cannot be read.
    pub container: String,
    /// Time of the file's last change.
    pub modified: SystemTime,
    /// Number of the file in its file system; 0 if the file is not there any more.
    pub inode: u64,
}

/// Knowledge of the containers of this host.
#[derive(Clone, Debug, Default)]
pub struct Containers {
    /// Start of the host.
    pub booted: Option<SystemTime>,
    /// Ids of the containers whose network namespaces Mesos keeps.
    pub known: BTreeSet<String>,
}

/// State of a reserved address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A container has it, or may have it.
    InUse,
    /// Mesos knows no such container.
    Leaked,
    /// Mesos knows no such container, and it cannot exist: it is older than the start of the
    /// host.
    Stale,
}

impl Reserved {
    /// Returns the state of the address.
    pub fn state(&self, containers: &Containers, now: SystemTime) -> State {
        let is_new = now
            .duration_since(self.modified)
            .map_or(true, |age| age < MARGIN);
        if is_new || self.container.is_empty() || containers.known.contains(&self.container) {
            return State::InUse;
        }
        let is_older = |booted: SystemTime| self.modified + MARGIN < booted;
        match containers.booted.is_some_and(is_older) {
            true => State::Stale,
            false => State::Leaked,
        }
    }
}

impl Containers {
    /// Finds out what is known.
    ///
    /// # Errors
    /// The kernel's tables cannot be read.
    pub fn of_host() -> io::Result<Containers> {
        Ok(Containers {
            booted: boot_time(&fs::read_to_string("/proc/stat")?),
            known: with_namespace(&fs::read_to_string("/proc/self/mountinfo")?),
        })
    }

    /// Adds those whose network namespaces a process sees, such as Mesos's agent, which can have
    /// mounts of its own.
    ///
    /// # Errors
    /// The process has ended, or may not be looked at.
    pub fn add_seen_by(&mut self, pid: u32) -> io::Result<()> {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        self.known.extend(with_namespace(&mounts));
        Ok(())
    }
}

/// Returns the start of the host from the contents of `/proc/stat`.
fn boot_time(stat: &str) -> Option<SystemTime> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    let seconds = seconds.trim().parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Returns the containers whose network namespaces are mounted, from the contents of
/// `/proc/self/mountinfo`: Mesos keeps each as `<directory>/<container>/ns`, from before the
/// plugin is called until after it was called for the last time.
fn with_namespace(mounts: &str) -> BTreeSet<String> {
    let container = |line: &str| {
        let point = line.split(' ').nth(4)?;
        let (rest, _) = point.rsplit_once('/').filter(|(_, last)| *last == "ns")?;
        rest.rsplit_once('/').map(|(_, id)| id.to_owned())
    };
    mounts.lines().filter_map(container).collect()
}

/// Returns the addresses of these prefixes that are reserved in a directory. (Other files are a
/// lock, the address given last, and addresses of a subnet that this host had before.)
///
/// # Errors
/// The directory cannot be read.
pub fn reserved(dir: &Path, subnets: &[IpNet]) -> io::Result<Vec<Reserved>> {
    reserved_if(dir, |ip| subnets.iter().any(|subnet| subnet.contains(&ip)))
}

/// Returns the reserved addresses of a directory that satisfy a condition; none if there is no
/// such directory.
///
/// # Errors
/// The directory cannot be read.
pub fn reserved_if(dir: &Path, is_wanted: impl Fn(IpAddr) -> bool) -> io::Result<Vec<Reserved>> {
    let entries = match fs::read_dir(dir) {
        // The first container creates it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let Some(ip) = name.to_str().and_then(|name| name.parse::<IpAddr>().ok()) else {
            continue;
        };
        if is_wanted(ip) {
            found.push(read(dir, name, ip));
        }
    }
    Ok(found)
}

/// Reads the file of an address. What cannot be read may be in use.
fn read(dir: &Path, name: OsString, ip: IpAddr) -> Reserved {
    let path = dir.join(&name);
    let content = files::read(&path, Links::Refuse, LIMIT).unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let container = text.lines().next().unwrap_or_default().trim().to_owned();
    let status = fs::symlink_metadata(&path);
    let inode = status.as_ref().map_or(0, MetadataExt::ino);
    let modified = status.and_then(|status| status.modified());
    Reserved {
        ip,
        name,
        container,
        modified: modified.unwrap_or_else(|_| SystemTime::now()),
        inode,
    }
}

/// Addresses that were given back.
#[derive(Debug, Default)]
pub struct GivenBack {
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// Error that ended it before all were given back.
    pub error: Option<io::Error>,
}

/// Gives addresses back, except those whose files changed meanwhile, and those that `permits`
/// refuses. It is asked while the plugin is kept from working.
///
/// # Errors
/// The directory is in use by the plugin, and nothing was given back. (An error after that is in the
/// result.)
pub fn give_back(
    dir: &Path,
    unused: &[Reserved],
    permits: impl Fn(&Reserved) -> bool,
) -> io::Result<GivenBack> {
    let _locks = lock(dir)?;
    let mut result = GivenBack::default();
    for reserved in unused {
        let now = read(dir, reserved.name.clone(), reserved.ip);
        if now != *reserved || !permits(reserved) {
            continue;
        }
        match fs::remove_file(dir.join(&reserved.name)) {
            Ok(()) => result.addresses.push(reserved.ip),
            Err(error) => {
                result.error = Some(error);
                break;
            }
        }
    }
    Ok(result)
}

/// Locks a directory as the plugin does: a file in it, which is created, or in earlier releases the
/// directory. Without a directory there is nothing to lock.
fn lock(dir: &Path) -> io::Result<Vec<Flock<OwnedFd>>> {
    let directory = match File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        directory => directory?,
    };
    // A lock that only the plugin creates would not keep out a plugin that starts meanwhile.
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(dir.join("lock"))?;
    let mut locks = Vec::new();
    for file in [directory, file] {
        let lock = Flock::lock(OwnedFd::from(file), FlockArg::LockExclusiveNonblock);
        locks.push(lock.map_err(|(_, errno): (_, Errno)| errno)?);
    }
    Ok(locks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_700_000_000);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + START + Duration::from_secs(seconds)
    }

    fn containers() -> Containers {
        Containers {
            booted: Some(at(0)),
            known: ["alive".to_owned()].into(),
        }
    }

    #[test]
    fn an_address_is_stale_if_its_container_cannot_exist() {
        let before = at(0) - 2 * MARGIN;
        for (container, modified, now, expected) in [
            ("gone", before, at(1), State::Stale),
            // The clock was set after the host had started: the container is there.
            ("alive", before, at(1), State::InUse),
            ("", before, at(1), State::InUse),
            ("gone", at(0) - MARGIN / 2, at(200), State::Leaked),
            ("gone", at(10), at(200), State::Leaked),
            ("alive", at(10), at(200), State::InUse),
            // Its namespace may come in a moment.
            ("gone", at(10), at(11), State::InUse),
            ("gone", at(10), at(0), State::InUse),
        ] {
            let reserved = Reserved {
                ip: "9.0.0.2".parse().unwrap(),
                name: "9.0.0.2".into(),
                container: container.to_owned(),
                modified,
                inode: 7,
            };
            assert_eq!(
                reserved.state(&containers(), now),
                expected,
                "{container} {modified:?}"
            );
            let unknown = Containers {
                booted: None,
                ..containers()
            };
            assert_ne!(reserved.state(&unknown, now), State::Stale);
        }
    }

    #[test]
    fn containers_with_a_namespace_are_known() {
        let mounts = "\
            22 1 0:20 / /proc rw - proc proc rw\n\
            30 22 0:4 net:[4026532] /run/mesos/isolators/network/cni/8a5b-1/ns rw shared:9 - nsfs nsfs rw\n\
            31 22 0:4 net:[4026533] /run/netns/other rw - nsfs nsfs rw\n\
            32 22 0:4 / /ns rw - nsfs nsfs rw\n\
            33 22 0:4\n";
        assert_eq!(with_namespace(mounts), ["8a5b-1".to_owned()].into());
        assert_eq!(
            boot_time("cpu 1 2\nbtime 1700000000\nprocesses 3"),
            Some(at(0))
        );
        assert_eq!(boot_time("cpu"), None);
        let containers = Containers::of_host().unwrap();
        assert!(containers.booted.unwrap() < SystemTime::now());
    }

    #[test]
    fn only_what_did_not_change_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let subnets = ["9.0.0.0/25".parse().unwrap()];
        let write = |name: &str, content: &str| fs::write(dir.path().join(name), content).unwrap();
        write("9.0.0.2", "gone\r\neth0");
        write("9.0.0.3", "gone");
        let mut found = reserved(dir.path(), &subnets).unwrap();
        found.sort_by_key(|reserved| reserved.ip);
        assert!(found.iter().all(|reserved| reserved.container == "gone"));
        write("9.0.0.3", "another");
        let give_back = |permits: bool| super::give_back(dir.path(), &found, |_| permits);
        assert_eq!(give_back(false).unwrap().addresses, Vec::<IpAddr>::new());
        // The first use creates the file, as the plugin does.
        let file = File::open(dir.path().join("lock")).unwrap();
        let plugin = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
        assert!(give_back(true).is_err(), "the plugin works");
        drop(plugin);
        let given = give_back(true).unwrap();
        assert!(given.error.is_none(), "{given:?}");
        assert_eq!(given.addresses, ["9.0.0.2".parse::<IpAddr>().unwrap()]);
        assert!(!dir.path().join("9.0.0.2").exists());
        assert!(dir.path().join("9.0.0.3").exists());
    }

    #[test]
    fn what_was_given_back_before_an_error_is_known() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["9.0.0.2", "9.0.0.3"] {
            fs::write(dir.path().join(name), "gone").unwrap();
        }
        let mut found = reserved_if(dir.path(), |_| true).unwrap();
        found.sort_by_key(|reserved| reserved.ip);
        // The second file goes after it was read.
        let permits = |reserved: &Reserved| {
            if reserved.name == "9.0.0.3" {
                fs::remove_file(dir.path().join("9.0.0.3")).unwrap();
            }
            true
        };
        let given = give_back(dir.path(), &found, permits).unwrap();
        assert_eq!(given.addresses, ["9.0.0.2".parse::<IpAddr>().unwrap()]);
        assert!(given.error.is_some());
        let missing = dir.path().join("missing");
        assert!(give_back(&missing, &[], |_| true).is_ok());
        assert!(!missing.exists());
    }
}
