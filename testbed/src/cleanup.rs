//! Removal of a run from the machine: processes, cgroups, mounts, network namespaces and the
//! directory, which are found by the run's id.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// Environment variable with the run's id, in all processes that a run starts.
pub const RUN_VARIABLE: &str = "TESTBED_RUN";
/// Directory in which `ip netns` keeps the names of namespaces.
pub const NETNS_DIR: &str = "/run/netns";

/// Timeout of each step.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns the ids of all runs of this user that have a directory, namespace or cgroup.
pub fn ids(prefix: &str) -> BTreeSet<String> {
    let mut places = vec![std::env::temp_dir(), NETNS_DIR.into()];
    places.extend(cgroup_hierarchies());
    let own = nix::unistd::geteuid().as_raw();
    let names = places
        .iter()
        .flat_map(|dir| entries(dir))
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.split('.').next()?.to_owned();
            (name.starts_with(prefix) && path.symlink_metadata().ok()?.uid() == own).then_some(name)
        });
    names.collect()
}

/// Removes a run from the machine. Continues after errors and returns all of them.
pub fn remove(id: &str, dir: &Path) -> Vec<Error> {
    let steps = [
        kill_processes(id, dir).context("killing the processes"),
        remove_cgroups(id).context("removing the cgroups"),
        unmount_below(dir).context("unmounting"),
        remove_namespaces(id).context("removing the network namespaces"),
        remove_directory(dir).context("removing the directory"),
    ];
    steps.into_iter().filter_map(Result::err).collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

/// Returns the entries of `dir` that belong to a run: `<id>` or `<id>.<part>`.
fn of_run(id: &str, dir: &Path) -> Vec<PathBuf> {
    let ours = |name: &str| {
        name.strip_prefix(id)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    entries(dir)
        .into_iter()
        .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(ours))
        .collect()
}

/// Kills the processes of a run. Agents start executors until they end, so this repeats until no
/// process is left.
fn kill_processes(id: &str, dir: &Path) -> Result<()> {
    wait::until("the run's processes to end", LIMIT, || {
        let pids = processes(id, dir);
        for pid in &pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL); // it may have exited
        }
        Ok(pids.is_empty().then_some(()))
    })
}

fn processes(id: &str, dir: &Path) -> BTreeSet<i32> {
    let mut pids = BTreeSet::new();
    for cgroup in cgroups(id) {
        let _ = fs::write(cgroup.join("freezer.state"), "THAWED"); // frozen processes do not die
        let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
        pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
    }
    let marks = [
        format!("{RUN_VARIABLE}={id}"),
        format!("MESOS_DIRECTORY={}/", dir.display()),
    ];
    for path in entries(Path::new("/proc")) {
        let Some(pid) = path.file_name().and_then(|n| n.to_str()?.parse().ok()) else {
            continue;
        };
        // Unreadable: the process has exited, or belongs to another user and so not to the run.
        let Ok(environ) = fs::read(path.join("environ")) else {
            continue;
        };
        let marked = |variable: &[u8]| {
            variable == marks[0].as_bytes() || variable.starts_with(marks[1].as_bytes())
        };
        if environ.split(|byte| *byte == 0).any(marked) {
            pids.insert(pid);
        }
    }
    pids.remove(&std::process::id().cast_signed());
    pids
}

/// Returns the mount points of the cgroup hierarchies of versions 1 and 2. (Docker uses version 2
/// even if version 1 is mounted.)
pub fn cgroup_hierarchies() -> Vec<PathBuf> {
    let is_cgroup = |mount: &Mount| ["cgroup", "cgroup2"].contains(&mount.kind.as_str());
    mounts()
        .into_iter()
        .filter(is_cgroup)
        .map(|mount| mount.point)
        .collect()
}

/// Returns the cgroups of a run, parents before children.
fn cgroups(id: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = cgroup_hierarchies()
        .iter()
        .flat_map(|root| of_run(id, root))
        .collect();
    let mut next = 0;
    while let Some(cgroup) = all.get(next).cloned() {
        all.extend(entries(&cgroup).into_iter().filter(|path| path.is_dir()));
        next += 1;
    }
    all
}

fn remove_cgroups(id: &str) -> Result<()> {
    wait::until("the run's cgroups to become empty", LIMIT, || {
        let mut outcome = Ok(Some(()));
        for cgroup in cgroups(id).into_iter().rev() {
            // A cgroup is busy until its last dead process has been reaped.
            if let Err(error) = fs::remove_dir(&cgroup) {
                outcome = Err(Error::new(error).context(cgroup.display().to_string()));
            }
        }
        outcome
    })
}

struct Mount {
    point: PathBuf,
    kind: String,
}

fn mounts() -> Vec<Mount> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        // Paths of Mesos and of the test bed have no blanks, which would be escaped.
        let point = left.split(' ').nth(4)?.into();
        Some(Mount {
            point,
            kind: right.split(' ').next()?.to_owned(),
        })
    };
    table.lines().filter_map(mount).collect()
}

fn unmount_below(dir: &Path) -> Result<()> {
    let mut outcome = Ok(());
    for mount in mounts()
        .into_iter()
        .rev()
        .filter(|mount| mount.point.starts_with(dir))
    {
        if let Err(error) = umount2(&mount.point, MntFlags::MNT_DETACH) {
            outcome = Err(error).with_context(|| mount.point.display().to_string());
        }
    }
    outcome
}

fn remove_namespaces(id: &str) -> Result<()> {
    let mut outcome = Ok(());
    for path in of_run(id, Path::new(NETNS_DIR)) {
        if let Err(error) = remove_namespace(&path) {
            outcome = Err(error);
        }
    }
    outcome
}

/// Removes the name of a namespace. The namespace itself ends with its last process.
pub fn remove_namespace(path: &Path) -> Result<()> {
    let _ = umount2(path, MntFlags::MNT_DETACH); // fails if making the namespace was interrupted
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}

fn remove_directory(dir: &Path) -> Result<()> {
    if dir.parent().is_none() || dir.as_os_str().as_bytes().is_empty() {
        bail!("{} is not the directory of a run", dir.display());
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| dir.display().to_string())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_runs_with_similar_ids() {
        let dir = std::env::temp_dir().join(format!("cleanup-test-{}", std::process::id()));
        for name in ["run-1", "run-1.host", "run-12", "run-12.host"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        let mut ours = of_run("run-1", &dir);
        ours.sort();
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(ours, [dir.join("run-1"), dir.join("run-1.host")]);
    }
}
