//! One master becomes three (docs/operations.md).

use std::fs;
use std::path::Path;

use testbed::cluster::Cluster;
use testbed::node::Node;
use testbed::wait;

use crate::common::{LIMIT, all_ok, elected, state, subnets};

/// Directories of the replicas of a master: the overlays' log, and Mesos's registry.
const REPLICAS: [&str; 2] = ["log/overlay_replicated_log", "work/replicated_log"];

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn one_master_becomes_three() {
    let Some(setup) = elected("one_master_becomes_three", 1) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    cluster.master.set("MESOS_QUORUM", 1);
    cluster.master.start().unwrap();
    cluster.agents[0].start().unwrap();
    let settled = |cluster: &mut Cluster| {
        wait::until("the agent at the leader", LIMIT, || {
            let state = state(cluster.wait_leader(LIMIT)?)?;
            Ok(all_ok(&state, 1).then(|| subnets(&state)))
        })
        .unwrap()
    };
    let before = settled(&mut cluster);
    cluster.master.kill().unwrap();

    // With empty replicas beside it there is no quorum, and the leader says so.
    cluster.master.set("MESOS_QUORUM", 2);
    cluster.masters().try_for_each(Node::start).unwrap();
    wait::until("what is missing, in health", LIMIT, || {
        let says = |master: &mut Node| {
            let reply = master.client().get("/overlay-master/health");
            reply.is_ok_and(|reply| {
                let text = reply.text();
                text.contains("2 masters must run whose replicas have recovered")
                    && text.contains("the replicas of all 3 masters are new")
            })
        };
        Ok(cluster.masters().any(says).then_some(()))
    })
    .unwrap();
    for master in cluster.masters() {
        // Mesos ends a leader that does not read its registry in time.
        let _ = master.kill();
    }

    let first = cluster.master.dir().to_owned();
    for other in &cluster.other_masters {
        for replica in REPLICAS {
            copy(&first.join(replica), &other.dir().join(replica));
        }
    }
    cluster.masters().try_for_each(Node::start).unwrap();
    assert_eq!(settled(&mut cluster), before);
    cluster.wait_replicas(LIMIT).unwrap();
    // Any one of them can fail now.
    cluster.master.kill().unwrap();
    assert_eq!(settled(&mut cluster), before);
}
