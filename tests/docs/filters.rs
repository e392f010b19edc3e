//! Filters for jq in docs/dcos.md, run by jq itself. The cluster is one of the product's core, with an
//! IPv6-only overlay, a bridge that is missing, an agent without subnets, and one without overlays.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testbed::{install, skip};

use crate::{cluster, command, page};

const PAGE: &str = "docs/dcos.md";

/// Returns the arguments of each `jq` in a page, in their order. In the cell of a table, `\|` stands
/// for `|`.
fn filters(page: &str) -> Vec<Vec<String>> {
    let text = page::read(page).text;
    let text = text.replace("\\\n", " ").replace("\\|", "|");
    let arguments = |rest: &str| {
        // The line ends with the command, or a backquote does.
        let command = rest.lines().next().unwrap().split('`').next().unwrap();
        command::pipeline(command).swap_remove(0)
    };
    text.split("| jq ").skip(1).map(arguments).collect()
}

/// Returns the output of jq without line ends.
fn run(arguments: &[String], input: &Value) -> Vec<String> {
    let mut jq = Command::new("jq");
    let mut child = jq
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{arguments:?}: {output:?}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn filters_take_agents_of_all_kinds() {
    const TEST: &str = "filters_take_agents_of_all_kinds";
    if let Some(missing) = install::missing(install::JQ) {
        return skip::skip(TEST, &missing);
    }
    let all = filters(PAGE);
    let [elected, look, recovered, agent, bridge] = &all[..] else {
        panic!("{PAGE} has other filters: {all:?}");
    };
    let metrics = json!({ "master/elected": 1, "overlay/master/log/recovered": 1 });
    assert_eq!(run(elected, &metrics), ["1"]);
    assert_eq!(run(recovered, &metrics), ["1"]);

    let mut cluster = cluster::mixed();
    let mut state = cluster.get("10.77.0.1:5050", "/overlay-master/state");
    // An empty list is left out, as after the removal of all overlays.
    without_overlays(&mut state["agents"][3]);
    let expected = [
        r#"{"ip":"10.77.1.1","status":["STATUS_OK","STATUS_OK"]}"#,
        r#"{"ip":"10.77.1.2","status":["STATUS_OK","STATUS_OK"]}"#,
        r#"{"ip":"10.77.1.3","status":["STATUS_OK","STATUS_OK"]}"#,
        r#"{"ip":"10.77.1.4","status":[]}"#,
    ];
    assert_eq!(run(look, &state), expected, "{state}");
    assert_eq!(run(bridge, &state), ["10.77.1.2"], "{state}");
    // A subnet and no bridge in the IPv6-only overlay alone.
    let mut only = state.clone();
    for agent in only["agents"].as_array_mut().unwrap() {
        for overlay in agent["overlays"].as_array_mut().into_iter().flatten() {
            if overlay.get("subnet").is_some() {
                overlay["docker_bridge"] = json!({});
            }
        }
    }
    assert_eq!(run(bridge, &only), ["10.77.1.2"], "{only}");
    for filter in [look, bridge] {
        assert!(run(filter, &json!({})).is_empty(), "no agent");
    }

    let mut state = cluster.get("10.77.1.1:5051", "/overlay-agent/overlay");
    let good = r#"{"registered":true,"status":["STATUS_OK","STATUS_OK"]}"#;
    assert_eq!(compact(&run(agent, &state)), good);
    without_overlays(&mut state);
    let none = r#"{"registered":true,"status":[]}"#;
    assert_eq!(compact(&run(agent, &state)), none);
}

fn without_overlays(state: &mut Value) {
    assert!(state.as_object_mut().unwrap().remove("overlays").is_some());
}

fn compact(lines: &[String]) -> String {
    let value: Value = serde_json::from_str(&lines.concat()).unwrap();
    value.to_string()
}
