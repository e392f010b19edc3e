//! Clusters that the page shows, with a browser.

use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig};
use testbed::framework::{Framework, TaskSpec};
use testbed::node::Node;
use testbed::wait;

use crate::browser::{self, Browser};
use crate::common::{self, LIMIT};
use crate::relay::Relay;

/// Width and height of a window, in pixels.
pub const WINDOW: (u32, u32) = (1280, 900);

/// A cluster, and a browser that can show its page.
pub struct Shown {
    pub browser: Browser,
    pub relay: Relay,
    pub cluster: Cluster,
}

impl Shown {
    /// Starts a browser for a cluster.
    pub fn new(cluster: Cluster) -> Shown {
        Shown {
            browser: Browser::start(WINDOW.0, WINDOW.1),
            relay: Relay::start(&cluster.master, ""),
            cluster,
        }
    }

    /// Opens a view of the page, such as `#/agents`, and waits for its heading.
    #[track_caller]
    pub fn open(&self, view: &str, heading: &str) {
        self.browser.open("about:blank");
        self.browser.open(&self.relay.page(view));
        self.wait_heading(heading);
    }

    /// Waits for the heading of a view.
    #[track_caller]
    pub fn wait_heading(&self, heading: &str) {
        let script = format!(
            "const h = document.querySelector('main h1'); return h && h.innerText === {}",
            json!(heading)
        );
        self.browser.wait(&format!("the view {heading}"), &script);
    }

    /// Returns the rows of the table with this caption, as lists of texts by the columns' titles.
    pub fn rows(&self, caption: &str) -> Vec<Value> {
        let script = format!(
            "const table = [...document.querySelectorAll('table')].find((t) => t.caption.innerText === {});
             const text = (cell) => cell.innerText.replace(/\\u29c9/g, '').split('\\n').map((t) => t.trim()).filter(Boolean);
             return table && [...table.tBodies[0].rows].map((row) =>
               Object.fromEntries([...row.cells].map((cell) => [cell.dataset.title, text(cell)])))",
            json!(caption)
        );
        self.browser
            .eval(&script)
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Returns the JSON of an endpoint.
    pub fn json(&self, path: &str) -> Value {
        self.cluster
            .master
            .client()
            .get(path)
            .unwrap()
            .json()
            .unwrap()
    }
}

/// Returns the configuration of a cluster of hosts with two networks, `dcos` and `web`. `None`: the
/// test is skipped.
pub fn two_networks(test: &str, agents: usize) -> Option<ClusterConfig> {
    if !browser::require(test) {
        return None;
    }
    let mut setup = common::hosts(test, agents)?;
    setup.network["overlays"] = json!([
        { "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24 },
        { "name": "web", "subnet": "10.64.0.0/16", "prefix": 24 },
    ]);
    Some(setup)
}

/// Returns the configuration of a cluster on loopback addresses, whose networks have no
/// containers. `None`: the test is skipped.
pub fn without_containers(test: &str, agents: usize) -> Option<ClusterConfig> {
    browser::require(test)
        .then(|| common::loopback(test, agents))
        .flatten()
}

/// Waits until a master serves. Its endpoints are there a moment after Mesos's own.
pub fn wait_serving(master: &Node) {
    wait::until("the master to serve", LIMIT, || {
        let reply = master.client().get("/overlay-master/health")?;
        Ok((reply.status == 200).then_some(()))
    })
    .unwrap();
}

/// Starts tasks on an agent and waits until they run: (id, network).
pub fn launch(cluster: &Cluster, framework: &Framework, agent: usize, tasks: &[(&str, &str)]) {
    for (id, network) in tasks {
        let spec = TaskSpec::new(id, &cluster.agents[agent].ip(), Some(network));
        framework.launch(&spec, LIMIT).unwrap();
        framework.wait_running(id, LIMIT).unwrap();
    }
}
