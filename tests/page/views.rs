//! Views: they show the answers of the endpoints, and follow the cluster.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::framework::Framework;

use crate::cluster::{Shown, launch, two_networks, wait_serving, without_containers};
use crate::common;
use crate::relay::Fault;

/// The longest time until an agent that was killed is shown as not connected.
const SHOWN: Duration = Duration::from_secs(5);

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_rows_are_those_of_the_endpoints() {
    let Some(setup) = two_networks("the_rows_are_those_of_the_endpoints", 2) else {
        return;
    };
    let shown = Shown::new(common::start(&setup));
    let framework = Framework::subscribe(shown.cluster.master.client()).unwrap();
    launch(
        &shown.cluster,
        &framework,
        0,
        &[("front.shop", "web"), ("back.shop", "dcos")],
    );
    launch(&shown.cluster, &framework, 1, &[("other", "dcos")]);
    networks(&shown);
    agents(&shown);
    containers(&shown);
    search(&shown);
    shown.browser.assert_quiet();
}

fn networks(shown: &Shown) {
    shown.open("", "Networks");
    shown.browser.wait(
        "containers",
        "return document.body.innerText.includes('2 of 250')",
    );
    let overview = shown.json("/overlay-master/overview");
    let rows = shown.rows("Networks");
    let overlays = overview["overlays"].as_array().unwrap();
    assert_eq!(rows.len(), overlays.len());
    for (row, overlay) in rows.iter().zip(overlays) {
        let name = overlay["name"].as_str().unwrap();
        let used = if name == "dcos" { 2 } else { 1 };
        let subnets = &overlay["agent_subnets"];
        let total = if name == "dcos" { "65,536" } else { "256" };
        assert_eq!(
            *row,
            json!({
                "Network": [name],
                "State": [overlay["state"]],
                "Ranges": [overlay["info"]["subnet"]],
                "Prefix per agent": [format!("/{}", overlay["info"]["prefix"])],
                "Agents": [overlay["agents"].to_string()],
                "Subnets used": [format!("{} of {total}", subnets["used"])],
                "Addresses used": [format!("{used} of {}", overlay["container_addresses"])],
                "Problems": [],
            })
        );
    }
}

fn agents(shown: &Shown) {
    shown.open("#/agents", "Agents");
    shown.browser.wait_text("2 of 2 agents");
    let state = shown.json("/overlay-master/state");
    let rows = shown.rows("Agents");
    let agents = state["agents"].as_array().unwrap();
    assert_eq!(rows.len(), agents.len());
    for (row, agent) in rows.iter().zip(agents) {
        let vxlan = &agent["overlays"][0]["backend"]["vxlan"];
        assert_eq!(row["Agent"][0], agent["ip"]);
        assert_eq!(row["State"][0], "connected");
        assert_eq!(
            row["Tunnel (VTEP)"],
            json!([vxlan["vtep_ip"], vxlan["vtep_mac"]])
        );
        let subnets = agent["overlays"].as_array().unwrap().iter().map(|overlay| {
            let name = overlay["info"]["name"].as_str().unwrap();
            [
                name.to_owned(),
                overlay["subnet"].as_str().unwrap().to_owned(),
            ]
        });
        assert_eq!(
            texts(&row["Subnets"]),
            subnets.flatten().collect::<Vec<_>>()
        );
        assert_eq!(row["Release"], json!([agent["release"]]));
        assert_eq!(
            (&row["Errors"], &row["Lease"]),
            (&json!([]), &json!(["none"]))
        );
    }
}

fn containers(shown: &Shown) {
    shown.open("#/networks/dcos", "dcos");
    shown
        .browser
        .wait_text("back-shop.testbed.containerip.dcos.thisdcos.directory");
    let tasks = shown.json("/master/tasks?limit=1000");
    let rows = shown.rows("Containers of dcos");
    assert_eq!(rows.len(), 2, "{rows:?}");
    for row in &rows {
        let name = row["Task"][0].as_str().unwrap();
        let tasks = tasks["tasks"].as_array().unwrap();
        let task = tasks.iter().find(|task| task["name"] == name).unwrap();
        let statuses = task["statuses"].as_array().unwrap();
        let status = statuses
            .iter()
            .find(|status| status["state"] == "TASK_RUNNING")
            .unwrap();
        let info = &status["container_status"]["network_infos"][0];
        let ip = info["ip_addresses"][0]["ip_address"].as_str().unwrap();
        assert_eq!(texts(&row["Addresses"]), ["dcos", ip]);
        assert_eq!(row["Framework"], json!(["testbed"]));
        let agent = if name == "other" { 1 } else { 0 };
        assert_eq!(row["Agent"][0], shown.cluster.agents[agent].ip().as_str());
        let label = name.replace('.', "-");
        let dns = format!("{label}.testbed.containerip.dcos.thisdcos.directory");
        assert_eq!(row["DNS names"], json!([dns]));
        assert_eq!(row["State"][0], "running");
    }
    assert_eq!(shown.rows("Agents of dcos").len(), 2);
}

fn search(shown: &Shown) {
    let tasks = shown.json("/master/tasks?task_id=other");
    let status = &tasks["tasks"][0]["statuses"];
    let infos =
        status.as_array().unwrap().last().unwrap()["container_status"]["network_infos"].clone();
    let ip = infos[0]["ip_addresses"][0]["ip_address"]
        .as_str()
        .unwrap()
        .to_owned();
    let agent = shown.cluster.agents[1].ip();
    let free = ip.rsplit_once('.').unwrap().0.to_owned() + ".99";
    for (text, says) in [
        (
            ip.as_str(),
            format!("{ip} is the address of the task other on agent {agent}."),
        ),
        (
            free.as_str(),
            format!(
                "{free} is in the subnet {} of the agent {agent}, on network dcos. No task of Mesos has it.",
                free.replace(".99", ".0/24")
            ),
        ),
        (
            agent.as_str(),
            format!("{agent} is the address of the agent {agent}."),
        ),
        (
            "192.0.2.1",
            "No agent has 192.0.2.1, or a subnet with it.".to_owned(),
        ),
        ("front", "front.shop".to_owned()),
        ("back-shop.testbed.containerip", "back.shop".to_owned()),
    ] {
        shown.open(&format!("#/search/{text}"), &format!("Search for {text}"));
        shown.browser.wait_text(&says);
    }
}

#[test]
fn an_agent_that_is_killed_is_shown_at_once() {
    let Some(setup) = without_containers("an_agent_that_is_killed_is_shown_at_once", 2) else {
        return;
    };
    let mut shown = Shown::new(common::start(&setup));
    let ip = shown.cluster.agents[1].ip();
    faults(&shown);
    shown.open("#/agents?offset=250", "Agents");
    shown.browser.wait_text("none of 2");
    shown.open("#/agents", "Agents");
    shown.browser.wait_text("2 of 2 agents");
    shown.cluster.agents[1].kill().unwrap();
    let start = Instant::now();
    let script = format!(
        "const row = document.querySelector('tr[data-key=\"{ip}\"]');
         return row && row.innerText.includes('not connected')"
    );
    shown
        .browser
        .wait("the agent to be shown as not connected", &script);
    println!("shown after {:?}", start.elapsed());
    assert!(start.elapsed() < SHOWN, "shown after {:?}", start.elapsed());
    // It comes back without reloading, too.
    shown.cluster.agents[1].start().unwrap();
    let script = script.replace("'not connected'", "'connected'").replace(
        "return row &&",
        "return row && !row.innerText.includes('not connected') &&",
    );
    shown
        .browser
        .wait("the agent to be shown as connected", &script);
    shown.browser.assert_quiet();
}

/// Data that cannot be read is not shown as something else.
fn faults(shown: &Shown) {
    let (first, second) = (shown.cluster.agents[0].ip(), shown.cluster.agents[1].ip());
    shown
        .relay
        .set_fault(Some(Fault::Status("/master/tasks", 403)));
    shown.open("#/networks", "Networks");
    shown
        .browser
        .wait_text("The containers cannot be read: This is a fault.");
    shown.browser.wait_text("unknown of ");
    shown.open(&format!("#/agents/{first}"), &first);
    shown.browser.wait_text("Containers");
    shown
        .relay
        .set_fault(Some(Fault::Status("/overlay-master/agents", 503)));
    shown
        .browser
        .eval(&format!("location.hash = '#/agents/{second}/delete'"));
    shown.browser.wait_text("This cannot be read now.");
    shown
        .relay
        .set_fault(Some(Fault::Silence("/overlay-master/agents")));
    shown
        .browser
        .wait_text("The master does not answer within 10 s.");
    shown.relay.set_fault(None);
    shown
        .browser
        .wait_text(&format!("{second} is connected. Stop it first."));
    // The console has the statuses.
    shown.browser.console();
}

/// The page names the agents whose leases have ended. The master has not seen them since its start.
#[test]
fn leases_are_reclaimed_from_the_page() {
    let Some(setup) = without_containers("leases_are_reclaimed_from_the_page", 2) else {
        return;
    };
    let mut shown = Shown::new(common::start(&setup));
    let (first, second) = (shown.cluster.agents[0].ip(), shown.cluster.agents[1].ip());
    common::configure_master(&shown.cluster.master, &json!({"agent_lease": "4secs"}));
    shown.cluster.agents[1].kill().unwrap();
    shown.cluster.master.kill().unwrap();
    shown.cluster.master.start().unwrap();
    wait_serving(&shown.cluster.master);
    shown.open("#/reclaim", "Reclaim");
    shown.browser.wait_text("The leases of 1 agent have ended.");
    assert!(!shown.browser.text("main").contains(&first));
    shown.browser.click("[name=sure]");
    shown.browser.click("form.change button");
    shown.wait_heading("Agents");
    shown.browser.wait_text("1 of 1 agents");
    let state = shown.json("/overlay-master/state").to_string();
    assert!(
        state.contains(&first) && !state.contains(&second),
        "{state}"
    );
    shown.open("#/reclaim", "Reclaim");
    shown.browser.wait_text("there is nothing to reclaim");
    let buttons = "return document.querySelectorAll('form.change button').length";
    assert_eq!(shown.browser.eval(buttons), json!(0));
}
