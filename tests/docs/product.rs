//! The product as this target uses it; everything that names its types is here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use mesos_overlay::runtime::Role;
use overlay_core::agent::Agent;
use overlay_core::config::{agent, master};
use overlay_core::host_api::usage::InUse;
use overlay_core::master::Master;
use overlay_core::protocol::http::Request;
use overlay_core::protocol::http::RequestHeaders;
pub use overlay_core::protocol::session::join;
pub use overlay_core::{
    Effect, EngineReport, HostReport, Input, Io, Level, Machine, RequestId, StoreOutcome, Time,
    Upid,
};

/// Release in sample outputs.
const RELEASE: &str = "0.2.0";

/// A master at this pid with this configuration file.
pub fn master(file: &str, me: &Upid) -> Box<dyn Machine> {
    let config = master::parse("master.json", file).unwrap().config;
    Box::new(Master::new(config, me.clone(), 7).with_release(RELEASE))
}

/// An agent at this pid with this configuration file.
pub fn agent(file: &str, me: &Upid) -> Box<dyn Machine> {
    let config = agent::parse("agent.json", file).unwrap().config;
    Box::new(Agent::new(config, me.clone(), 7).with_release(RELEASE))
}

/// Returns the errors and warnings of the product for a configuration file.
pub fn read_config(file: &str, text: &str) -> (Vec<String>, Vec<String>) {
    let lines = |error: &dyn ToString| error.to_string().lines().map(str::to_owned).collect();
    match file {
        "master.json" => match master::parse(&path(file), text) {
            Ok(parsed) => (Vec::new(), parsed.warnings),
            Err(error) => (lines(&error), Vec::new()),
        },
        "agent.json" => match agent::parse(&path(file), text) {
            Ok(parsed) => (Vec::new(), parsed.warnings),
            Err(error) => (lines(&error), Vec::new()),
        },
        _ => panic!("there is no configuration file {file}"),
    }
}

fn path(file: &str) -> String {
    format!("/etc/mesos/overlay/{file}")
}

/// A request for a machine.
pub fn request(id: u64, curl: &crate::command::Curl) -> Input {
    let pair = |pair: &str| {
        pair.split_once('=')
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
    };
    Input::Request(Request {
        id: RequestId(id),
        method: curl.method.clone(),
        path: curl.path.clone(),
        query: curl.query.split('&').filter_map(pair).collect(),
        accept: curl.header("Accept"),
        headers: RequestHeaders {
            host: Some(curl.server.clone()),
            content_type: curl.content_type(),
            ..RequestHeaders::default()
        },
        body: Bytes::from(curl.body.clone()),
    })
}

/// The host's answer: everything is as desired, or this is wrong with overlay `dcos`.
pub fn host_done(generation: u64, error: Option<&str>) -> Input {
    let overlays = error.map(|error| ("dcos".to_owned(), error.to_owned()));
    let report = HostReport {
        generation,
        overlays: overlays.into_iter().collect(),
        ..HostReport::default()
    };
    Input::HostDone(report)
}

/// Containers of Mesos have so many IPv4 addresses of overlay `dcos`.
pub fn usage(count: u64) -> Input {
    Input::Usage(BTreeMap::from([(
        "dcos".to_owned(),
        InUse {
            v4: count,
            v6: 0,
            leaked: 0,
        },
    )]))
}

/// The container engine's answer: everything is as desired.
pub fn engine_done(generation: u64) -> Input {
    Input::EngineDone(EngineReport {
        generation,
        ..EngineReport::default()
    })
}

/// The paths of all endpoints.
pub fn endpoints() -> Vec<String> {
    let below = |help: &str| -> Vec<String> {
        let heading = |line: &str| {
            line.strip_prefix("### `")?
                .strip_suffix("` ###")
                .map(str::to_owned)
        };
        help.lines().filter_map(heading).collect()
    };
    let of = |role: Role| {
        role.endpoints().iter().flat_map(move |endpoint| {
            let path = format!("/{}{}", role.id(), endpoint.path);
            std::iter::once(path).chain(below(&endpoint.help))
        })
    };
    of(Role::Master).chain(of(Role::Agent)).collect()
}

/// The program `mesos-overlay` of this build.
pub fn program() -> PathBuf {
    testbed::paths::program("mesos-overlay").unwrap()
}
