//! Pictures of the page for the documentation. `UPDATE_DOCS=1 cargo nextest run --test page
//! screenshots` makes them anew.

use std::fs;

use serde_json::json;
use testbed::framework::{Framework, TaskSpec};
use testbed::paths;

use crate::cluster::{Shown, launch, two_networks};
use crate::common::{self, LIMIT};

/// Largest picture in the repository, in bytes.
const LARGEST: usize = 100_000;

/// Pictures of docs/page.md: file, view, text that it waits for, width, height, dark. `CART` stands
/// for the address of a task.
const PICTURES: &[(&str, &str, &str, u32, u32, bool)] = &[
    ("page-networks", "#/networks", "4 of 375", 1280, 620, false),
    (
        "page-network",
        "#/networks/dcos",
        "containerip",
        1080,
        820,
        false,
    ),
    (
        "page-agents-dark",
        "#/agents",
        "not connected",
        1280,
        560,
        true,
    ),
    (
        "page-search",
        "#/search/CART",
        "is the address of the task",
        1280,
        620,
        false,
    ),
    (
        "page-narrow",
        "#/networks/dcos",
        "containerip",
        390,
        844,
        false,
    ),
    (
        "page-remove-dark",
        "#/networks/web/remove",
        "Containers that are on it",
        1280,
        560,
        true,
    ),
];

#[test]
fn screenshots_are_small_and_can_be_made() {
    let Some(setup) = two_networks("screenshots_are_small_and_can_be_made", 3) else {
        return;
    };
    let mut shown = Shown::new(common::start(&setup));
    let framework = Framework::subscribe(shown.cluster.master.client()).unwrap();
    for (agent, tasks) in [
        (
            0,
            &[
                ("front.shop", "web"),
                ("cart.shop", "dcos"),
                ("search.shop", "dcos"),
            ][..],
        ),
        (
            1,
            &[
                ("db.shop", "dcos"),
                ("front2.shop", "web"),
                ("cache.shop", "dcos"),
            ],
        ),
    ] {
        launch(&shown.cluster, &framework, agent, tasks);
    }
    let with_port = TaskSpec {
        ports: vec![(31_080, 80)],
        ..TaskSpec::new("gateway", &shown.cluster.agents[1].ip(), Some("web"))
    };
    framework.launch(&with_port, LIMIT).unwrap();
    framework.wait_running("gateway", LIMIT).unwrap();
    shown.cluster.agents[2].kill().unwrap();
    common::wait_state(&mut shown.cluster, "the agent to be gone", |state| {
        state["agents"]
            .as_array()
            .unwrap()
            .iter()
            .any(|agent| agent["connected"] == json!(false))
    });
    let tasks = shown.json("/master/tasks?task_id=cart.shop");
    let statuses = tasks["tasks"][0]["statuses"].as_array().unwrap();
    let info = &statuses.last().unwrap()["container_status"]["network_infos"][0];
    let cart = info["ip_addresses"][0]["ip_address"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut too_large = Vec::new();
    for (name, view, text, width, height, dark) in PICTURES {
        shown.browser.resize(*width, *height).unwrap();
        shown.browser.set_dark(*dark).unwrap();
        shown.browser.open("about:blank");
        shown
            .browser
            .open(&shown.relay.page(&view.replace("CART", &cart)));
        shown.browser.wait_text(text);
        shown.browser.wait(
            "all tasks",
            "return !document.getElementById('progress').textContent",
        );
        let picture = shown.browser.screenshot().unwrap();
        let file = paths::workspace().join(format!("docs/images/{name}.png"));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&file, &picture).unwrap();
        }
        if picture.len() >= LARGEST {
            too_large.push(format!("{name}: {} bytes", picture.len()));
        }
        assert!(file.exists(), "{}; UPDATE_DOCS=1 makes it", file.display());
    }
    assert_eq!(too_large, [""; 0]);
}
