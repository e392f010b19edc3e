//! `mesos-overlay agents`.

use serde_json::json;
use testbed::cluster::Cluster;
use testbed::wait;

use crate::terminal::Asking;
use crate::{LIMIT, get, loopback, program, start, wait_connected};

/// Returns the addresses of the agents in the state.
fn agents(cluster: &Cluster) -> Vec<String> {
    let state = get(&cluster.master, "/overlay-master/state");
    let agents = state["agents"].as_array().cloned().unwrap_or_default();
    agents
        .iter()
        .map(|agent| agent["ip"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn agents_are_listed_shown_and_deleted() {
    let Some(setup) = loopback("agents_are_listed_shown_and_deleted", 3) else {
        return;
    };
    let mut cluster = start(&setup);
    cluster.wait_mesos(LIMIT).unwrap();
    let ips: Vec<String> = cluster.agents.iter().map(|agent| agent.ip()).collect();
    let program = program(&cluster);
    let run = |arguments: &[&str]| program.run(arguments).unwrap();
    let list = program.json(&["agents", "list"]).unwrap();
    assert_eq!(
        (&list["total"], &list["connected"]),
        (&json!(3), &json!(3)),
        "{list}"
    );
    let shown = program.json(&["agents", "show", &ips[0]]).unwrap();
    assert_eq!(shown["own"]["registered"], true, "{shown}");
    assert_eq!(shown["mesos"]["hostname"], json!(ips[0]), "{shown}");
    assert_eq!(
        shown["own"]["addresses"]["dcos"]["mesos"]["total"], 125,
        "{shown}"
    );
    let id = shown["mesos"]["id"].as_str().unwrap();
    assert_eq!(
        program.json(&["agents", "show", id]).unwrap()["agent"]["ip"],
        json!(ips[0])
    );

    let connected = run(&["agents", "delete", &ips[1], "--yes"]);
    assert_eq!(connected.code(), Some(1), "{connected}");
    assert!(
        connected
            .stderr
            .contains("stop these agents first, or give --force"),
        "{connected}"
    );
    assert_eq!(agents(&cluster), ips);

    cluster.agents[1].kill().unwrap();
    cluster.agents[2].kill().unwrap();
    wait_connected(&cluster, &ips[1], false);
    wait_connected(&cluster, &ips[2], false);
    let lost = program.json(&["agents", "list", "--lost"]).unwrap();
    assert_eq!(lost["agents"].as_array().unwrap().len(), 2, "{lost}");
    let away = run(&["agents", "show", &ips[1]]);
    assert!(
        away.stdout.contains("not connected for")
            && away.stdout.contains("the agent itself cannot be asked"),
        "{away}"
    );

    let delete = ["agents", "delete", &ips[1], &ips[2], "10.99.99.99"];
    let planned = run(&[&delete[..], &["--dry-run"]].concat());
    assert_eq!(planned.code(), Some(0), "{planned}");
    assert!(
        planned
            .stdout
            .contains("the master does not know 1 agent: 10.99.99.99"),
        "{planned}"
    );
    let refused = run(&delete);
    assert_eq!(refused.code(), Some(2), "{refused}");
    assert_eq!(agents(&cluster), ips);
    let (code, _, error) = Asking::start(&program, &delete).answer("2");
    assert_eq!(code, Some(2), "three were named: {error}");
    let asking = Asking::start(&program, &delete);
    assert!(
        asking.said().contains(&format!(
            "of dcos of agent {} become free (not connected for",
            ips[1]
        )),
        "{}",
        asking.said()
    );
    let (code, out, error) = asking.answer("3");
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(
        out.contains(&format!("Deleted agent {}: VTEP 44.128.0.", ips[1])),
        "{out}"
    );
    assert_eq!(agents(&cluster), ips[..1]);

    let forced = program
        .json(&["agents", "delete", &ips[0], "--force", "--yes"])
        .unwrap();
    assert_eq!(forced["agents"][0]["ip"], json!(ips[0]), "{forced}");
    wait_connected(&cluster, &ips[0], true);
    assert_eq!(
        run(&["agents", "delete", "no-such-host", "--yes"]).code(),
        Some(2)
    );
    assert_eq!(run(&["agents", "show", "10.99.99.99"]).code(), Some(2));
}

#[test]
fn what_lost_agents_hold_is_reclaimed_when_their_leases_ended() {
    let Some(setup) = loopback(
        "what_lost_agents_hold_is_reclaimed_when_their_leases_ended",
        2,
    ) else {
        return;
    };
    let mut cluster = start(&setup);
    let ips: Vec<String> = cluster.agents.iter().map(|agent| agent.ip()).collect();
    let none = program(&cluster)
        .run(&["agents", "reclaim", &ips[0], "--yes"])
        .unwrap();
    assert_eq!(none.code(), Some(1), "{none}");
    assert!(
        none.stderr
            .contains("Nothing was reclaimed: leases end only with agent_lease"),
        "{none}"
    );
    cluster
        .master
        .configure(|config| config["agent_lease"] = "1secs".into())
        .unwrap();
    cluster.master.restart().unwrap();
    for ip in &ips {
        wait_connected(&cluster, ip, true);
    }
    let program = program(&cluster);
    let active = program
        .run(&["agents", "reclaim", &ips[0], "--yes"])
        .unwrap();
    assert_eq!(active.code(), Some(1), "{active}");
    assert!(
        active.stderr.contains(&format!("{} (connected)", ips[0])),
        "{active}"
    );
    let nothing = program.run(&["agents", "reclaim", "--all"]).unwrap();
    assert_eq!(
        nothing.code(),
        Some(0),
        "nothing is lost, so nobody is asked: {nothing}"
    );
    assert!(nothing.stdout.contains("no lease has ended"), "{nothing}");
    cluster.agents[1].kill().unwrap();
    wait_connected(&cluster, &ips[1], false);
    assert_eq!(
        program.run(&["agents", "reclaim", "--all"]).unwrap().code(),
        Some(2)
    );
    wait::until("the end of the lease", LIMIT, || {
        let done = program.json(&["agents", "reclaim", "--all", "--yes"])?;
        Ok((done["agents"][0]["ip"] == json!(ips[1])).then_some(()))
    })
    .unwrap();
    assert_eq!(agents(&cluster), ips[..1]);
}
