//! Short texts: URLs of ZooKeeper, pids, paths of sockets, durations, MAC addresses, definitions
//! of overlays. The first byte selects the kind.

use overlay_core::Upid;
use overlay_core::config::overlay::{Definition, DefinitionRequest, parse_request};
use overlay_core::config::{agent, master, zk};
use overlay_core::host_api::desired::Mac;

use crate::is_line;

pub(crate) fn run(data: &[u8]) {
    let [which, text @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    match which {
        b'z' => zookeeper(text),
        b'p' => pid(text),
        b's' => _ = agent::docker_socket(text),
        b'd' => duration(text),
        b'm' => mac(text),
        b'o' => overlay(text),
        _ => {}
    }
}

fn zookeeper(text: &str) {
    let Ok(url) = zk::parse(text) else { return };
    let at = url
        .credentials
        .as_ref()
        .map_or(String::new(), |credentials| format!("{credentials}@"));
    let written = format!("zk://{at}{}{}", url.servers, url.path);
    assert!(zk::parse(&written) == Ok(url.clone()), "{written:?}");
    if let Some((_, password)) = url
        .credentials
        .as_ref()
        .and_then(|text| text.split_once(':'))
    {
        // (A password that is part of the rest of the URL would be found there.)
        let rest = format!("zk://***@{}{}", url.servers, url.path);
        assert!(
            rest.contains(password) || !zk::redacted(text).contains(password),
            "{text:?}"
        );
        assert!(
            rest.contains(password) || !format!("{url:?}").contains(password),
            "{text:?}"
        );
    }
}

fn pid(text: &str) {
    let Ok(pid) = text.parse::<Upid>() else {
        return;
    };
    // An answer is sent as `POST /id/…` to the address.
    assert!(
        !pid.id
            .contains(|c: char| c.is_control() || "/?#%@ ".contains(c)),
        "{pid:?}"
    );
    assert_ne!(pid.address.port(), 0, "{pid:?}");
    assert_eq!(pid.to_string().parse(), Ok(pid));
}

/// Reads a text as the value of a configuration key, since there is no other parser for it.
fn duration(text: &str) {
    let network =
        r#"{"vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": []}"#;
    let text = serde_json::Value::from(text);
    let config = format!(r#"{{"replicated_log_timeout": {text}, "network": {network}}}"#);
    match master::parse("master.json", &config) {
        Ok(parsed) => assert!(!parsed.config.replicated_log_timeout.is_zero()),
        Err(error) => assert!(error.lines().iter().all(|line| is_line(line)), "{error}"),
    }
}

fn mac(text: &str) {
    let Ok(mac) = text.parse::<Mac>() else { return };
    assert_eq!(mac.to_string().parse(), Ok(mac));
}

fn overlay(text: &str) {
    for name in [None, Some("dcos")] {
        match parse_request("request", text, name) {
            Ok(DefinitionRequest { definition, .. }) => {
                let again = Definition::from_log(definition.info().clone());
                assert_eq!(
                    again.as_ref(),
                    Ok(&definition),
                    "the log is read otherwise than the request"
                );
            }
            Err(error) => assert!(error.lines().iter().all(|line| is_line(line)), "{error}"),
        }
    }
}
