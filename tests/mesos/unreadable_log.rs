//! Replicas of the log that cannot be opened or read completely.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use testbed::cluster::Cluster;
use testbed::wait;

use crate::common::{LIMIT, all_ok, loopback, start, state, wait_state};

fn replica(cluster: &Cluster) -> PathBuf {
    cluster.master.dir().join("log/overlay_replicated_log")
}

/// Returns the files of a replica, without LevelDB's own log and lock.
fn contents(replica: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(replica).unwrap().map(|entry| entry.unwrap());
    files
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .filter(|(name, _)| !name.starts_with("LOG") && name != "LOCK")
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for (name, bytes) in contents(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// Asserts that the master logs the error once, answers 503 with it, and continues as a Mesos
/// master.
#[track_caller]
fn assert_says(cluster: &mut Cluster, part: &str) {
    let line = cluster
        .master
        .wait_log("cannot be opened, and is left as it is", LIMIT)
        .unwrap();
    assert!(
        line.starts_with('E') && line.contains(part),
        "{part}: {line}"
    );
    let reply = wait::until("the reason at the endpoint", LIMIT, || {
        cluster.check()?;
        let reply = cluster.master.client().get("/overlay-master/state")?;
        Ok(reply.text().contains("cannot be opened").then_some(reply))
    })
    .unwrap();
    assert_eq!(reply.status, 503, "{}", reply.text());
    wait::until("Mesos to go on", LIMIT, || {
        let health = cluster.master.client().get("/master/health")?;
        Ok((health.status == 200).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_log_that_another_process_has_is_waited_for() {
    let Some(setup) = loopback("a_log_that_another_process_has_is_waited_for", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    cluster.master.kill().unwrap();
    let lock = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(replica(&cluster).join("LOCK"))
        .unwrap();
    let whole = libc::flock {
        l_type: libc::F_WRLCK as i16,
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&lock, FcntlArg::F_SETLK(&whole)).unwrap();
    cluster.master.start().unwrap();
    assert_says(&mut cluster, "LOCK");
    // Mesos itself continues to work.
    cluster.wait_mesos(LIMIT).unwrap();
    drop(lock);
    // The master recovers without an operator.
    wait_state(&mut cluster, "the state of before", |state| {
        *state == before
    });
}

/// Damages a file of a replica.
type Damage = fn(&Path);

fn flip_the_middle(file: &Path) {
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(file)
        .unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut bytes = [0; 8];
    file.seek(SeekFrom::Start(middle)).unwrap();
    let length = file.read(&mut bytes).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
    file.seek(SeekFrom::Start(middle)).unwrap();
    file.write_all(&bytes[..length]).unwrap();
}

fn remove(file: &Path) {
    fs::remove_file(file).unwrap();
}

/// Returns the file of a replica with this prefix and suffix that is not empty.
fn file(replica: &Path, beginning: &str, end: &str) -> PathBuf {
    let named = |name: &str| name.starts_with(beginning) && name.ends_with(end);
    let found = contents(replica)
        .into_iter()
        .find(|(name, bytes)| named(name) && !bytes.is_empty());
    replica.join(found.unwrap_or_else(|| panic!("no {beginning}*{end}")).0)
}

#[test]
fn a_damaged_log_is_left_as_it_is_and_served_once_it_is_repaired() {
    let Some(setup) = loopback(
        "a_damaged_log_is_left_as_it_is_and_served_once_it_is_repaired",
        1,
    ) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    // Each start writes earlier entries into tables.
    cluster.master.restart().unwrap();
    let before = wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    cluster.master.kill().unwrap();
    let (replica, good) = (replica(&cluster), cluster.master.dir().join("good"));
    copy(&replica, &good);
    let damages: [(&str, &str, Damage); 5] = [
        ("CURRENT", "", remove),
        ("MANIFEST-", "", remove),
        ("MANIFEST-", "", flip_the_middle),
        ("", ".ldb", flip_the_middle),
        ("", ".ldb", remove),
    ];
    for (beginning, end, damage) in damages {
        damage(&file(&replica, beginning, end));
        let damaged = contents(&replica);
        cluster.master.start().unwrap();
        assert_says(&mut cluster, "");
        let now = contents(&replica);
        // A block that cannot be read is found only after LevelDB has opened the rest, which
        // makes a table of its journal and writes a list of tables anew.
        let opened = end == ".ldb";
        for (name, bytes) in damaged
            .iter()
            .filter(|(name, _)| !opened || name.ends_with(".ldb"))
        {
            assert!(
                now.get(name) == Some(bytes),
                "{beginning}*{end}: {name} changed"
            );
        }
        // The repair needs no restart.
        for name in now.keys() {
            fs::remove_file(replica.join(name)).unwrap();
        }
        for (name, bytes) in contents(&good) {
            fs::write(replica.join(name), bytes).unwrap();
        }
        wait_state(&mut cluster, "the state of before", |state| {
            *state == before
        });
        cluster.master.kill().unwrap();
        fs::remove_dir_all(&replica).unwrap();
        copy(&good, &replica);
    }
    cluster.master.start().unwrap();
    wait_state(&mut cluster, "the state of before", |state| {
        *state == before
    });
    assert!(state(&cluster.master).is_ok());
}
