//! Runs: all processes, namespaces, cgroups and files that a test or the demo makes carry the id of
//! its run. They are removed by that id at the end, on Ctrl-C, or by the next run if a run was
//! killed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::{cleanup, wait};

/// Prefix of the ids of runs.
pub const PREFIX: &str = "mesos-overlay-";
/// File in the directory of a run that must outlive its process.
const KEPT: &str = "kept";

/// A run of the test bed. Dropping it removes the run from the machine.
#[derive(Debug)]
pub struct Run {
    id: String,
    dir: PathBuf,
    kept: bool,
}

/// Runs of this process, which are removed when it is interrupted.
static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
/// Lock that keeps creation and clean-up apart. Creators of processes and namespaces hold it for
/// reading; the signal handler locks it for writing, permanently, before it removes the runs.
static GATE: RwLock<()> = RwLock::new(());

/// Returns a guard to hold while a process or namespace is made; clean-up waits for it.
pub fn creation_guard() -> RwLockReadGuard<'static, ()> {
    GATE.read().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    /// Makes a run with a directory. The first run of a process removes killed runs and installs
    /// signal handlers.
    pub fn new() -> Result<Run> {
        static FIRST: Once = Once::new();
        static SIGNALS: OnceLock<Result<(), String>> = OnceLock::new();
        FIRST.call_once(remove_stale);
        if let Err(error) =
            SIGNALS.get_or_init(|| watch_signals().map_err(|error| format!("{error:#}")))
        {
            anyhow::bail!("{error}");
        }
        let _gate = creation_guard();
        let mut live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = std::process::id();
        let started =
            start_time(pid).context("cannot read the start time of this process in /proc")?;
        let id = (1..)
            .map(|number| format!("{PREFIX}{pid}-{started}-{number}"))
            .find(|id| !live.contains(id) && !directory(id).exists())
            .expect("an infinite range has a free number");
        let dir = directory(&id);
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        live.insert(id.clone());
        Ok(Run {
            id,
            dir,
            kept: false,
        })
    }

    /// Returns the id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the name of a part of the run, `<id>.<part>`, for namespaces, cgroups and containers.
    pub fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.id)
    }

    /// Returns the directory of the run's files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps the run after the end of this process, until [`remove_kept`].
    pub fn keep(&mut self) -> Result<()> {
        fs::write(self.dir.join(KEPT), "")?;
        LIVE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
        self.kept = true;
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        remove(&self.id);
        LIVE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

/// Removes the runs that were kept, and returns their ids.
pub fn remove_kept() -> Vec<String> {
    let kept: Vec<String> = cleanup::ids(PREFIX)
        .into_iter()
        .filter(|id| is_kept(id))
        .collect();
    kept.iter().for_each(|id| remove(id));
    kept
}

fn remove(id: &str) {
    for error in cleanup::remove(id, &directory(id)) {
        eprintln!("cannot clean up {id}: {error:#}");
    }
}

fn remove_stale() {
    for id in cleanup::ids(PREFIX) {
        if !is_kept(&id) && !is_alive(&id) {
            eprintln!("removing a run that was killed: {id}");
            remove(&id);
        }
    }
}

fn directory(id: &str) -> PathBuf {
    std::env::temp_dir().join(id)
}

fn is_kept(id: &str) -> bool {
    directory(id).join(KEPT).exists()
}

/// Returns true if the process of a run is alive. The id contains the start time of the process
/// too, since process ids are reused.
fn is_alive(id: &str) -> bool {
    let mut parts = id[PREFIX.len()..].split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(started))) = (parts.next(), parts.next()) else {
        return true; // not the id of a run
    };
    u32::try_from(pid).ok().and_then(start_time) == Some(started)
}

/// Returns the start time of a process, in clock ticks since boot; `None`: no such process.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in parentheses, may contain blanks and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

fn watch_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("catching signals")?;
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let _for_ever = GATE.write();
                let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
                if !live.is_empty() {
                    eprintln!("\ninterrupted: cleaning up");
                }
                live.iter().for_each(|id| remove(id));
                reap();
                std::process::exit(128 + signal);
            }
        })?;
    Ok(())
}

/// Reaps children. Zombies would be inherited by init, which in containers often does not reap.
fn reap() {
    let _ = wait::until("children to end", Duration::from_secs(1), || {
        // An error means that there are no more. Children of other origin may continue.
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                return Ok(None);
            }
        }
        Ok(Some(()))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_alive_as_long_as_its_process() {
        let pid = std::process::id();
        let started = start_time(pid).unwrap();
        assert!(is_alive(&format!("{PREFIX}{pid}-{started}-1")));
        assert!(!is_alive(&format!("{PREFIX}{pid}-{}-1", started + 1)));
        assert!(is_alive(&format!("{PREFIX}of-someone-else")));
    }

    #[test]
    fn dropping_a_run_removes_its_directory() {
        let run = Run::new().unwrap();
        let dir = run.dir().to_owned();
        fs::write(dir.join("file"), "").unwrap();
        drop(run);
        assert!(!dir.exists());
    }
}
