//! The page of a large cluster: agents of the load generator, and 100,000 tasks, which the relay makes
//! up. With optimisation there are 10,000 agents: `cargo nextest run --release --test page large
//! --no-capture` prints the times.

use std::time::{Duration, Instant};

use serde_json::json;
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::{net, skip, wait};
use testkit::load::generator::{Generator, allow_files};
use testkit::load::round::{network, v4};

use crate::browser;
use crate::cluster::Shown;
use crate::common::LIMIT;
use crate::relay::Relay;

const AGENTS: usize = if cfg!(debug_assertions) {
    1_000
} else {
    10_000
};
const TASKS: usize = 100_000;

/// Generous: machines of tests are busy. docs/dev/performance.md has measured times.
const READING: Duration = Duration::from_secs(300);

#[test]
fn thousands_of_agents_and_their_tasks_are_usable() {
    let test = "thousands_of_agents_and_their_tasks_are_usable";
    if !browser::require(test) || !skip::require_hosts(test) || skip::require_mesos(test).is_none()
    {
        return;
    }
    net::isolated(|| {
        let without_connection = allow_files(AGENTS)?;
        let mut setup = ClusterConfig::new(0, Placement::Loopback)?;
        setup.network = network();
        let cluster = Cluster::start(&setup)?;
        wait::until("the master to serve", LIMIT, || {
            let health = cluster.master.client().get("/overlay-master/health")?;
            Ok((health.status == 200).then_some(()))
        })?;
        let mut generator = Generator::new(v4(&cluster.master)?, without_connection)?;
        generator.join(AGENTS);
        let limit = Duration::from_secs(180);
        let registered =
            generator.until("all agents to register", limit, Generator::all_registered)?;
        println!(
            "{AGENTS} agents registered in {:.2} s",
            registered.as_secs_f64()
        );
        let mut shown = Shown::new(cluster);
        shown.relay = Relay::with_tasks(&shown.cluster.master, TASKS);
        browse(&shown);
        Ok(())
    })
    .unwrap();
}

/// Waits for a condition in the page, and prints how long that took.
fn measure(shown: &Shown, what: &str, limit: Duration, script: &str) {
    let start = Instant::now();
    shown.browser.wait_for(what, limit, script);
    println!("{what}: {:.2} s", start.elapsed().as_secs_f64());
}

fn browse(shown: &Shown) {
    let all = if AGENTS == 10_000 { "10,000" } else { "1,000" };
    let has = |text: &str| format!("return document.body.innerText.includes({})", json!(text));
    let start = Instant::now();
    shown.open("#/agents", "Agents");
    measure(
        shown,
        "the first agents",
        LIMIT,
        &has(&format!("{all} of {all} agents")),
    );
    println!("from opening: {:.2} s", start.elapsed().as_secs_f64());
    assert_eq!(shown.rows("Agents").len(), 50);
    shown.browser.click("[aria-label='Last agents']");
    measure(
        shown,
        "the last agents",
        LIMIT,
        &has(&format!("–{all} of {all}")),
    );
    let type_filter = "const f = document.querySelector('#filter-q'); f.value = '9.0.7.9'; f.dispatchEvent(new Event('input'));";
    shown.browser.eval(type_filter);
    measure(
        shown,
        "one agent by an address",
        LIMIT,
        &has(&format!("1 of {all} agents")),
    );
    measure(
        shown,
        "all tasks",
        READING,
        "return !document.getElementById('progress').textContent",
    );
    // The longest time that the page was busy, while everything is read again.
    shown.browser.eval(
        "window.longest = 0; let last = performance.now();
         setInterval(() => { const now = performance.now(); window.longest = Math.max(window.longest, now - last); last = now; }, 10);",
    );
    shown.browser.eval("location.hash = '#/networks/dcos'");
    measure(
        shown,
        "a network with all containers",
        LIMIT,
        &has("Containers (100,000)"),
    );
    let rows = "return document.querySelectorAll('tbody tr').length";
    assert_eq!(shown.browser.eval(rows), json!(100), "parts of both lists");
    let type_filter = "const f = document.querySelector('#filter-task'); f.value = 'task-77777'; f.dispatchEvent(new Event('input'));";
    shown.browser.eval(type_filter);
    measure(shown, "one container of all", LIMIT, &has("Containers (1)"));
    let scroll = "return new Promise((done) => { let n = 0; const start = performance.now();
        const step = () => { scrollBy(0, 200); n += 1; if (n < 60) requestAnimationFrame(step); else done((performance.now() - start) / 60); };
        step(); })";
    let frame = shown.browser.eval(scroll).as_f64().unwrap();
    println!("a frame while scrolling: {frame:.1} ms");
    let longest = shown
        .browser
        .eval("return window.longest")
        .as_f64()
        .unwrap();
    println!("the page was busy for at most {longest:.0} ms");
    let heap = "return performance.memory ? performance.memory.usedJSHeapSize / 1e6 : 0";
    println!(
        "memory of the page: {:.0} MB",
        shown.browser.eval(heap).as_f64().unwrap()
    );
    assert!(frame < 500.0 && longest < 10_000.0, "the page hangs");
    shown.browser.assert_quiet();
}
