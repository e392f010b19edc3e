//! `mesos-overlay whois`.

use serde_json::Value;
use testbed::cluster::Launcher;
use testbed::framework::{Framework, TaskSpec};
use testbed::program::Program;
use testbed::skip;

use crate::common::{LIMIT, hosts, program, start};

/// Returns what has an address or a name, which must be one.
#[track_caller]
fn one(program: &Program, query: &str) -> Value {
    let outcome = program.ask(&["whois", query]).unwrap();
    assert!(outcome.codes().unwrap().is_empty(), "{outcome}");
    let report = outcome.json().unwrap();
    let matches = report["matches"].as_array().unwrap();
    assert_eq!(matches.len(), 1, "{outcome}");
    matches[0].clone()
}

#[test]
fn addresses_and_names_are_known() {
    let Some(setup) = hosts("addresses_and_names_are_known", 2) else {
        return;
    };
    let cluster = start(&setup);
    let program = program(&cluster.agents[0]);
    let state = cluster.master.overlay_state().unwrap();
    let agent = &state["agents"][1];
    let vxlan = &agent["overlays"][0]["backend"]["vxlan"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let vtep = text(&vxlan["vtep_ip"]).replace("/20", "");
    let subnet = text(&agent["overlays"][0]["subnet"]).replace(".0/24", "");

    let found = one(&program, "10.77.1.2");
    assert_eq!(
        (&found["role"], &found["hostname"]),
        (&"agent".into(), &"10.77.1.2".into())
    );
    assert_eq!(found["vtep"][0], vtep.as_str());
    for query in [vtep, text(&vxlan["vtep_mac"]).to_uppercase()] {
        let found = one(&program, &query);
        assert_eq!(found["role"], "vtep", "{found}");
        assert_eq!(found["agent"], "10.77.1.2");
    }
    for (last, role) in [
        (".0", "network_address"),
        (".1", "gateway"),
        (".9", "free"),
        (".127", "broadcast_address"),
    ] {
        let found = one(&program, &format!("{subnet}{last}"));
        assert_eq!(found["role"], role, "{found}");
        assert_eq!(
            (&found["agent"], &found["overlay"]),
            (&"10.77.1.2".into(), &"dcos".into())
        );
    }
    assert_eq!(one(&program, "9.200.0.1")["role"], "unassigned");
    assert_eq!(one(&program, "10.77.0.1")["role"], "master");
    assert_eq!(one(&program, "dcos")["ranges"][0], "9.0.0.0/8");

    for nobody in ["8.8.8.8", "70:b3:d5:99:99:99", "nobody"] {
        let outcome = program.ask(&["whois", nobody]).unwrap();
        assert!(outcome.codes().unwrap().contains("not-found"), "{outcome}");
    }
    let page = program.run(&["whois", "nobody"]).unwrap();
    assert_eq!(page.code(), Some(1), "{page}");
    assert!(page.stdout.contains("\"nobody\""), "{page}");
}

#[test]
fn tasks_have_addresses_and_addresses_tasks() {
    let test = "tasks_have_addresses_and_addresses_tasks";
    let Some(setup) = hosts(test, 2) else {
        return;
    };
    if setup.launcher != Launcher::Linux {
        skip::skip(test, "containers of Mesos need the cgroup v1 freezer");
        return;
    }
    let cluster = start(&setup);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let agent = &cluster.agents[1];
    let task = TaskSpec::new("web-1", &agent.ip(), Some("dcos"));
    framework.launch(&task, LIMIT).unwrap();
    let running = framework.wait_running("web-1", LIMIT).unwrap();
    let ip = running.ips[0].to_string();
    // Elsewhere than on the agent's own host.
    let program = program(&cluster.agents[0]);
    let found = one(&program, &ip);
    assert_eq!(
        (&found["role"], &found["task_id"]),
        (&"container".into(), &"web-1".into())
    );
    assert_eq!(
        (&found["agent"], &found["bridge"]),
        (&"10.77.1.2".into(), &"m-dcos".into())
    );
    let container = found["container_id"].as_str().unwrap().to_owned();
    assert!(found["framework_name"].is_string(), "{found}");
    for name in ["web-1", &container] {
        let found = one(&program, name);
        assert_eq!(found["container_id"], container.as_str(), "{found}");
        assert_eq!(found["addresses"][0], format!("{ip} on dcos"), "{found}");
        assert_eq!(found["agent"], "10.77.1.2");
    }
}
