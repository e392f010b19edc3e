//! The page where Mesos authenticates requests.

use std::fs;

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig};
use testbed::wait;

use crate::cluster::{Shown, without_containers};
use crate::common::{LIMIT, configure_master, wait_authenticating};
use crate::relay::Fault;

/// Starts a cluster in which Mesos authenticates requests, and the module those of `kind`.
fn start(setup: &ClusterConfig, readonly: bool, kind: &str) -> Cluster {
    let mut cluster = Cluster::prepare(setup).unwrap();
    let credentials = json!({"credentials": [{"principal": "operator", "secret": "secret"}]});
    let master = &mut cluster.master;
    let file = master.dir().join("credentials.json");
    fs::write(&file, credentials.to_string()).unwrap();
    master.set("MESOS_CREDENTIALS", file.display());
    master.set("MESOS_AUTHENTICATE_HTTP_READWRITE", "true");
    master.set("MESOS_AUTHENTICATE_HTTP_READONLY", readonly);
    configure_master(master, &json!({ "authenticate_http": kind }));
    cluster.start_all().unwrap();
    wait_authenticating(&cluster.master);
    wait::until("the master to serve", LIMIT, || {
        let reply = cluster.master.client().get("/overlay-master/health")?;
        ensure!(reply.status == 200, "{}", reply.text());
        Ok(Some(()))
    })
    .unwrap();
    cluster
}

fn with_password(url: &str) -> String {
    url.replace("http://", "http://operator:secret@")
}

#[test]
fn readers_need_a_password_where_reading_is_authenticated() {
    let Some(setup) =
        without_containers("readers_need_a_password_where_reading_is_authenticated", 1)
    else {
        return;
    };
    let shown = Shown::new(start(&setup, true, "all"));
    let client = shown.cluster.master.client();
    for path in ["ui", "ui/main.js", "overview", "agents"] {
        let status = client
            .get(&format!("/overlay-master/{path}"))
            .unwrap()
            .status;
        assert_eq!(status, 401, "{path}");
    }
    shown.browser.open(&shown.relay.page(""));
    assert_eq!(
        shown.browser.eval("return document.querySelector('main')"),
        Value::Null
    );
    shown.browser.open(&with_password(&shown.relay.page("")));
    shown.wait_heading("Networks");
    // The browser sends the password again with what the page asks.
    shown.browser.open(&shown.relay.page("#/agents"));
    shown.wait_heading("Agents");
    shown.browser.wait_text("1 of 1 agents");
}

#[test]
fn readers_need_none_where_only_changes_are_authenticated() {
    let Some(setup) =
        without_containers("readers_need_none_where_only_changes_are_authenticated", 1)
    else {
        return;
    };
    let shown = Shown::new(start(&setup, false, "writes"));
    shown.open("#/agents", "Agents");
    shown.browser.wait_text("1 of 1 agents");
    shown.browser.assert_quiet();
    // A browser asks for a password with each request that is answered with 401: there is one.
    shown
        .relay
        .set_fault(Some(Fault::Status("/overlay-master/overview", 401)));
    shown.browser.wait_text("Log in to see this");
    let asked = shown.relay.failed();
    shown
        .browser
        .eval("return new Promise((done) => setTimeout(done, 5000))");
    assert_eq!(shown.relay.failed(), asked);
    shown.relay.set_fault(None);
    shown.browser.click("#banner button");
    shown.browser.wait(
        "the banner to go",
        "return !document.getElementById('banner').innerText",
    );
    shown.browser.console();
    // A change needs a password, for which a browser asks.
    let body = json!({"name": "new", "subnet": "10.90.0.0/16", "prefix": 24});
    let client = shown.cluster.master.client();
    let refused = client.post("/overlay-master/overlays", &body).unwrap();
    assert_eq!(refused.status, 401);
    assert!(refused.header("www-authenticate").starts_with("Basic"));
    shown
        .browser
        .open(&with_password(&shown.relay.url("/overlay-master/overlays")));
    shown.open("#/add", "Add a network");
    let fill =
        "const set = (name, value) => { document.querySelector(`[name=${name}]`).value = value; };
                set('name', 'new'); set('subnet', '10.90.0.0/16'); set('prefix', '24');";
    shown.browser.eval(fill);
    shown.browser.click("form.change button");
    shown.wait_heading("new");
}
