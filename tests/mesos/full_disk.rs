//! A disk under the log that is full, or becomes read-only, and is usable again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::http::Reply;
use testbed::{paths, skip, wait};

use crate::common::{LIMIT, all_ok, elected, loopback, state, wait_authenticating, wait_state};

/// A small file system of its own. Dropping it unmounts it.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts a file system of 6 MB.
    fn mount(path: &Path) -> nix::Result<Disk> {
        mount(
            Some("tmpfs"),
            path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("size=6m"),
        )?;
        Ok(Disk {
            path: path.to_owned(),
        })
    }

    fn set_read_only(&self, read_only: bool) {
        let flag = if read_only {
            MsFlags::MS_RDONLY
        } else {
            MsFlags::empty()
        };
        let none: Option<&str> = None;
        mount(none, &self.path, none, MsFlags::MS_REMOUNT | flag, none).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Writes until there is no space.
    fn fill(&self) {
        let mut file = File::create(self.filler()).unwrap();
        while file.write_all(&[b'x'; 4096]).is_ok() {}
    }

    /// Writes until there is less space than a log needs, but some.
    fn fill_almost(&self) {
        let mut file = File::create(self.filler()).unwrap();
        while self.space() > 200_000 {
            file.write_all(&[b'x'; 4096]).unwrap();
        }
    }

    /// Returns the number of bytes that are free.
    fn space(&self) -> u64 {
        let status = statvfs(&self.path).unwrap();
        status.blocks_free() * status.fragment_size()
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH); // the directory goes with the run
    }
}

/// Starts a cluster of a master and an agent whose log is on a small disk; `None`: the test is
/// skipped.
fn on_a_small_disk(test: &str) -> Option<(Cluster, Disk)> {
    let setup = loopback(test, 1)?;
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let log = cluster.master.dir().join("log");
    fs::create_dir_all(&log).unwrap();
    let disk = match Disk::mount(&log) {
        Ok(disk) => disk,
        Err(error) => {
            skip::skip(test, &format!("cannot mount a file system: {error}"));
            return None;
        }
    };
    cluster.start_all().unwrap();
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    wait_authenticating(&cluster.master);
    Some((cluster, disk))
}

fn overlay(number: usize) -> Value {
    json!({ "name": format!("o{number}"), "subnet": format!("10.{number}.0.0/16"), "prefix": 24 })
}

fn add_overlay(cluster: &Cluster, number: usize) -> Reply {
    let client = cluster.master.client();
    client
        .post("/overlay-master/overlays", &overlay(number))
        .unwrap()
}

/// Adds overlays until one is not added. Returns the number of those that were, and the sentence.
fn add_until_refused(cluster: &Cluster) -> (usize, String) {
    for number in 1..=200 {
        let reply = add_overlay(cluster, number);
        if reply.status != 201 {
            assert_eq!(reply.status, 503, "{}", reply.text());
            return (number - 1, reply.text());
        }
    }
    panic!("200 overlays are written to a full disk");
}

fn names(state: &Value) -> Vec<String> {
    let overlays = state["network"]["overlays"]
        .as_array()
        .into_iter()
        .flatten();
    overlays
        .map(|overlay| overlay["name"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn what_is_acknowledged_after_a_full_disk_stays() {
    let test = "what_is_acknowledged_after_a_full_disk_stays";
    let Some((mut cluster, disk)) = on_a_small_disk(test) else {
        return;
    };
    disk.fill();
    let (added, sentence) = add_until_refused(&cluster);
    assert!(
        sentence.contains("is full (No space left on device); free some space"),
        "{sentence}"
    );
    // Also while it reads the log again.
    let health = wait::until("the reason in health", LIMIT, || {
        let reply = cluster.master.client().get("/overlay-master/health")?;
        Ok(reply.text().contains("is full").then_some(reply))
    });
    assert_eq!(health.unwrap().status, 503);
    cluster.check().unwrap();

    disk.free();
    wait_state(&mut cluster, "the state of before", |state| {
        all_ok(state, 1) && names(state).len() > added
    });
    // Written behind what the full disk left.
    for number in 201..=205 {
        let reply = add_overlay(&cluster, number);
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    let before = wait_state(&mut cluster, "the overlays", |state| all_ok(state, 1));
    cluster.master.restart().unwrap();
    let after = wait_state(&mut cluster, "the overlays", |state| all_ok(state, 1));
    assert_eq!(names(&after), names(&before));
    assert!(names(&after).contains(&"o205".to_owned()));
}

/// Checks that a leader refuses a write while its log is closed, and opens the log every time.
#[test]
fn a_log_is_closed_and_opened_again_and_again() {
    let test = "a_log_is_closed_and_opened_again_and_again";
    let Some((mut cluster, disk)) = on_a_small_disk(test) else {
        return;
    };
    let line = "This replica of the log is closed until it can be written";
    for number in [1, 3, 5] {
        let before = cluster.master.log().matches(line).count();
        disk.fill();
        wait::until("the closed log", LIMIT, || {
            let closed = cluster.master.log().matches(line).count() > before;
            Ok(closed.then_some(()))
        })
        .unwrap();
        let reply = add_overlay(&cluster, number);
        assert_eq!(reply.status, 503, "{}", reply.text());
        disk.free();
        wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
        let reply = add_overlay(&cluster, number + 1);
        assert_eq!(reply.status, 201, "{}", reply.text());
        wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    }
    cluster.master.restart().unwrap();
    let after = wait_state(&mut cluster, "the overlays", |state| all_ok(state, 1));
    let names = names(&after);
    for name in ["o2", "o4", "o6"] {
        assert!(names.contains(&name.to_owned()), "{names:?}");
    }
    cluster.check().unwrap();
}

/// Checks that the disk is examined without being filled: Mesos ends if its registry cannot be
/// written.
#[test]
fn an_examined_disk_keeps_its_space() {
    let test = "an_examined_disk_keeps_its_space";
    let Some((mut cluster, disk)) = on_a_small_disk(test) else {
        return;
    };
    disk.fill_almost();
    let line = "This replica of the log is closed until it can be written";
    cluster.master.wait_log(line, LIMIT).unwrap();
    // Longer than two tries to open the log.
    let until = Instant::now() + Duration::from_secs(12);
    let mut least = u64::MAX;
    while Instant::now() < until {
        least = least.min(disk.space());
    }
    assert!(least > 100_000, "{least} bytes were left");
    disk.free();
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    cluster.check().unwrap();
}

/// Waits for a leader, and adds an overlay there.
fn add_at_the_leader(cluster: &mut Cluster, number: usize) {
    wait::until("another overlay", LIMIT, || {
        let leader = cluster.wait_leader(LIMIT)?;
        let reply = leader
            .client()
            .post("/overlay-master/overlays", &overlay(number))?;
        // A former attempt may have added it.
        Ok(matches!(reply.status, 201 | 409).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_standbys_replica_is_closed_while_its_disk_is_full() {
    let test = "a_standbys_replica_is_closed_while_its_disk_is_full";
    let Some(setup) = elected(test, 0) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let mut disks = Vec::new();
    for master in cluster.masters() {
        let log = master.dir().join("log");
        fs::create_dir_all(&log).unwrap();
        match Disk::mount(&log) {
            Ok(disk) => disks.push((master.name().to_owned(), disk)),
            Err(error) => {
                return skip::skip(test, &format!("cannot mount a file system: {error}"));
            }
        }
    }
    cluster.start_all().unwrap();
    let leader = cluster.wait_leader(LIMIT).unwrap().name().to_owned();
    cluster.wait_replicas(LIMIT).unwrap();
    let (standby, disk) = disks.iter().find(|(name, _)| *name != leader).unwrap();
    let wait_log = |cluster: &mut Cluster, text: &str| {
        let mut masters = cluster.masters();
        let master = masters.find(|master| master.name() == standby).unwrap();
        master.wait_log(text, LIMIT).unwrap();
    };
    disk.fill();
    for number in 1..=60 {
        add_at_the_leader(&mut cluster, number);
    }
    wait_log(&mut cluster, "No space left on device");
    wait_log(
        &mut cluster,
        "This replica of the log is closed until it can be written",
    );
    disk.free();
    for number in 61..=65 {
        add_at_the_leader(&mut cluster, number);
    }
    cluster.wait_replicas(LIMIT).unwrap();
    let mut masters = cluster.masters();
    let master = masters.find(|master| master.name() == standby).unwrap();
    master.restart().unwrap();
    drop(masters);
    cluster.wait_replicas(LIMIT).unwrap();
    let mut masters = cluster.masters();
    let master = masters.find(|master| master.name() == standby).unwrap();
    let log = master.log();
    assert!(!log.contains("cannot be opened"), "{log}");
}

#[test]
fn a_read_only_disk_is_named() {
    let Some((mut cluster, disk)) = on_a_small_disk("a_read_only_disk_is_named") else {
        return;
    };
    // Files that are open for writing keep a file system writable.
    cluster.master.kill().unwrap();
    disk.set_read_only(true);
    cluster.master.start().unwrap();
    let line = cluster.master.wait_log("is read-only", LIMIT).unwrap();
    assert!(
        line.starts_with('E') && line.contains("mount it writable"),
        "{line}"
    );
    cluster.check().unwrap();
    disk.set_read_only(false);
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
}

/// Adds to a journal what a write to a full disk leaves when other writes follow.
fn tear(replica: &Path) {
    let journal = fs::read_dir(replica)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let records = fs::read(&journal).unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(&journal).unwrap();
    file.write_all(&records[..20]).unwrap();
    file.write_all(&records).unwrap();
}

#[test]
fn a_torn_log_is_salvaged() {
    let Some(setup) = loopback("a_torn_log_is_salvaged", 1) else {
        return;
    };
    let mut cluster = crate::common::start(&setup);
    let before = wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    let log = cluster.master.dir().join("log");
    let (replica, copy) = (log.join("overlay_replicated_log"), log.join("salvaged"));
    let salvage = |from: &Path| {
        let mut command = Command::new(paths::program("mesos-overlay").unwrap());
        command
            .arg("salvage")
            .arg(from)
            .arg(&copy)
            .output()
            .unwrap()
    };
    let output = salvage(&replica);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("stop the Mesos master"), "{error}");
    assert!(!copy.exists());

    cluster.master.kill().unwrap();
    tear(&replica);
    cluster.master.start().unwrap();
    let line = cluster.master.wait_log("corruption", LIMIT).unwrap();
    assert!(line.contains("mesos-overlay salvage"), "{line}");
    cluster.master.kill().unwrap();

    let output = salvage(&replica);
    let (out, error) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{error}");
    assert!(out.contains(".log: kept "), "{out}");
    fs::rename(&replica, log.join("damaged")).unwrap();
    fs::rename(&copy, &replica).unwrap();
    cluster.master.start().unwrap();
    wait_state(&mut cluster, "the state of before", |state| {
        *state == before
    });
    assert!(state(&cluster.master).is_ok());

    // There is nothing to cut now.
    cluster.master.kill().unwrap();
    let output = salvage(&replica);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("are whole"), "{error}");
}
