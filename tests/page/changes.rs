//! Changes of networks and agents from the page.

use serde_json::{Value, json};
use testbed::framework::Framework;

use crate::cluster::{Shown, launch, two_networks};
use crate::common;

/// Types values into the fields of the form.
fn fill(shown: &Shown, values: &[(&str, &str)]) {
    for (name, value) in values {
        let script =
            format!("const f = document.querySelector('[name={name}]'); f.focus(); f.select();");
        shown.browser.eval(&script);
        shown.browser.type_text(value);
    }
}

fn overlay(shown: &Shown, name: &str) -> Value {
    let overview = shown.json("/overlay-master/overview");
    let overlays = overview["overlays"].as_array().unwrap();
    let found = overlays.iter().find(|overlay| overlay["name"] == name);
    found.cloned().unwrap_or_default()
}

#[test]
fn networks_and_agents_are_changed_from_the_page() {
    let Some(setup) = two_networks("networks_and_agents_are_changed_from_the_page", 2) else {
        return;
    };
    let mut shown = Shown::new(common::start(&setup));
    let framework = Framework::subscribe(shown.cluster.master.client()).unwrap();
    launch(&shown.cluster, &framework, 0, &[("user", "web")]);
    add(&shown);
    change(&shown);
    remove(&shown);
    delete(&mut shown);
    let console = shown.browser.console();
    let policy: Vec<_> = console
        .iter()
        .filter(|line| line.contains("Policy"))
        .collect();
    assert!(policy.is_empty(), "{policy:?}");
}

fn add(shown: &Shown) {
    shown.open("#/add", "Add a network");
    // What the master refuses is said, and changes nothing.
    fill(
        shown,
        &[("name", "new"), ("subnet", "9.64.0.0/16"), ("prefix", "24")],
    );
    shown.browser.click("form.change button");
    shown
        .browser
        .wait_text("overlaps 9.0.0.0/8 of overlay dcos");
    assert_eq!(overlay(shown, "new"), Value::Null);
    fill(shown, &[("subnet", "10.90.0.0/16")]);
    shown.browser.click("form.change button");
    shown.wait_heading("new");
    let new = overlay(shown, "new");
    assert_eq!(
        (&new["state"], &new["info"]["prefix"]),
        (&json!("active"), &json!(24))
    );
}

fn change(shown: &Shown) {
    shown.open("#/networks/new/change", "Change new");
    let value = "return document.querySelector('[name=subnet]').value";
    assert_eq!(shown.browser.eval(value), "10.90.0.0/16");
    fill(shown, &[("subnet", "10.91.0.0/16")]);
    shown
        .browser
        .wait_text("new loses the part of 10.90.0.0/16 that is not in 10.91.0.0/16.");
    shown.browser.click("[name=enabled]");
    shown
        .browser
        .wait_text("No container can join new as long as it is disabled.");
    // A prefix that is no number is none yet.
    fill(shown, &[("subnet", "9.0.0.0/1.5")]);
    shown.browser.wait_text("that is not in 9.0.0.0/1.5.");
    fill(shown, &[("subnet", "10.90.0.0/15")]);
    shown.browser.click("[name=sure]");
    // Somebody else changes it meanwhile.
    let url = "/overlay-master/overlays/new";
    let client = shown.cluster.master.client();
    let put = |subnet: &str| {
        let body = json!({"subnet": subnet, "prefix": 24}).to_string();
        let headers = [("Content-Type", "application/json")];
        let reply = client.request("PUT", url, &headers, body.as_bytes());
        assert_eq!(reply.unwrap().status, 200);
    };
    put("10.80.0.0/12");
    shown.browser.click("form.change button");
    shown.browser.wait_text("new was changed meanwhile");
    assert_eq!(overlay(shown, "new")["info"]["subnet"], "10.80.0.0/12");
    put("10.90.0.0/16");
    shown.browser.click("form.change button");
    shown.wait_heading("new");
    let new = overlay(shown, "new");
    assert_eq!(
        (&new["state"], &new["info"]["subnet"]),
        (&json!("disabled"), &json!("10.90.0.0/15"))
    );
}

fn remove(shown: &Shown) {
    shown.open("#/networks/web/remove", "Remove web");
    shown
        .browser
        .wait_text("2 agents hold subnets of it. It drains");
    shown
        .browser
        .wait_text("Containers that are on it now: user.");
    // It must be confirmed.
    shown.browser.click("form.change button");
    assert_eq!(overlay(shown, "web")["state"], "active");
    shown.browser.click("[name=sure]");
    shown.browser.click("form.change button");
    shown.wait_heading("Networks");
    assert_eq!(overlay(shown, "web")["state"], "draining");
    shown.browser.wait_text("draining");
}

fn delete(shown: &mut Shown) {
    let ip = shown.cluster.agents[1].ip();
    let view = format!("#/agents/{ip}/delete");
    shown.open(&view, &format!("Delete agent {ip}"));
    shown.browser.wait_text("is connected. Stop it first.");
    shown.browser.click("[name=sure]");
    shown.browser.click("form.change button");
    shown
        .browser
        .wait_text("Nothing was deleted. These agents are connected to this master");
    shown.cluster.agents[1].kill().unwrap();
    shown.browser.wait_text("is not connected.");
    shown.browser.click("form.change button");
    shown.wait_heading("Agents");
    shown.browser.wait_text("1 of 1 agents");
}

/// A form of another server's page cannot change anything: the browser says where it is from.
#[test]
fn pages_of_other_servers_change_nothing() {
    let Some(setup) = two_networks("pages_of_other_servers_change_nothing", 1) else {
        return;
    };
    let shown = Shown::new(common::start(&setup));
    let target = shown.relay.url("/overlay-master/overlays");
    // Another port is another server for the browser.
    let other = crate::relay::Relay::start(&shown.cluster.master, "");
    shown.browser.open(&other.url("/overlay-master/health"));
    let body = r#"{"name": "evil", "subnet": "10.66.0.0/16", "prefix": 24}"#;
    for headers in ["{}", "{'Content-Type': 'text/plain'}"] {
        let script = format!(
            "return fetch({target:?}, {{method: 'POST', mode: 'no-cors', headers: {headers}, body: {}}}).then(() => true)",
            json!(body)
        );
        shown.browser.eval(&script);
    }
    assert_eq!(overlay(&shown, "evil"), Value::Null);
    let script = format!(
        "return fetch('overlays', {{method: 'POST', headers: {{'Content-Type': 'application/json'}}, body: {}}}).then((r) => r.status)",
        json!(body)
    );
    assert_eq!(shown.browser.eval(&script), 201, "its own page may");
}
