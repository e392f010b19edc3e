//! Changes of overlay networks.

use std::io;
use std::process::ExitCode;

use overlay_core::config::overlay::is_overlay_name;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::definition::{Ranges, body, in_words};
use super::losses::{self, Holders};
use super::master;
use crate::answers::{MasterState, Overlay, OverlayInfo, Overlays};
use crate::change::{Change, ConsentOptions as Consent, NotDone, Request, send};
use crate::connection::http::Answer;
use crate::connection::{ConnectionOptions, Master};
use crate::finding::Finding;
use crate::output::page::Page;
use crate::output::{Failure, OutputOptions, Report, finish};

/// Path of the overlays at the master.
const OVERLAYS: &str = "/overlay-master/overlays";

/// Adds an overlay network. Agents get it at once.
///
/// Give the range and the prefix length of the agents' subnets for IPv4, IPv6 or both. The master
/// refuses a range that overlaps another one, and one that hosts lie in.
///
/// Exit status:
///   0  the network is there, and in the replicated log
///   1  the master refused it
///   2  the master could not be asked, --force was not confirmed, or wrong usage
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  mesos-overlay networks add web --subnet 10.64.0.0/16 --prefix 24
  mesos-overlay networks add both --subnet 10.65.0.0/16 --prefix 24 --subnet6 fd01:c::/64 --prefix6 80"
)]
pub struct AddOptions {
    /// Name of the network.
    #[arg(value_parser = name)]
    name: String,
    #[command(flatten)]
    ranges: Ranges,
    /// Add it without giving it to agents.
    #[arg(long)]
    disabled: bool,
    /// Permit a range that contains addresses of hosts. Containers and these hosts will not reach
    /// each other.
    #[arg(long, verbatim_doc_comment)]
    force: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Changes the definition of an overlay network. What no option names stays as it is.
///
/// Agents keep the subnets that they have: a range can grow, and shrink as far as nothing is
/// assigned; a new prefix applies to new agents. What would be lost is said before.
///
/// Exit status:
///   0  the change is made, and in the replicated log
///   1  the master refused it
///   2  the master could not be asked, the change was not confirmed, or wrong usage
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  mesos-overlay networks change web --subnet 10.64.0.0/15
  mesos-overlay networks change web --prefix 26
  mesos-overlay networks change web --disable --yes
  mesos-overlay networks change dcos --from-file --dry-run"
)]
pub struct ChangeOptions {
    /// Name of the network.
    #[arg(value_parser = name)]
    name: String,
    #[command(flatten)]
    ranges: Ranges,
    /// Remove the IPv4 range.
    #[arg(long, conflicts_with_all = ["subnet", "prefix"])]
    no_subnet: bool,
    /// Remove the IPv6 range.
    #[arg(long, conflicts_with_all = ["subnet6", "prefix6"])]
    no_subnet6: bool,
    /// Give it to agents.
    #[arg(long, conflicts_with = "disable")]
    enable: bool,
    /// Take it from agents, and keep its definition and their subnets.
    #[arg(long)]
    disable: bool,
    /// Restore the definition of the configuration file.
    #[arg(long, conflicts_with_all = [
        "subnet", "prefix", "subnet6", "prefix6", "no_subnet", "no_subnet6", "enable", "disable", "force",
    ])]
    from_file: bool,
    /// Permit a range that contains addresses of hosts. Containers and these hosts will not reach
    /// each other.
    #[arg(long, verbatim_doc_comment)]
    force: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Removes an overlay network.
///
/// It drains: no agent gets it any more, hosts remove it when no container uses it, and its ranges
/// are free when all agents have released it. What would be lost is said before.
///
/// Exit status:
///   0  the removal is in the replicated log
///   1  the master refused it
///   2  the master could not be asked, the removal was not confirmed, or wrong usage
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  mesos-overlay networks remove web
  mesos-overlay networks remove web --dry-run
  mesos-overlay networks remove web --force --yes"
)]
pub struct RemoveOptions {
    /// Name of the network.
    #[arg(value_parser = name)]
    name: String,
    /// Free its ranges at once, for agents that never come back. With running containers,
    /// this gives their addresses to others.
    #[arg(long, verbatim_doc_comment)]
    force: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Change of an overlay network.
#[derive(Debug, Serialize, JsonSchema)]
pub struct NetworkChange {
    #[serde(flatten)]
    change: Change,
    /// The network after the change, as the master answered; absent if nothing was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<Overlay>,
}

/// Result of `networks add`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Added(NetworkChange);

/// Result of `networks change`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Changed(NetworkChange);

/// Result of `networks remove`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Removed(NetworkChange);

impl NetworkChange {
    fn write(&self, page: &mut Page<'_>, verb: &str) -> io::Result<()> {
        if let Some(network) = &self.network {
            let definition = network.info.as_ref().map(in_words).unwrap_or_default();
            page.line(format_args!(
                "{verb} network {}: {definition}; it is {}.",
                network.name, network.state
            ))?;
        }
        self.change.write(page)
    }
}

macro_rules! report {
    ($type:ty, $command:literal, $verb:literal) => {
        impl Report for $type {
            const COMMAND: &'static str = $command;
            const EXAMINES: bool = false;

            fn findings(&self) -> &[Finding] {
                &[]
            }

            fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
                self.0.write(page, $verb)
            }
        }
    };
}

report!(Added, "networks add", "Added");
report!(Changed, "networks change", "Changed");
report!(Removed, "networks remove", "Removed");

/// Checks the name of an overlay.
fn name(text: &str) -> Result<String, String> {
    match is_overlay_name(text) {
        true => Ok(text.to_owned()),
        false => Err("this is no name of a network: use letters, digits and _ . -".to_owned()),
    }
}

/// Runs `networks add`.
pub fn add(options: &AddOptions) -> ExitCode {
    match try_to_add(options) {
        Ok(change) => finish(options.output, Ok(Added(change))),
        Err(not_done) => not_done.exit(),
    }
}

fn try_to_add(options: &AddOptions) -> Result<NetworkChange, NotDone> {
    options.ranges.check()?;
    let info = OverlayInfo {
        name: options.name.clone(),
        enabled: !options.disabled,
        ..OverlayInfo::default()
    };
    let body = body(&options.ranges.onto(info), options.force);
    let losses = losses::of_force(options.force);
    let change = Change::new(request("POST", None, Some(body)), losses);
    let master = master(&options.connection)?;
    if !change.confirm(options.consent, &options.name)? {
        return Ok(NetworkChange {
            change,
            network: None,
        });
    }
    let answer = send_first(&master, &change, &options.name)?;
    let mut done = NetworkChange::done(change, &answer)?;
    if answer.status == 200 {
        done.change
            .notes
            .push("it was there already, and nothing changed".to_owned());
    }
    Ok(done)
}

/// Runs `networks change`.
pub fn change(options: &ChangeOptions) -> ExitCode {
    match try_to_change(options) {
        Ok(change) => finish(options.output, Ok(Changed(change))),
        Err(not_done) => not_done.exit(),
    }
}

fn try_to_change(options: &ChangeOptions) -> Result<NetworkChange, NotDone> {
    options.ranges.check()?;
    let master = master(&options.connection)?;
    let overlays = master.overlays()?;
    let overlay = find(&overlays, &options.name)?;
    let from = overlay
        .info
        .clone()
        .unwrap_or_else(|| nothing(&options.name));
    let (to, body) = wanted(options, overlay, &from);
    let mut change = Change::new(request("PUT", Some(&options.name), Some(body)), Vec::new());
    if !options.from_file && to == from {
        change.done = true;
        change.requests.clear();
        change
            .notes
            .push(format!("network {} is like that already", options.name));
        return Ok(NetworkChange {
            change,
            network: Some(overlay.clone()),
        });
    }
    let losses = |overlay: &Overlay, state: &MasterState| {
        let mut losses = losses::of_force(options.force);
        let holders = Holders::new(overlay, state);
        losses.extend(losses::of_change(&options.name, &from, &to, &holders));
        losses
    };
    let state = master.state()?;
    change.losses = losses(overlay, &state);
    carry_out(&master, overlay, change, options.consent, losses)
}

/// Returns the definition that the options want, and the body of the request.
fn wanted(options: &ChangeOptions, overlay: &Overlay, from: &OverlayInfo) -> (OverlayInfo, Value) {
    if options.from_file {
        let to = overlay.file.clone().unwrap_or_else(|| from.clone());
        return (to, json!({ "source": "file" }));
    }
    let mut to = options.ranges.onto(from.clone());
    if options.no_subnet {
        (to.subnet, to.prefix) = (None, None);
    }
    if options.no_subnet6 {
        (to.subnet6, to.prefix6) = (None, None);
    }
    to.enabled = (to.enabled || options.enable) && !options.disable;
    let body = body(&to, options.force);
    (to, body)
}

/// Runs `networks remove`.
pub fn remove(options: &RemoveOptions) -> ExitCode {
    match try_to_remove(options) {
        Ok(change) => finish(options.output, Ok(Removed(change))),
        Err(not_done) => not_done.exit(),
    }
}

fn try_to_remove(options: &RemoveOptions) -> Result<NetworkChange, NotDone> {
    let master = master(&options.connection)?;
    let overlays = master.overlays()?;
    let overlay = find(&overlays, &options.name)?;
    let losses = |overlay: &Overlay, state: &MasterState| {
        losses::of_removal(overlay, &Holders::new(overlay, state), options.force)
    };
    let body = options.force.then(|| json!({ "force": true }));
    let request = request("DELETE", Some(&options.name), body);
    let mut change = Change::new(request, losses(overlay, &master.state()?));
    if overlay.source == "file" || overlay.file.is_some() {
        change.notes.push(format!(
            "the configuration file of the master defines {0}, too: it stays removed, and mesos-overlay networks change {0} --from-file restores it",
            options.name
        ));
    }
    carry_out(&master, overlay, change, options.consent, losses)
}

/// Has the operator confirm, and makes the change unless the overlay is another one meanwhile, or
/// something else is lost. `losses` returns what is lost.
fn carry_out(
    master: &Master,
    before: &Overlay,
    change: Change,
    consent: Consent,
    losses: impl Fn(&Overlay, &MasterState) -> Vec<String>,
) -> Result<NetworkChange, NotDone> {
    let name = before.name.as_str();
    if !change.confirm(consent, name)? {
        return Ok(NetworkChange {
            change,
            network: None,
        });
    }
    let now = master.overlays()?;
    let there = now.overlays.iter().find(|overlay| overlay.name == name);
    let Some(there) = there.filter(|there| is_same(there, before)) else {
        return Err(Failure(format!(
            "network {name} was changed by somebody else meanwhile, and nothing was sent; look at it (mesos-overlay networks show {name}) and try again"
        ))
        .into());
    };
    // The operator may have taken a long time to answer.
    if !consent.yes && !change.losses.is_empty() && losses(there, &master.state()?) != change.losses
    {
        return Err(Failure(format!(
            "the agents that hold subnets of network {name} are others meanwhile, and nothing was sent; look at it (mesos-overlay networks show {name}) and try again"
        ))
        .into());
    }
    let answer = send_first(master, &change, name)?;
    let mut done = NetworkChange::done(change, &answer)?;
    // A change raises the revision by one.
    let after = master.overlays().map(|overlays| overlays.revision);
    if after.is_ok_and(|after| after > now.revision + 1) {
        done.change.notes.push("somebody else changed networks at the same time; look at them with mesos-overlay networks list".to_owned());
    }
    Ok(done)
}

impl NetworkChange {
    fn done(change: Change, answer: &Answer) -> Result<NetworkChange, NotDone> {
        let network = serde_json::from_slice(&answer.body).map_err(|error| {
            Failure(format!(
                "the change was made, but the answer is not understood: {error}"
            ))
        })?;
        Ok(NetworkChange {
            change: Change {
                done: true,
                ..change
            },
            network: Some(network),
        })
    }
}

fn send_first(master: &Master, change: &Change, name: &str) -> Result<Answer, NotDone> {
    let find_out = format!("mesos-overlay networks show {name}");
    let request = change
        .requests
        .first()
        .ok_or_else(|| Failure::from("nothing to send"))?;
    send(master, request, &find_out)
}

fn request(method: &'static str, name: Option<&str>, body: Option<Value>) -> Request {
    Request {
        method,
        path: name.map_or(OVERLAYS.to_owned(), |name| format!("{OVERLAYS}/{name}")),
        body,
    }
}

/// Returns an overlay of the list.
///
/// # Errors
/// There is none of that name.
pub fn find<'a>(overlays: &'a Overlays, name: &str) -> Result<&'a Overlay, NotDone> {
    let found = overlays
        .overlays
        .iter()
        .find(|overlay| overlay.name == name);
    found.ok_or_else(|| {
        let names: Vec<String> = overlays
            .overlays
            .iter()
            .map(|overlay| overlay.name.clone())
            .collect();
        NotDone::Refused(match names.is_empty() {
            true => format!("there is no network {name}, and no other one"),
            false => format!(
                "there is no network {name}; there are: {}",
                names.join(", ")
            ),
        })
    })
}

/// Returns true if two answers about an overlay have the same definition and state. The number of
/// its holders, and of its free subnets, changes without an operator.
fn is_same(one: &Overlay, other: &Overlay) -> bool {
    let plain = |info: &Option<OverlayInfo>| {
        info.clone().map(|info| OverlayInfo {
            agent_subnets: None,
            ..info
        })
    };
    let part = |overlay: &Overlay| {
        (
            plain(&overlay.info),
            overlay.source.clone(),
            plain(&overlay.file),
            overlay.state.clone(),
        )
    };
    part(one) == part(other)
}

fn nothing(name: &str) -> OverlayInfo {
    OverlayInfo {
        name: name.to_owned(),
        enabled: true,
        ..OverlayInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_that_come_and_go_do_not_change_an_overlay() {
        let text = r#"{"name":"a","state":"active","source":"stored","agents":2,
            "info":{"name":"a","subnet":"9.0.0.0/8","prefix":24,"agent_subnets":{"free":7}}}"#;
        let overlay = |text: &str| serde_json::from_str::<Overlay>(text).unwrap();
        let one = overlay(text);
        for other in [
            text.replace(r#""agents":2"#, r#""agents":3"#),
            text.replace(r#""free":7"#, r#""free":6"#),
            text.replace(r#""agents""#, r#""holders":["10.0.0.1"],"agents""#),
        ] {
            assert!(is_same(&one, &overlay(&other)), "{other}");
        }
        for other in [
            text.replace("24", "25"),
            text.replace("stored", "file"),
            text.replace("active", "draining"),
        ] {
            assert!(!is_same(&one, &overlay(&other)), "{other}");
        }
    }
}
