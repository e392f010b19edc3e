//! Messages to the master, "from" an agent that is another's.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::container::Container;
use testbed::packet_loss::Traffic;
use testbed::wait;
use testkit::blind::Flood;
use testkit::watch::Watch;

use super::{
    Bounds, Kernels, RATE, agent, assert_warned, attacked, containers, forged, host, master, sender,
};
use crate::common::{LIMIT, all_ok, start, state, wait_reach, wait_state};

/// Limit of a flood that a test ends.
const LONGEST: Duration = Duration::from_secs(60);

/// Floods the master from the second agent's host with messages "from" the first agent.
fn flood(cluster: &Cluster) -> Flood {
    let victim = agent(&cluster.agents[0]);
    let mut other_port = victim.clone();
    other_port.address.set_port(6666);
    let (victim, other_port) = (victim.to_string(), other_port.to_string());
    let sender = sender(&cluster.agents[1], &master(cluster));
    let make = move |number| forged::of_victim(&victim, &other_port, number);
    Flood::steady(sender, RATE, LONGEST, make)
}

/// Makes up registrations and reports of an agent, whose containers must not notice.
#[test]
fn a_victim_keeps_its_network() {
    let Some(setup) = attacked("a_victim_keeps_its_network", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "both agents", |state| all_ok(state, 2));
    let containers = containers(&cluster, ["a", "b"]);
    let tasks = containers.each_ref().map(Container::client);
    wait_reach(&tasks);
    let traffic = Traffic::start(&tasks, LIMIT).unwrap();
    let before = state(&cluster.master).unwrap();
    let kernels = Kernels::of(&cluster);
    let watch = Watch::start(&cluster.master, "/overlay-master/health").unwrap();

    let mut flood = flood(&cluster);
    traffic.flow(2000, LIMIT).unwrap();
    let sent = flood.stop().unwrap();
    traffic.flow(500, LIMIT).unwrap();
    let watched = watch.stop(&format!("row 4, {sent:?}")).unwrap();
    kernels.assert_unchanged(&cluster, "messages of the victim's name");
    assert_eq!(state(&cluster.master).unwrap(), before);
    assert_warned(&cluster.master, &agent(&cluster.agents[0]));
    Bounds::USUAL.assert(&watched);
    assert!(sent.messages > 200, "{sent:?}");
    for outcome in traffic.finish().unwrap() {
        assert!(outcome.lost == 0, "{outcome:?}");
    }
}

/// Returns the answer to a request about overlays, which must succeed.
#[track_caller]
fn ask(cluster: &Cluster, method: &str, path: &str, body: &Value) -> Value {
    let path = format!("/overlay-master/overlays{path}");
    let headers = [("Content-Type", "application/json")];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let client = cluster.master.client();
    let reply = client
        .request(method, &path, &headers, body.as_bytes())
        .unwrap();
    assert!(reply.status < 300, "{method} {path}: {}", reply.text());
    reply.json().unwrap()
}

/// Removes an overlay that a container uses, and makes up reports that the host has let go of it.
#[test]
fn a_draining_overlay_stays_with_its_user() {
    let Some(setup) = attacked("a_draining_overlay_stays_with_its_user", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    let web = json!({"name": "web", "subnet": "11.128.0.0/16", "prefix": 24});
    ask(&cluster, "POST", "", &web);
    let config = cluster.agents[0].dir().join("cni/web.conf");
    wait::until("the CNI file", LIMIT, || Ok(config.exists().then_some(()))).unwrap();
    wait_state(&mut cluster, "both overlays", |state| all_ok(state, 2));
    let on_host = host(&cluster.agents[0]);
    let user = Container::attach(cluster.run(), on_host, "a", &config).unwrap();
    ask(&cluster, "DELETE", "/web", &Value::Null);
    let victim = cluster.agents[0].ip();
    let holders = |cluster: &Cluster| ask(cluster, "GET", "/web", &Value::Null)["holders"].clone();
    wait::until("the other agent to let go", LIMIT, || {
        ensure!(
            holders(&cluster) == json!([victim]),
            "{}",
            holders(&cluster)
        );
        Ok(Some(()))
    })
    .unwrap();

    // All revisions are tried twice within this.
    let mut flood = flood(&cluster);
    let client = cluster.master.client();
    let received = || {
        let metrics = client.get("/metrics/snapshot")?.json()?;
        let name = "overlay/master/internal/agent_registered_messages_received";
        Ok((metrics[name].as_f64() >= Some(240.0)).then_some(()))
    };
    wait::until("the reports", LIMIT, received).unwrap();
    let sent = flood.stop().unwrap();
    println!("row 4, draining: {sent:?}");
    assert_eq!(holders(&cluster), json!([victim]));
    assert_warned(&cluster.master, &agent(&cluster.agents[0]));
    let other = json!({"name": "other", "subnet": "11.128.0.0/16", "prefix": 24});
    let body = other.to_string();
    let refused = client.request(
        "POST",
        "/overlay-master/overlays",
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    );
    assert_eq!(refused.unwrap().status, 409, "the range is in use");

    user.detach().unwrap();
    wait::until("the end of the overlay", LIMIT, || {
        Ok((client.get("/overlay-master/overlays/web")?.status == 404).then_some(()))
    })
    .unwrap();
}
