//! Election of masters through a real ZooKeeper, and replicas of the log that find each other there.

use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::node::Node;
use testbed::wait;

use crate::common::{LIMIT, all_ok, delete_dead, elected, state, subnets};

/// Waits until the leader reports all agents as OK. Returns its name and state.
#[track_caller]
fn settled(cluster: &mut Cluster, agents: usize) -> (String, Value) {
    wait::until("the agents at the leader", LIMIT, || {
        let leader = cluster.wait_leader(LIMIT)?;
        let state = state(leader)?;
        Ok(all_ok(&state, agents).then(|| (leader.name().to_owned(), state)))
    })
    .unwrap()
}

fn named<'a>(cluster: &'a mut Cluster, name: &str) -> &'a mut Node {
    cluster
        .masters()
        .find(|master| master.name() == name)
        .unwrap()
}

fn others(cluster: &mut Cluster, leader: &str) -> Vec<String> {
    cluster
        .masters()
        .map(|master| master.name().to_owned())
        .filter(|name| name != leader)
        .collect()
}

#[test]
fn only_the_leader_serves_and_its_successor_has_its_state() {
    let Some(setup) = elected("only_the_leader_serves_and_its_successor_has_its_state", 2) else {
        return;
    };
    let mut cluster = Cluster::start(&setup).unwrap();
    let (leader, before) = settled(&mut cluster, 2);
    for standby in others(&mut cluster, &leader) {
        let reply = named(&mut cluster, &standby)
            .client()
            .get("/overlay-master/state")
            .unwrap();
        assert_eq!(reply.status, 503, "{standby} does not lead");
        // The answer names the leader.
        let address = named(&mut cluster, &leader).address().to_string();
        assert!(reply.text().contains(&address), "{}", reply.text());
    }

    cluster.wait_replicas(LIMIT).unwrap();
    named(&mut cluster, &leader).kill().unwrap();
    let (successor, after) = settled(&mut cluster, 2);
    assert_ne!(successor, leader);
    assert_eq!(subnets(&after), subnets(&before));

    // The old leader returns as a standby and does not take over the log.
    named(&mut cluster, &leader).start().unwrap();
    let returned = named(&mut cluster, &leader).client();
    wait::until("the standby's answer", LIMIT, || {
        let reply = returned.get("/overlay-master/state")?;
        let address = named(&mut cluster, &successor).address().to_string();
        Ok((reply.status == 503 && reply.text().contains(&address)).then_some(()))
    })
    .unwrap();
    let agent = cluster.agents[1].ip();
    cluster.agents[1].kill().unwrap();
    delete_dead(named(&mut cluster, &successor), &json!([agent]));
    assert_eq!(settled(&mut cluster, 1).0, successor);
}

/// Checks the majority: two of three masters can write; one alone cannot, and confirms nothing.
#[test]
fn without_a_majority_nothing_is_reported_as_done() {
    let Some(setup) = elected("without_a_majority_nothing_is_reported_as_done", 1) else {
        return;
    };
    let mut cluster = Cluster::start(&setup).unwrap();
    let (leader, before) = settled(&mut cluster, 1);
    let others = others(&mut cluster, &leader);
    for other in &others {
        named(&mut cluster, other).kill().unwrap();
    }
    let delete = json!({ "agents": [cluster.agents[0].ip()], "force": true });
    // Either no answer within the timeout, or an error.
    let reply = named(&mut cluster, &leader)
        .client()
        .post("/overlay-master/agents/delete", &delete);
    if let Ok(reply) = reply {
        assert_eq!(reply.status, 503, "{}", reply.text());
    }
    for other in &others {
        named(&mut cluster, other).start().unwrap();
    }
    // The agent may have been deleted, but is registered (again) with the lowest free subnet.
    assert_eq!(subnets(&settled(&mut cluster, 1).1), subnets(&before));
}

#[test]
fn a_write_without_an_answer_opens_the_log_anew() {
    let test = "a_write_without_an_answer_opens_the_log_anew";
    let Some(setup) = elected(test, 0) else {
        return;
    };
    let mut cluster = Cluster::start(&setup).unwrap();
    let leader = cluster.wait_leader(LIMIT).unwrap().name().to_owned();
    cluster.wait_replicas(LIMIT).unwrap();
    let standbys = others(&mut cluster, &leader);
    for standby in &standbys {
        named(&mut cluster, standby).kill().unwrap();
    }
    let overlay =
        |name: &str, subnet: &str| json!({ "name": name, "subnet": subnet, "prefix": 24 });
    let client = named(&mut cluster, &leader).client();
    // The client may give up before the master does.
    let _ = client.post("/overlay-master/overlays", &overlay("a", "10.1.0.0/16"));
    named(&mut cluster, &leader)
        .wait_log("Writing the replicated log failed", LIMIT)
        .unwrap();
    for standby in &standbys {
        named(&mut cluster, standby).start().unwrap();
    }
    // Whether the first one was written is not known.
    wait::until("another overlay", LIMIT, || {
        let leader = cluster.wait_leader(LIMIT)?;
        let body = overlay("b", "10.2.0.0/16");
        let reply = leader.client().post("/overlay-master/overlays", &body)?;
        Ok(matches!(reply.status, 201 | 409).then_some(()))
    })
    .unwrap();
    let log = std::fs::read_to_string(named(&mut cluster, &leader).log_file()).unwrap();
    assert!(
        log.contains("log-replica(2001)"),
        "another replica in ZooKeeper"
    );
    cluster.wait_replicas(LIMIT).unwrap();
    let serving = cluster.wait_leader(LIMIT).unwrap();
    serving.kill().unwrap();
    let names = state(cluster.wait_leader(LIMIT).unwrap()).unwrap();
    let names = names["network"]["overlays"].to_string();
    assert!(names.contains("10.2.0.0/16"), "{names}");
}
