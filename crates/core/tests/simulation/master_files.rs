//! Scenario in which masters with different files take turns while operators change overlays of
//! both families. Sometimes an older master forgets the changes. Each answer and the overlays of
//! each lead are predicted independently, from docs/networks.md.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use ipnet::IpNet;
use overlay_core::proto::{OverlayInfo, State};
use prost::Message;

use crate::cluster;
use crate::cluster::{Process, Role};
use crate::faults;
use crate::overlay_changes;
use crate::overlay_changes::{Change, Expected, Operators};
use crate::simulation::Simulation;

/// Overlays by name.
type Overlays = BTreeMap<String, OverlayInfo>;

/// Expected overlays.
struct Model {
    /// Overlays in the file of each master.
    files: Vec<Overlays>,
    leader: usize,
    /// Changed overlays.
    changed: BTreeMap<String, Changed>,
}

/// A changed overlay.
struct Changed {
    /// Definition; `None`: the overlay was removed.
    info: Option<OverlayInfo>,
    /// The leader's file had the overlay when it was changed.
    in_file: bool,
}

fn info(name: &str, v4: Option<(&str, u32)>, v6: Option<(&str, u32)>) -> OverlayInfo {
    OverlayInfo {
        name: name.into(),
        subnet: v4.map(|(subnet, _)| subnet.into()),
        prefix: v4.map(|(_, prefix)| prefix),
        subnet6: v6.map(|(subnet, _)| subnet.into()),
        prefix6: v6.map(|(_, prefix)| prefix),
        enabled: Some(true),
    }
}

/// Returns the definition of an overlay, some with one family only. Prefixes are `longer` than
/// usual by this number of bits.
fn overlay(name: &str, longer: u32) -> OverlayInfo {
    let (prefix, prefix6) = (24 + longer, 80 + longer);
    match name {
        "both" => info(
            name,
            Some(("9.64.0.0/16", prefix)),
            Some(("fd01:c::/64", prefix6)),
        ),
        "six" => info(name, None, Some(("fd01:b::/64", prefix6))),
        "other" => info(
            name,
            Some(("9.65.0.0/16", prefix)),
            Some(("fd01:d::/64", prefix6)),
        ),
        "mine" => info(
            name,
            Some(("9.66.0.0/16", prefix)),
            Some(("fd01:e::/64", prefix6)),
        ),
        "yours" => info(name, None, Some(("fd01:f::/64", prefix6))),
        _ => info(
            "new",
            Some(("9.67.0.0/16", prefix)),
            Some(("fd01:10::/64", prefix6)),
        ),
    }
}

const NAMES: [&str; 6] = ["both", "six", "other", "mine", "yours", "new"];

fn file(overlays: &[OverlayInfo]) -> String {
    let overlays: Vec<String> = overlays
        .iter()
        .map(|info| overlay_changes::add(info.clone()).body)
        .collect();
    format!(
        r#"{{"network": {{"vtep_subnet": "44.128.0.0/16", "vtep_subnet6": "fd01:a::/64",
            "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{}]}}}}"#,
        overlays.join(", ")
    )
}

/// Returns random overlays for the files of two masters.
fn files(random: &mut Rng) -> Vec<Vec<OverlayInfo>> {
    // One of them has it otherwise, which is well as long as the log has it.
    let longer = random.u32(0..2);
    let first = ["both", "six", "other", "mine"]
        .map(|name| overlay(name, 0))
        .to_vec();
    let mut second = ["both", "six", "yours"]
        .map(|name| overlay(name, 0))
        .to_vec();
    second.push(overlay("other", longer));
    vec![first, second]
}

/// Creates a simulation with two masters and some agents.
pub fn sim(seed: u64, trace: bool) -> Simulation {
    let mut random = Rng::with_seed(seed);
    let files: Vec<String> = files(&mut random)
        .iter()
        .map(|overlays| file(overlays))
        .collect();
    let mut sim = Simulation::with(cluster::with_files(&files, 4), random, trace);
    sim.elect(Some(0));
    sim
}

/// Runs requests, elections, deletions and forgetful masters in random order.
pub fn play(sim: &mut Simulation) -> Result<(), String> {
    let mut model = Model {
        files: files_of(sim),
        leader: 0,
        changed: BTreeMap::new(),
    };
    sim.run_until_converged(sim.now() + Duration::from_secs(3))?;
    for step in always() {
        model.step(sim, step)?;
    }
    for _ in 0..20 {
        let step = Step::random(&mut sim.random);
        model.step(sim, step)?;
    }
    Ok(())
}

/// Step of the scenario.
enum Step {
    /// An operator requests a change.
    Request(Change),
    /// A master is elected.
    Lead(usize),
    /// An older master forgets the changes, and then this one is elected.
    Forget,
    /// This agent is deleted, or some are, and get new subnets.
    Delete(Option<&'static str>),
}

/// Returns the first steps in each cluster: the cases in which the two masters differ most.
fn always() -> Vec<Step> {
    vec![
        // A name that only the first file has, removed by the second master: it does not
        // come back with the first one.
        Step::Request(overlay_changes::replace(overlay("mine", 1))),
        Step::Lead(1),
        Step::Request(overlay_changes::replace(overlay("mine", 2))),
        Step::Request(overlay_changes::remove("mine".into(), false)),
        Step::Lead(0),
        Step::Request(overlay_changes::reset_to_file("mine".into())),
        // Handed back with both families as they were.
        Step::Request(overlay_changes::replace(OverlayInfo {
            enabled: Some(false),
            ..overlay("both", 0)
        })),
        Step::Request(overlay_changes::reset_to_file("both".into())),
        // Subnets of two lengths, of which the log says nothing any more.
        Step::Request(overlay_changes::replace(overlay("six", 1))),
        Step::Delete(Some("10.0.2.2")),
        Step::Request(overlay_changes::reset_to_file("six".into())),
        Step::Forget,
    ]
}

impl Step {
    fn random(random: &mut Rng) -> Step {
        match random.u8(0..10) {
            0..6 => Step::Request(request(random)),
            6 | 7 => Step::Lead(random.usize(0..2)),
            8 => Step::Forget,
            _ => Step::Delete(None),
        }
    }
}

/// Returns a random request.
fn request(random: &mut Rng) -> Change {
    let name = NAMES[random.usize(0..NAMES.len())];
    let wanted = overlay(name, random.u32(0..3));
    match random.u8(0..8) {
        0..2 => overlay_changes::add(wanted),
        2..5 => overlay_changes::replace(wanted),
        5 | 6 => overlay_changes::reset_to_file(name.into()),
        _ => overlay_changes::remove(name.into(), false),
    }
}

/// Returns the overlays of the masters' files.
fn files_of(sim: &Simulation) -> Vec<Overlays> {
    let file = |process: &Process| match &process.role {
        Role::Master(config) => Some(config.network.to_wire().overlays),
        Role::Agent(_) => None,
    };
    let by_name = |overlays: Vec<OverlayInfo>| {
        overlays
            .into_iter()
            .map(|it| (it.name.clone(), it))
            .collect()
    };
    sim.processes.iter().filter_map(file).map(by_name).collect()
}

impl Model {
    fn file(&self) -> &Overlays {
        &self.files[self.leader]
    }

    /// Returns the definition that should be in force.
    fn in_force(&self, name: &str) -> Option<&OverlayInfo> {
        match self.changed.get(name) {
            Some(changed) => changed.info.as_ref(),
            None => self.file().get(name),
        }
    }

    /// Forgets removals that no file would undo. (No agent holds anything of such an overlay any
    /// more.)
    fn settle(&mut self) {
        self.changed
            .retain(|_, changed| changed.info.is_some() || changed.in_file);
    }

    fn put(&mut self, name: &str, info: Option<OverlayInfo>) {
        let before = self
            .changed
            .get(name)
            .is_some_and(|changed| changed.in_file);
        let in_file = before || self.file().contains_key(name);
        self.changed
            .insert(name.to_owned(), Changed { info, in_file });
    }

    /// Carries out a step, and checks the result.
    fn step(&mut self, sim: &mut Simulation, step: Step) -> Result<(), String> {
        match step {
            Step::Request(change) => self.request(sim, change)?,
            Step::Lead(leader) => self.lead(sim, leader, false)?,
            Step::Forget => self.lead(sim, 1 - self.leader, true)?,
            Step::Delete(agent) => {
                match agent {
                    Some(agent) => _ = sim.delete(self.leader, &[agent.to_owned()], true)?,
                    None => faults::delete_some_agents(sim)?,
                }
                sim.run_for(Duration::from_secs(1))?;
            }
        }
        sim.run_until_converged(sim.now() + Duration::from_secs(4))?;
        self.settle();
        self.check(sim)
    }

    /// An operator wants something.
    fn request(&mut self, sim: &mut Simulation, change: Change) -> Result<(), String> {
        let status = self.expect(&change, &held(sim, &change.name));
        let shown = format!("{change:?}");
        let answer = sim.change(self.leader, change)?;
        let id = overlay_core::RequestId(sim.requests);
        sim.run_for(Duration::from_secs(1))?;
        let answer = answer
            .or_else(|| sim.answers.remove(&id))
            .ok_or("no answer within a second")?;
        match answer.status == status {
            true => Ok(()),
            false => Err(format!(
                "{shown} is answered with {answer:?} instead of {status}"
            )),
        }
    }

    /// Returns the expected status of a request, and updates the expectations. `held` are the
    /// agents' subnets of the overlay.
    fn expect(&mut self, change: &Change, held: &[IpNet]) -> u16 {
        let name = change.name.as_str();
        let is = self.in_force(name).cloned();
        let same = |info: &OverlayInfo| {
            let changed = self
                .changed
                .get(name)
                .and_then(|changed| changed.info.as_ref());
            changed.is_some_and(|is| overlay_changes::same(is, info))
        };
        match &change.expected {
            Expected::Definition(info) if same(info) => 200,
            Expected::Definition(_) if (change.method == "POST") == is.is_some() => {
                match change.method {
                    "POST" => 409,
                    _ => 404,
                }
            }
            Expected::Definition(info) => {
                self.put(name, Some(info.clone()));
                if change.method == "POST" { 201 } else { 200 }
            }
            Expected::File => match (self.changed.contains_key(name), self.file().get(name)) {
                (false, None) => 404,
                (false, Some(_)) => 200,
                (true, None) => 409,
                (true, Some(file)) if !held.iter().all(|net| gives(file, net)) => 409,
                (true, Some(_)) => {
                    self.changed.remove(name);
                    200
                }
            },
            Expected::Removed => {
                if is.is_none() && !self.changed.contains_key(name) && held.is_empty() {
                    return 404;
                }
                if is.is_some() || !self.changed.contains_key(name) {
                    self.put(name, None);
                }
                200
            }
        }
    }

    /// This master leads. Before that, an older one may have forgotten what was changed.
    fn lead(&mut self, sim: &mut Simulation, leader: usize, forget: bool) -> Result<(), String> {
        if forget {
            sim.log.rewrite(|value| {
                let mut state = State::decode(value).unwrap();
                state.networks = None;
                state.encode_to_vec()
            });
            sim.checker.operators = Operators::default();
            self.changed.clear();
        }
        self.leader = leader;
        sim.elect(Some(self.leader));
        if self.is_contradictory(sim) {
            sim.checker.protocol.begin_faults();
            self.serves_nobody(sim)?;
            sim.checker.protocol.end_faults();
            self.leader = 1 - self.leader;
            if self.is_contradictory(sim) {
                return self.start_over(sim);
            }
            sim.elect(Some(self.leader));
        }
        sim.run_for(Duration::from_millis(100))
    }

    /// Returns whether agents hold subnets that the leader's file cannot have assigned.
    fn is_contradictory(&self, sim: &Simulation) -> bool {
        let cannot = |(name, info): (&String, &OverlayInfo)| {
            let held = held(sim, name);
            let lengths = |v4: bool| {
                let nets = held.iter().filter(|net| net.addr().is_ipv4() == v4);
                nets.map(IpNet::prefix_len).collect::<BTreeSet<u8>>().len()
            };
            let mixed = lengths(true) > 1 || lengths(false) > 1;
            !self.changed.contains_key(name) && !mixed && !held.iter().all(|net| gives(info, net))
        };
        self.file().iter().any(cannot)
    }

    /// Checks that a leader whose file contradicts the log changes nothing, and reports it.
    fn serves_nobody(&self, sim: &mut Simulation) -> Result<(), String> {
        let value = sim.log.value().clone();
        sim.run_for(Duration::from_secs(2))?;
        let change = overlay_changes::remove("both".into(), false);
        let answer = sim.change(self.leader, change)?;
        if answer.as_ref().is_none_or(|answer| answer.status != 503) {
            return Err(format!("serves what contradicts its file: {answer:?}"));
        }
        match value == *sim.log.value() {
            true => Ok(()),
            false => Err("wrote what contradicts its file".into()),
        }
    }

    /// Removes the log on all masters, because neither file fits the agents' subnets.
    fn start_over(&mut self, sim: &mut Simulation) -> Result<(), String> {
        faults::remove_log(sim);
        sim.elect(Some(self.leader));
        sim.run_for(Duration::from_secs(1))
    }

    /// Checks the overlays in force.
    fn check(&self, sim: &Simulation) -> Result<(), String> {
        let state = State::decode(sim.log.value().clone()).unwrap();
        let is = overlay_changes::in_force(&state);
        for name in NAMES {
            let well = match (self.in_force(name), is.get(name)) {
                (Some(should), Some(is)) => overlay_changes::same(should, is),
                (should, is) => should.is_none() && is.is_none(),
            };
            if !well {
                return Err(format!(
                    "{name} is {:?} instead of {:?}",
                    is.get(name),
                    self.in_force(name)
                ));
            }
        }
        Ok(())
    }
}

/// Returns the agents' subnets of an overlay in the log.
fn held(sim: &Simulation, name: &str) -> Vec<IpNet> {
    let state = State::decode(sim.log.value().clone()).unwrap();
    let overlays = state.agents.iter().flat_map(|agent| &agent.overlays);
    let overlays = overlays.filter(|overlay| overlay.info.name == name);
    let nets = overlays
        .flat_map(|overlay| [&overlay.subnet, &overlay.subnet6])
        .flatten();
    nets.map(|net| net.parse().unwrap()).collect()
}

/// Returns whether a master with this overlay can have assigned this subnet.
fn gives(info: &OverlayInfo, net: &IpNet) -> bool {
    let (range, prefix) = match net {
        IpNet::V4(_) => (&info.subnet, info.prefix),
        IpNet::V6(_) => (&info.subnet6, info.prefix6),
    };
    let holds = |range: &String| range.parse::<IpNet>().unwrap().contains(net);
    range.as_ref().is_some_and(holds) && prefix == Some(net.prefix_len().into())
}
