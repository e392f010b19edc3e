//! Requests to change overlays, and checks of their answers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fastrand::Rng;
use overlay_core::proto::{AgentInfo, BridgeInfo, OverlayInfo, State, StoredOverlay};
use overlay_core::{RequestId, Response};
use prost::Message;

use crate::cluster::Process;

/// Expected result of a request.
#[derive(Clone, Debug)]
pub enum Expected {
    /// The overlay has this definition.
    Definition(OverlayInfo),
    /// The overlay is that of the file.
    File,
    /// The overlay is removed.
    Removed,
}

/// A request to change an overlay.
#[derive(Clone, Debug)]
pub struct Change {
    pub method: &'static str,
    pub name: String,
    pub body: String,
    pub expected: Expected,
    pub force: bool,
}

/// Summary of a changed overlay in the log; `None`: the log has none.
type Entry = Option<String>;

/// Requests of operators, and what follows from their answers.
#[derive(Default)]
pub struct Operators {
    /// Unanswered requests, with the overlay in the log before, if that is known.
    pending: BTreeMap<RequestId, (Change, Option<Entry>)>,
    /// Overlays that the log must have, because there was no other request.
    certain: BTreeMap<String, Entry>,
    /// Overlays that have been removed by force.
    forced: BTreeSet<String>,
    /// Latest revision. Revisions only grow.
    revision: u64,
    /// Number of changes that were made.
    done: u64,
}

fn summary(overlay: &StoredOverlay) -> String {
    let OverlayInfo {
        subnet,
        prefix,
        subnet6,
        prefix6,
        ..
    } = &overlay.info;
    let removed = if overlay.removed.is_some() {
        "removed"
    } else {
        "there"
    };
    format!(
        "{removed} {subnet:?} {prefix:?} {subnet6:?} {prefix6:?} {}",
        overlay.info.enabled()
    )
}

fn entry(state: &State, name: &str) -> Entry {
    let overlays = state
        .networks
        .iter()
        .flat_map(|networks| &networks.overlays);
    overlays
        .into_iter()
        .find(|overlay| overlay.info.name == name)
        .map(summary)
}

impl Operators {
    /// Returns whether a request about this overlay is unanswered.
    pub fn is_pending(&self, name: &str) -> bool {
        self.pending.values().any(|(change, _)| change.name == name)
    }

    /// Returns the number of changes that were made.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Records a request.
    pub fn ask(&mut self, id: RequestId, change: Change) {
        let before = self.certain.remove(&change.name);
        if change.force {
            self.forced.insert(change.name.clone());
        }
        self.pending.insert(id, (change, before));
    }

    /// Forgets a request that will not be answered.
    pub fn forget(&mut self, id: RequestId) {
        self.pending.remove(&id);
    }

    /// Checks an answer of a master that relies on the value `stored` of the log.
    pub fn answered(
        &mut self,
        id: RequestId,
        response: &Response,
        stored: Option<&Bytes>,
    ) -> Result<(), String> {
        let Some((change, before)) = self.pending.remove(&id) else {
            return Ok(());
        };
        let text = String::from_utf8_lossy(&response.body);
        if response.status >= 300 {
            if !text.starts_with("It is not known") {
                self.certain
                    .extend(before.map(|before| (change.name, before)));
            }
            return Ok(());
        }
        let stored = stored.ok_or("answers without knowing what is in the log")?;
        let state = State::decode(stored.clone()).map_err(|error| error.to_string())?;
        let in_force = in_force(&state);
        let is = in_force.get(change.name.as_str());
        let has = entry(&state, &change.name);
        let is_right = match &change.expected {
            Expected::Definition(info) => is.is_some_and(|is| same(is, info)),
            Expected::File => has.is_none(),
            Expected::Removed => {
                is.is_none() && has.as_ref().is_none_or(|has| has.starts_with("removed"))
            }
        };
        if !is_right {
            return Err(format!(
                "says {} to {change:?}, but the log has {is:?} {has:?}",
                response.status
            ));
        }
        self.certain.insert(change.name, has);
        self.done += 1;
        Ok(())
    }

    /// Checks a value of the log.
    pub fn log(&mut self, state: &State) -> Result<(), String> {
        let revision = state
            .networks
            .as_ref()
            .map_or(0, |networks| networks.revision());
        if revision < self.revision {
            return Err(format!(
                "the revision goes back from {} to {revision}",
                self.revision
            ));
        }
        self.revision = revision;
        for (name, certain) in &self.certain {
            let has = entry(state, name);
            // A removal is forgotten when nothing depends on it any more.
            let forgotten = has.is_none()
                && certain
                    .as_ref()
                    .is_some_and(|was| was.starts_with("removed"));
            if has != *certain && !forgotten {
                return Err(format!(
                    "{name} was {certain:?} and nobody wanted it to be {has:?}"
                ));
            }
        }
        Ok(())
    }

    /// Returns whether an agent may lose its subnets of this overlay: it was removed, and the host
    /// has nothing of it.
    pub fn may_go(&self, before: &State, name: &str, process: &Process) -> bool {
        let removed = entry(before, name).is_some_and(|entry| entry.starts_with("removed"));
        self.forced.contains(name) || removed && !process.host_has(name)
    }
}

/// Returns whether two definitions are equivalent.
pub fn same(one: &OverlayInfo, other: &OverlayInfo) -> bool {
    let v4 = (&one.subnet, one.prefix) == (&other.subnet, other.prefix);
    let v6 = (&one.subnet6, one.prefix6) == (&other.subnet6, other.prefix6);
    v4 && v6 && one.enabled() == other.enabled()
}

/// Returns the overlays in force, by name.
pub fn in_force(state: &State) -> BTreeMap<&str, &OverlayInfo> {
    let overlays = state.network.iter().flat_map(|network| &network.overlays);
    overlays
        .map(|overlay| (overlay.name.as_str(), overlay))
        .collect()
}

/// Returns whether an overlay is in force in this value of the log.
pub fn is_in_force(log: &Bytes, name: &str) -> bool {
    State::decode(log.clone()).is_ok_and(|state| in_force(&state).contains_key(name))
}

/// Returns a request to add an IPv4 overlay.
pub fn addition(name: &str, subnet: &str) -> Change {
    let info = OverlayInfo {
        name: name.into(),
        subnet: Some(subnet.into()),
        prefix: Some(24),
        enabled: Some(true),
        ..OverlayInfo::default()
    };
    add(info)
}

/// Returns a definition as JSON, with or without its name.
fn definition(info: &OverlayInfo, named: bool) -> String {
    let mut json = serde_json::json!({ "enabled": info.enabled() });
    let mut put = |key: &str, value: Option<serde_json::Value>| {
        value.into_iter().for_each(|value| json[key] = value);
    };
    put("name", named.then(|| info.name.clone().into()));
    put("subnet", info.subnet.clone().map(Into::into));
    put("prefix", info.prefix.map(Into::into));
    put("subnet6", info.subnet6.clone().map(Into::into));
    put("prefix6", info.prefix6.map(Into::into));
    json.to_string()
}

/// Returns a request to add this overlay.
pub fn add(info: OverlayInfo) -> Change {
    let body = definition(&info, true);
    Change {
        method: "POST",
        name: info.name.clone(),
        body,
        expected: Expected::Definition(info),
        force: false,
    }
}

/// Returns a request to replace an overlay's definition.
pub fn replace(info: OverlayInfo) -> Change {
    let body = definition(&info, false);
    Change {
        method: "PUT",
        name: info.name.clone(),
        body,
        expected: Expected::Definition(info),
        force: false,
    }
}

/// Returns a request to reset an overlay to the file.
pub fn reset_to_file(name: String) -> Change {
    let body = r#"{"source": "file"}"#.to_owned();
    Change {
        method: "PUT",
        name,
        body,
        expected: Expected::File,
        force: false,
    }
}

/// Returns a request to remove an overlay. With `force`, agents may lose subnets in use.
pub fn remove(name: String, force: bool) -> Change {
    let body = if force {
        r#"{"force": true}"#.to_owned()
    } else {
        String::new()
    };
    Change {
        method: "DELETE",
        name,
        body,
        expected: Expected::Removed,
        force,
    }
}

/// Returns an agent with only the overlays and families that masters assign.
pub fn assigned(state: &State, agent: &AgentInfo) -> AgentInfo {
    let in_force = in_force(state);
    let mut agent = agent.clone();
    agent.overlays.retain_mut(|overlay| {
        let Some(info) = in_force
            .get(overlay.info.name.as_str())
            .filter(|info| info.enabled())
        else {
            return false;
        };
        overlay.subnet = overlay.subnet.take().filter(|_| info.subnet.is_some());
        overlay.subnet6 = overlay.subnet6.take().filter(|_| info.subnet6.is_some());
        for bridge in [&mut overlay.mesos_bridge, &mut overlay.docker_bridge] {
            leave_out_families(bridge, info);
        }
        true
    });
    agent
}

/// Leaves out of a bridge the families that the overlay does not have any more.
fn leave_out_families(bridge: &mut Option<BridgeInfo>, info: &OverlayInfo) {
    if let Some(bridge) = bridge {
        bridge.ip = bridge.ip.take().filter(|_| info.subnet.is_some());
        bridge.ip6 = bridge.ip6.take().filter(|_| info.subnet6.is_some());
    }
    bridge.take_if(|bridge| bridge.ip.is_none() && bridge.ip6.is_none());
}

/// Returns the removed overlays of which an agent has something.
pub fn draining<'a>(state: &State, agent: &'a AgentInfo) -> impl Iterator<Item = &'a str> {
    let removed =
        |name: &&str| entry(state, name).is_some_and(|entry| entry.starts_with("removed"));
    let names: Vec<&str> = agent
        .overlays
        .iter()
        .map(|overlay| overlay.info.name.as_str())
        .filter(removed)
        .collect();
    names.into_iter()
}

/// Returns a random request, not always a possible one.
pub fn change(random: &mut Rng) -> Change {
    let names = [
        "dcos", "web", "off", "dcos6", "both", "extra", "run1", "run2", "run3",
    ];
    let name = names[random.usize(0..names.len())].to_owned();
    // Room for every agent whatever the prefix; some overlap others.
    let number = random.u8(0..8);
    let (v4, v6) = match (name.as_str(), number) {
        (_, 0) => (
            Some("44.0.0.0/8".to_owned()),
            Some("fd01:a::/60".to_owned()),
        ),
        ("dcos", 1..4) => (Some("9.0.0.0/18".to_owned()), None),
        ("dcos", _) => (
            Some("9.0.0.0/19".to_owned()),
            Some("fd01:d::/64".to_owned()),
        ),
        ("web", 1..4) => (Some("9.128.0.0/15".to_owned()), None),
        ("web", _) => (Some("9.128.0.0/16".to_owned()), None),
        ("dcos6", 1..4) => (None, Some("fd01:b::/75".to_owned())),
        ("dcos6", _) => (None, Some("fd01:b::/76".to_owned())),
        ("both", 1..4) => (
            Some("9.64.0.0/19".to_owned()),
            Some("fd01:c::/63".to_owned()),
        ),
        ("both", _) => (
            Some("9.64.0.0/20".to_owned()),
            Some("fd01:c::/64".to_owned()),
        ),
        _ => {
            let families = random.u8(0..4);
            let v4 = (families < 3).then(|| format!("9.16{}.0.0/18", number % 4));
            (
                v4,
                (families > 1).then(|| format!("fd01:16{}::/64", number % 4)),
            )
        }
    };
    let info = OverlayInfo {
        name: name.clone(),
        prefix: v4.is_some().then(|| random.u32(24..28)),
        subnet: v4,
        prefix6: v6.is_some().then(|| random.u32(80..84)),
        subnet6: v6,
        enabled: Some(random.u8(0..6) > 0),
    };
    let force = random.u8(0..10) == 0;
    match random.u8(0..9) {
        0..3 => add(info),
        3..5 => replace(info),
        5 => reset_to_file(name),
        _ => remove(name, force),
    }
}
