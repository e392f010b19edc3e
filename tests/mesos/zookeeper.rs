//! ZooKeeper's logins, and hosts of ZooKeeper that have no address.

use std::fs;

use serde_json::json;
use testbed::cluster::Cluster;
use testbed::wait;

use crate::common::{LIMIT, all_ok, configure_master, elected, loopback, state, subnets};

#[test]
fn masters_log_in() {
    let Some(mut setup) = elected("masters_log_in", 1) else {
        return;
    };
    setup.zookeeper_login = Some("overlay:s3cr:et".to_owned());
    let mut cluster = Cluster::start(&setup).unwrap();
    let settled = |cluster: &mut Cluster| {
        wait::until("the agent at the leader", LIMIT, || {
            let leader = cluster.wait_leader(LIMIT)?;
            let state = state(leader)?;
            Ok(all_ok(&state, 1).then(|| (leader.name().to_owned(), subnets(&state))))
        })
        .unwrap()
    };
    let (leader, before) = settled(&mut cluster);
    cluster.wait_replicas(LIMIT).unwrap();
    let server = cluster.zookeeper().unwrap();
    let permissions = server.permissions("/mesos/overlay_log_replicas").unwrap();
    assert!(
        permissions.contains("'digest,'overlay:") && permissions.contains("'world,'anyone\n: r"),
        "{permissions}"
    );
    cluster
        .masters()
        .find(|master| master.name() == leader)
        .unwrap()
        .kill()
        .unwrap();
    let (successor, after) = settled(&mut cluster);
    assert_ne!(successor, leader);
    assert_eq!(after, before);
    for master in cluster.masters() {
        let log = fs::read_to_string(master.log_file()).unwrap();
        let ours = log.lines().filter(|line| line.contains("overlay-master:"));
        let shown: Vec<_> = ours.filter(|line| line.contains("s3cr")).collect();
        assert!(shown.is_empty(), "{shown:?}");
    }
}

#[test]
fn a_host_without_an_address_is_named_and_mesos_goes_on() {
    let test = "a_host_without_an_address_is_named_and_mesos_goes_on";
    let Some(setup) = loopback(test, 0) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let url = "zk://127.0.0.1:1,zookeeper.invalid:2181/mesos";
    configure_master(
        &cluster.master,
        &json!({ "zk": { "url": url, "quorum": 1 } }),
    );
    cluster.master.start().unwrap();
    for begins in [
        "The replicated log in ",
        "cannot learn which Mesos master leads: ",
    ] {
        let what = format!("overlay-master: {begins}");
        let line = wait::until(&what, LIMIT, || {
            cluster.check()?;
            let log = cluster.master.log();
            let line = log.lines().find(|line| {
                line.contains(&what) && line.contains("\"zookeeper.invalid\" has no address")
            });
            Ok(line.map(str::to_owned))
        })
        .unwrap();
        assert!(
            line.contains("correct the name, or the name servers"),
            "{line}"
        );
    }
    wait::until("Mesos to go on", LIMIT, || {
        let health = cluster.master.client().get("/master/health")?;
        Ok((health.status == 200).then_some(()))
    })
    .unwrap();
}
