//! The page of masters that do not lead, and below the path of a proxy.

use crate::browser;
use crate::cluster::{Shown, wait_serving, without_containers};
use crate::common::{self, LIMIT};
use crate::relay::Relay;

#[test]
fn a_standby_says_who_leads() {
    let test = "a_standby_says_who_leads";
    if !browser::require(test) {
        return;
    }
    let Some(setup) = common::elected(test, 1) else {
        return;
    };
    let mut cluster = testbed::cluster::Cluster::start(&setup).unwrap();
    let leader = cluster.wait_leader(LIMIT).unwrap().address().to_string();
    let standby = cluster
        .masters()
        .find(|master| master.address().to_string() != leader);
    let relay = Relay::start(standby.unwrap(), "");
    let mut shown = Shown::new(cluster);
    shown.relay = relay;
    shown.open("#/networks", "Networks");
    let says = format!("This master does not lead, the one at {leader} does.");
    shown.browser.wait_text(&says);
    let href = shown
        .browser
        .eval("return document.querySelector('#banner a').href");
    assert_eq!(href, format!("http://{leader}/overlay-master/ui#/networks"));
    shown.browser.click("#banner a");
    shown.wait_heading("Networks");
    shown.browser.wait_text("dcos");
    // When the leader dies the page says so, and shows what it knows.
    let mut masters = shown.cluster.masters();
    let dead = masters
        .find(|master| master.address().to_string() == leader)
        .unwrap();
    dead.kill().unwrap();
    drop(masters);
    shown.browser.wait_text("What is shown is of");
}

#[test]
fn the_page_works_below_a_path() {
    let Some(setup) = without_containers("the_page_works_below_a_path", 1) else {
        return;
    };
    let mut shown = Shown::new(common::start(&setup));
    shown.relay = Relay::start(&shown.cluster.master, "/cluster/mesos");
    for end in ["", "/", "//"] {
        shown.open(&format!("{end}#/agents"), "Agents");
        shown.browser.wait_text("1 of 1 agents");
        let loaded = "return performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname)";
        let loaded = shown.browser.eval(loaded);
        for path in loaded.as_array().unwrap() {
            assert!(
                path.as_str().unwrap().starts_with("/cluster/mesos/"),
                "{path}"
            );
        }
        let path = shown.browser.eval("return location.pathname");
        assert_eq!(path, "/cluster/mesos/overlay-master/ui");
        shown.browser.click("nav a[data-view=networks]");
        shown.wait_heading("Networks");
        shown.browser.assert_quiet();
    }
}

#[test]
fn files_are_compressed_and_kept() {
    let Some(setup) = without_containers("files_are_compressed_and_kept", 0) else {
        return;
    };
    let cluster = testbed::cluster::Cluster::start(&setup).unwrap();
    wait_serving(&cluster.master);
    let client = cluster.master.client();
    let get =
        |path: &str, headers: &[(&str, &str)]| client.request("GET", path, headers, b"").unwrap();
    let mut all = 0;
    for file in ["", "/main.js", "/networks.js", "/page.css"] {
        let path = format!("/overlay-master/ui{file}");
        let plain = get(&path, &[("Accept-Encoding", "identity")]);
        assert_eq!((plain.status, plain.header("content-encoding")), (200, ""));
        let packed = get(&path, &[("Accept-Encoding", "gzip")]);
        all += plain.body.len();
        assert_eq!(packed.header("content-encoding"), "gzip", "{path}");
        let tag = plain.header("etag").to_owned();
        let again = get(
            &path,
            &[("If-None-Match", &tag), ("Accept-Encoding", "gzip")],
        );
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-cache"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(plain.header(name), value, "{path}");
        }
        assert!(
            plain
                .header("content-security-policy")
                .starts_with("default-src 'self'")
        );
    }
    assert!(all < 150_000);
}
