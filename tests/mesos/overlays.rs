//! Changes of overlays while the cluster runs.

use anyhow::Result;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, Launcher};
use testbed::container::Container;
use testbed::framework::{Framework, TaskSpec};
use testbed::http::Reply;
use testbed::node::Node;
use testbed::task::TaskClient;
use testbed::{skip, wait};

use crate::common::{
    LIMIT, all_ok, assert_reach, delete_dead, hosts, loopback, start, wait_reach, wait_state,
};

const OVERLAYS: &str = "/overlay-master/overlays";

fn ask(master: &Node, method: &str, name: &str, body: &Value) -> Reply {
    try_ask(master, method, name, body).unwrap()
}

/// Fails while the master is not running.
fn try_ask(master: &Node, method: &str, name: &str, body: &Value) -> Result<Reply> {
    let path = if name.is_empty() {
        OVERLAYS.to_owned()
    } else {
        format!("{OVERLAYS}/{name}")
    };
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    master.client().request(method, &path, &[], body.as_bytes())
}

/// Requests a change, which must succeed.
#[track_caller]
fn done(master: &Node, method: &str, name: &str, body: &Value) -> Value {
    let reply = ask(master, method, name, body);
    let status = if method == "POST" { 201 } else { 200 };
    assert_eq!(
        reply.status,
        status,
        "{method} {name} {body}: {}",
        reply.text()
    );
    reply.json().unwrap()
}

/// Requests a change, which must be refused with this status and text.
#[track_caller]
fn refused(master: &Node, method: &str, name: &str, body: &Value, status: u16, says: &str) {
    let reply = ask(master, method, name, body);
    assert_eq!(
        reply.status,
        status,
        "{method} {name} {body}: {}",
        reply.text()
    );
    assert!(reply.text().contains(says), "{}", reply.text());
}

/// Returns the subnets of an overlay by agent, in the order of the agents' addresses.
fn subnets(state: &Value, overlay: &str) -> Vec<String> {
    let agents = state["agents"].as_array().into_iter().flatten();
    let overlays = agents.flat_map(|agent| agent["overlays"].as_array().into_iter().flatten());
    let of = overlays.filter(|entry| entry["info"]["name"] == overlay);
    of.filter_map(|entry| Some(entry["subnet"].as_str()?.to_owned()))
        .collect()
}

/// Waits until a number of agents report the overlay as OK.
#[track_caller]
fn wait_for(cluster: &mut Cluster, overlay: &str, agents: usize) -> Vec<String> {
    let what = format!("{agents} agents with {overlay}");
    let state = wait_state(cluster, &what, |state| {
        all_ok(state, cluster_size(state)) && subnets(state, overlay).len() == agents
    });
    subnets(&state, overlay)
}

fn cluster_size(state: &Value) -> usize {
    state["agents"].as_array().map_or(0, Vec::len)
}

/// Waits until a number of agents still use a removed overlay.
#[track_caller]
fn wait_holders(cluster: &Cluster, overlay: &str, holders: &[&str]) {
    wait::until(
        &format!("{holders:?} to be the holders of {overlay}"),
        LIMIT,
        || {
            let reply = try_ask(&cluster.master, "GET", overlay, &Value::Null)?;
            let list = reply
                .json()
                .ok()
                .and_then(|json| json["holders"].as_array().cloned())
                .unwrap_or_default();
            let done = reply.status != 503 && list == holders;
            Ok(done.then_some(()))
        },
    )
    .unwrap();
}

#[test]
fn overlays_come_change_and_go() {
    let Some(setup) = loopback("overlays_come_change_and_go", 3) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "three agents", |state| all_ok(state, 3));
    let web = json!({"name": "web", "subnet": "11.128.0.0/16", "prefix": 24});
    refused(
        &cluster.master,
        "POST",
        "",
        &json!({"name": "web"}),
        400,
        "subnet",
    );
    let dcos = ask(&cluster.master, "GET", "dcos", &Value::Null)
        .json()
        .unwrap();
    assert_eq!(
        (&dcos["source"], &dcos["state"]),
        (&json!("file"), &json!("active"))
    );
    let useless = json!({"name": "web", "subnet": "127.0.0.0/8", "prefix": 24});
    let loopback = "overlaps the loopback range";
    refused(&cluster.master, "POST", "", &useless, 400, loopback);
    let inside = json!({"name": "web", "subnet": dcos["info"]["subnet"], "prefix": 30});
    refused(&cluster.master, "POST", "", &inside, 409, "overlaps");
    refused(&cluster.master, "PUT", "web", &web, 404, "no overlay web");
    assert_eq!(
        ask(&cluster.master, "PATCH", "dcos", &Value::Null).status,
        405
    );
    assert_eq!(
        ask(&cluster.master, "GET", "dcos/more", &Value::Null).status,
        404
    );

    let reply = ask(&cluster.master, "POST", "", &web);
    assert_eq!(
        (reply.status, reply.header("Location")),
        (201, "/overlay-master/overlays/web")
    );
    let three = ["11.128.0.0/24", "11.128.1.0/24", "11.128.2.0/24"];
    assert_eq!(wait_for(&mut cluster, "web", 3), three);

    // The change is in the log; the next agent gets a smaller subnet.
    let smaller = json!({"subnet": "11.128.0.0/16", "prefix": 26});
    cluster.master.kill().unwrap();
    cluster.master.start().unwrap();
    assert_eq!(wait_for(&mut cluster, "web", 3), three);
    let last = cluster.agents[2].ip();
    cluster.agents[2].kill().unwrap();
    delete_dead(&cluster.master, &json!([last]));
    let shown = done(&cluster.master, "PUT", "web", &smaller);
    assert_eq!(
        (&shown["info"]["prefix"], &shown["source"]),
        (&json!(26), &json!("stored"))
    );
    cluster.agents[2].start().unwrap();
    assert_eq!(
        wait_for(&mut cluster, "web", 3),
        ["11.128.0.0/24", "11.128.1.0/24", "11.128.2.0/26"]
    );

    // No container runs, so it drains at once. The overlay in the file stays removed.
    done(&cluster.master, "DELETE", "web", &Value::Null);
    done(&cluster.master, "DELETE", "dcos", &Value::Null);
    wait_holders(&cluster, "web", &[]);
    wait_holders(&cluster, "dcos", &[]);
    cluster.master.restart().unwrap();
    let list = wait::until("the overlays", LIMIT, || {
        let reply = try_ask(&cluster.master, "GET", "", &Value::Null)?;
        (reply.status == 200).then(|| reply.json()).transpose()
    });
    let list = list.unwrap();
    let names: Vec<_> = list["overlays"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (&it["name"], &it["state"]))
        .collect();
    assert_eq!(names, [(&json!("dcos"), &json!("removed"))]);
    done(&cluster.master, "PUT", "dcos", &json!({"source": "file"}));
    wait_for(&mut cluster, "dcos", 3);
}

#[test]
fn a_removed_overlay_drains() {
    let Some(mut setup) = hosts("a_removed_overlay_drains", 2) else {
        return;
    };
    setup.launcher = Launcher::Posix;
    let mut cluster = start(&setup);
    let attach = |cluster: &Cluster, overlay: &str, name: &str, agent: usize| {
        let agent = &cluster.agents[agent];
        let config = agent.dir().join(format!("cni/{overlay}.conf"));
        wait::until("the CNI file", LIMIT, || Ok(config.exists().then_some(()))).unwrap();
        Container::attach(cluster.run(), agent.host().unwrap(), name, &config).unwrap()
    };
    let old = [("a", 0), ("b", 1)].map(|(name, agent)| attach(&cluster, "dcos", name, agent));
    wait_reach(&[old[0].client(), old[1].client()]);
    old[0].client().watch(old[1].client().address()).unwrap();

    let web = json!({"name": "web", "subnet": "11.128.0.0/16", "prefix": 24});
    done(&cluster.master, "POST", "", &web);
    wait_for(&mut cluster, "web", 2);
    let new = [("c", 0), ("d", 1)].map(|(name, agent)| attach(&cluster, "web", name, agent));
    wait_reach(&[new[0].client(), new[1].client()]);

    // The overlay is in use and stays with its containers, also across restarts of the master.
    let ips = [cluster.agents[0].ip(), cluster.agents[1].ip()];
    let both = [ips[0].as_str(), ips[1].as_str()];
    done(&cluster.master, "DELETE", "web", &Value::Null);
    let gone = |cluster: &Cluster| {
        cluster
            .agents
            .iter()
            .all(|agent| !agent.dir().join("cni/web.conf").exists())
    };
    wait::until("the CNI files to be gone", LIMIT, || {
        Ok(gone(&cluster).then_some(()))
    })
    .unwrap();
    assert_reach(&[new[0].client(), new[1].client()]);
    wait_holders(&cluster, "web", &both);
    let other = json!({"name": "other", "subnet": "11.128.0.0/17", "prefix": 24});
    refused(&cluster.master, "POST", "", &other, 409, "still drains");
    cluster.master.kill().unwrap();
    assert_reach(&[new[0].client(), new[1].client()]);
    cluster.master.start().unwrap();
    wait_holders(&cluster, "web", &both);

    let [c, d] = new;
    c.detach().unwrap();
    wait_holders(&cluster, "web", &both[1..]);
    d.detach().unwrap();
    wait_holders(&cluster, "web", &[]);
    refused(
        &cluster.master,
        "GET",
        "web",
        &Value::Null,
        404,
        "no overlay web",
    );
    done(&cluster.master, "POST", "", &other);
    assert_eq!(
        wait_for(&mut cluster, "other", 2),
        ["11.128.0.0/24", "11.128.1.0/24"]
    );

    let seen = old[0].client().report().unwrap().remove(0);
    assert_eq!(seen.failures, 0, "{seen:?}");
}

#[test]
fn tasks_run_on_an_overlay_that_was_added() {
    let name = "tasks_run_on_an_overlay_that_was_added";
    let Some(setup) = hosts(name, 2) else { return };
    if setup.launcher != Launcher::Linux {
        return skip::skip(
            name,
            "Mesos needs the cgroup v1 freezer to start containers on a network",
        );
    }
    let mut cluster = start(&setup);
    done(
        &cluster.master,
        "POST",
        "",
        &json!({"name": "web", "subnet": "11.128.0.0/16", "prefix": 24}),
    );
    wait_for(&mut cluster, "web", 2);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let tasks = [("a", 0), ("b", 1)].map(|(id, agent)| {
        let agent = &cluster.agents[agent];
        framework
            .launch(&TaskSpec::new(id, &agent.ip(), Some("web")), LIMIT)
            .unwrap();
        let address = framework
            .wait_running(id, LIMIT)
            .unwrap()
            .address()
            .unwrap();
        TaskClient::new(address, agent.host().map(|host| host.netns().clone()))
    });
    wait_reach(&tasks);
}
