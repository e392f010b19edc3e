//! Healthy clusters, in which nothing is found.

use std::fs;
use std::net::Ipv4Addr;

use serde_json::json;
use testbed::cluster::{Cluster, ClusterConfig};
use testbed::node::Node;

use crate::common::{LIMIT, assert_finds, elected, hosts, program, start, wait_registered};

/// Returns the configuration of a cluster whose overlays have both families.
fn dual_stack(mut setup: ClusterConfig) -> ClusterConfig {
    setup.network = json!({
        "vtep_subnet": "44.128.0.0/20",
        "vtep_subnet6": "fd01:a::/64",
        "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [
            { "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24, "subnet6": "fd01:b::/64", "prefix6": 80 },
            { "name": "web", "subnet": "10.64.0.0/16", "prefix": 24 },
        ],
    });
    setup
}

#[test]
fn nothing_is_found_from_any_host() {
    let Some(setup) = hosts("nothing_is_found_from_any_host", 2) else {
        return;
    };
    let cluster = start(&dual_stack(setup));
    // On the master's host, and on an agent's.
    assert_finds(&program(&cluster.master), &[]);
    let on_agent = program(&cluster.agents[0]);
    assert_finds(&on_agent, &[]);
    // Elsewhere.
    let underlay = cluster.underlay().unwrap();
    let elsewhere = underlay
        .host(cluster.run(), "elsewhere", Ipv4Addr::new(10, 77, 9, 9))
        .unwrap();
    let elsewhere = program(&elsewhere);
    let nowhere = elsewhere.run(&["status"]).unwrap();
    assert_eq!(nowhere.code(), Some(2), "{nowhere}");
    assert!(nowhere.stderr.contains("--master"), "{nowhere}");
    assert_finds(
        &elsewhere.clone().with(&["--master", "10.77.0.1:5050"]),
        &[],
    );
    assert_finds(&elsewhere.env("MESOS_MASTER", "10.77.0.1:5050"), &[]);

    let report = on_agent.json(&["status"]).unwrap();
    let cluster = &report["cluster"];
    assert_eq!(cluster["master"], "10.77.0.1:5050");
    assert_eq!(cluster["agents"]["connected"], 2);
    assert_eq!(cluster["overlays"][0]["subnets"]["used6"], 2, "{report}");
    assert_eq!(cluster["vteps"]["addresses"]["used"], 2);
    let host = &report["host"];
    assert_eq!(host["registered"], true);
    assert_eq!(host["overlays"][1]["addresses"]["mesos"]["in_use"], 0);
    // A neighbour for each family, routes to two subnets of dcos and one of web, and to the peer
    // itself.
    let wanted = |kind: &str| host["objects"][kind]["wanted"].clone();
    let kinds = [
        "bridges",
        "cni_files",
        "fdb_entries",
        "neighbours",
        "routes",
        "rules",
    ];
    assert_eq!(
        kinds.map(wanted),
        [2, 2, 1, 2, 4, 3].map(|n| json!(n)),
        "{host}"
    );
    assert_eq!(report["notes"], json!(null), "{report}");
}

/// Without rights the firewall cannot be read, and processes of others are not seen.
#[test]
fn a_user_without_rights_sees_the_rest() {
    let Some(setup) = hosts("a_user_without_rights_sees_the_rest", 1) else {
        return;
    };
    let cluster = start(&setup);
    let agent = &cluster.agents[0];
    let config = agent.dir().join("agent.json").display().to_string();
    let nobody =
        program(agent)
            .as_nobody()
            .with(&["--master", "10.77.0.1:5050", "--agent-config", &config]);
    let outcome = nobody.ask(&["status"]).unwrap();
    assert!(outcome.codes().unwrap().is_empty(), "{outcome}");
    let report = outcome.json().unwrap();
    assert_eq!(
        report["host"]["objects"]["rules"]["differences"], 0,
        "{report}"
    );
    let notes = report["notes"].to_string();
    assert!(notes.contains("firewall was not compared"), "{notes}");
}

#[test]
fn the_page_fits_on_a_screen() {
    let Some(setup) = hosts("the_page_fits_on_a_screen", 1) else {
        return;
    };
    let cluster = start(&setup);
    let page = program(&cluster.agents[0]).run(&["status"]).unwrap();
    assert!(page.status.success(), "{page}");
    assert!(page.stdout.contains("Nothing is wrong."), "{page}");
    assert!(page.stdout.contains("10.77.1.1"), "{page}");
    assert!(page.stdout.lines().count() < 40, "{page}");
    assert!(
        !page.stdout.contains('\u{1b}'),
        "there is no terminal: {page}"
    );
}

#[test]
fn the_leading_one_of_three_masters_is_found() {
    let Some(setup) = elected("the_leading_one_of_three_masters_is_found", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    cluster.wait_replicas(LIMIT).unwrap();
    let leader = cluster.wait_leader(LIMIT).unwrap().address().to_string();
    let zk = cluster.zookeeper().unwrap().url(None);
    let file = cluster.run().dir().join("zk");
    fs::write(&file, format!("{zk}\n")).unwrap();
    let addresses: Vec<String> = cluster
        .masters()
        .map(|master| master.address().to_string())
        .collect();
    let standby = addresses
        .iter()
        .find(|address| **address != leader)
        .unwrap();
    let places = [
        zk,
        format!("file://{}", file.display()),
        standby.clone(),
        addresses.join(","),
    ];
    for place in places {
        let program = program(&cluster.master).with(&["--master", &place]);
        assert_finds(&program, &[]);
        let report = program.json(&["status"]).unwrap();
        assert_eq!(report["cluster"]["master"], leader, "{place}");
    }
    // By the flags of the Mesos on each host.
    for master in cluster.masters() {
        assert_finds(&program(master), &[]);
    }
    assert_finds(&program(&cluster.agents[0]), &[]);
}

/// Has Mesos authenticate all requests.
fn authenticate(node: &mut Node, flag: &str) {
    let credentials = json!({"credentials": [{"principal": "operator", "secret": "secret"}]});
    let file = node.dir().join("credentials.json");
    fs::write(&file, credentials.to_string()).unwrap();
    node.set(flag, file.display());
    node.set("MESOS_AUTHENTICATE_HTTP_READWRITE", "true");
    node.set("MESOS_AUTHENTICATE_HTTP_READONLY", "true");
    let role = if flag == "MESOS_CREDENTIALS" {
        "master"
    } else {
        "agent"
    };
    node.configure(|config| config["authenticate_http"] = "all".into())
        .unwrap_or_else(|error| panic!("{role}: {error}"));
}

/// Waits like [`wait_registered`], for agents that demand a login.
fn start_authenticating(setup: &ClusterConfig) -> Cluster {
    let mut cluster = Cluster::prepare(setup).unwrap();
    cluster.start_all().unwrap();
    wait_registered(&mut cluster);
    authenticate(&mut cluster.master, "MESOS_CREDENTIALS");
    authenticate(&mut cluster.agents[0], "MESOS_HTTP_CREDENTIALS");
    cluster.master.restart().unwrap();
    cluster.agents[0].restart().unwrap();
    cluster
}

#[test]
fn a_login_is_given_and_demanded() {
    let Some(setup) = hosts("a_login_is_given_and_demanded", 1) else {
        return;
    };
    let cluster = start_authenticating(&setup);
    let secret = cluster.run().dir().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    let secret = secret.display().to_string();
    let without = program(&cluster.agents[0]);
    let with = without
        .clone()
        .with(&["--principal", "operator", "--secret-file", &secret]);
    let outcome = with
        .run(&["status", "--wait", "--wait-limit", "60"])
        .unwrap();
    assert!(outcome.status.success(), "{outcome}");
    assert_finds(&with, &[]);
    let outcome = without.run(&["status"]).unwrap();
    assert_eq!(outcome.code(), Some(2), "{outcome}");
    assert!(outcome.stderr.contains("--principal"), "{outcome}");
}
