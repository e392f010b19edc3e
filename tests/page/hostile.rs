//! Names of tasks are text, whatever they contain.

use serde_json::{Value, json};
use testbed::framework::Framework;

use crate::cluster::{Shown, launch, two_networks};
use crate::common;

#[test]
fn hostile_names_are_text() {
    let Some(setup) = two_networks("hostile_names_are_text", 1) else {
        return;
    };
    let shown = Shown::new(common::start(&setup));
    let framework = Framework::subscribe(shown.cluster.master.client()).unwrap();
    let names = [
        "<img src=x onerror=window.hurt=1>",
        "\"><script>window.hurt=2<\u{2215}script>",
        "javascript:window.hurt=3",
        "${window.hurt=4}{{window.hurt=4}}",
        "\u{202e}evil\u{2028}&amp;&lt;b&gt;",
    ];
    let tasks: Vec<_> = names.iter().map(|name| (*name, "dcos")).collect();
    launch(&shown.cluster, &framework, 0, &tasks);
    for view in [
        "#/networks/dcos",
        "#/networks/dcos/remove",
        "#/search/window.hurt",
    ] {
        shown.browser.open("about:blank");
        shown.browser.open(&shown.relay.page(view));
        shown.browser.wait_text(names[0]);
        let elements = "return document.querySelectorAll('main img, main script, main b').length";
        assert_eq!(shown.browser.eval(elements), json!(0), "{view}");
        assert_eq!(
            shown.browser.eval("return window.hurt || null"),
            json!(null),
            "{view}"
        );
    }
    for hash in [
        "#/networks/<img src=x onerror=window.hurt=5>",
        "#/agents/%3Cimg%20src=x%20onerror=window.hurt=6%3E",
        "#/search/%3Cscript%3Ewindow.hurt=7%3C%2Fscript%3E",
        "#/%E0%A4%A/%",
        "#/networks/dcos?q=%3Cimg%20src=x%3E&agents=-5&containers=x",
    ] {
        shown.browser.open("about:blank");
        shown.browser.open(&shown.relay.page(hash));
        shown
            .browser
            .wait("a heading", "return document.querySelector('main h1')");
        assert_eq!(
            shown.browser.eval("return window.hurt || null"),
            json!(null),
            "{hash}"
        );
    }
    strange_tasks(&shown);
    let console = shown.browser.console();
    let policy: Vec<_> = console
        .iter()
        .filter(|line| line.contains("Content Security Policy"))
        .collect();
    assert!(policy.is_empty(), "{policy:?}");
}

/// Frameworks set the times of statuses, use ids again, and leave addresses out.
fn strange_tasks(shown: &Shown) {
    let infos =
        |address: &str| json!([{"name": "dcos", "ip_addresses": [{"ip_address": address}]}]);
    let status = |state: &str, timestamp: f64, address: &str| json!({"state": state, "timestamp": timestamp, "container_status": {"network_infos": infos(address)}});
    let task = |id: &str, state: &str, statuses: Value| {
        json!({"id": id, "name": id, "framework_id": "F", "slave_id": "S", "state": state, "statuses": statuses,
               "container": {"network_infos": [
                   {"name": "web", "port_mappings": [{"host_port": 1, "container_port": 1}]},
                   {"name": "dcos", "port_mappings": [{"host_port": 8080, "container_port": 80}]}]}})
    };
    let running = |time, address| json!([status("TASK_RUNNING", time, address)]);
    let mut killing = running(1.7e9, "9.0.0.42");
    let without = json!({"state": "TASK_KILLING", "timestamp": 1.7e9 + 1.0});
    killing.as_array_mut().unwrap().push(without);
    shown.relay.set_tasks(vec![
        task("timeless", "TASK_RUNNING", running(1e300, "9.0.0.40")),
        task("again", "TASK_RUNNING", running(1.7e9, "9.0.0.41")),
        task("again", "TASK_FINISHED", running(1.6e9, "9.0.0.41")),
        task("killing", "TASK_KILLING", killing),
        task("six", "TASK_RUNNING", running(1.7e9, "fd01:c::1:2")),
        task("gone", "TASK_GONE_BY_OPERATOR", running(1.7e9, "9.0.0.43")),
    ]);
    shown.open("#/networks/dcos", "dcos");
    shown.browser.wait_text("Containers (4)");
    for (id, address) in [
        ("again", "9.0.0.41"),
        ("killing", "9.0.0.42"),
        ("timeless", "9.0.0.40"),
        ("six", "fd01:c::1:2"),
    ] {
        let rows = shown.rows("Containers of dcos");
        let row = rows.iter().find(|row| row["Task"][0] == id).unwrap();
        assert_eq!(row["Addresses"], json!(["dcos", address]), "{row}");
        assert_eq!(row["Ports"], json!(["8080 → 80/tcp"]), "{row}");
    }
    // The page goes on to read.
    shown.relay.set_tasks(Vec::new());
    shown.browser.wait_text("No container.");
    shown.relay.set_tasks(vec![task(
        "six",
        "TASK_RUNNING",
        running(1.7e9, "fd01:c::1:2"),
    )]);
    shown.open("#/search/fd01:C:0::1:2", "Search for fd01:C:0::1:2");
    shown.browser.wait_text("is the address of the task six");
}
