//! Names of tasks are text, whatever they contain.

use serde_json::json;
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
    let console = shown.browser.console();
    let policy: Vec<_> = console
        .iter()
        .filter(|line| line.contains("Content Security Policy"))
        .collect();
    assert!(policy.is_empty(), "{policy:?}");
}
