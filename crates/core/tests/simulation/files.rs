//! Masters with different files take turns, while operators change overlays of both
//! families, and an older master now and then forgets what was changed. What must follow
//! of each request and in each lead is worked out here anew, from docs/networks.md.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use ipnet::IpNet;
use overlay_core::proto::{OverlayInfo, State};
use prost::Message;

use crate::cluster;
use crate::cluster::{Process, Role};
use crate::faults;
use crate::networks;
use crate::networks::{Change, Operators, Wanted};
use crate::world::World;

/// Overlays by name.
type Overlays = BTreeMap<String, OverlayInfo>;

/// What is expected of the networks.
struct Model {
    /// By master.
    files: Vec<Overlays>,
    leader: usize,
    /// What operators changed.
    changed: BTreeMap<String, Changed>,
}

/// An overlay that was changed.
struct Changed {
    /// `None`: it was removed.
    info: Option<OverlayInfo>,
    /// The file of a leader had it when it was changed.
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

/// An overlay with ranges of its own; some have one family only. Its prefixes are these, or
/// longer.
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
        .map(|info| networks::add(info.clone()).body)
        .collect();
    format!(
        r#"{{"network": {{"vtep_subnet": "44.128.0.0/16", "vtep_subnet6": "fd01:a::/64",
            "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{}]}}}}"#,
        overlays.join(", ")
    )
}

/// The overlays of each of two masters.
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

/// Two masters and some agents.
pub fn world(seed: u64, trace: bool) -> World {
    let mut random = Rng::with_seed(seed);
    let files: Vec<String> = files(&mut random)
        .iter()
        .map(|overlays| file(overlays))
        .collect();
    let mut world = World::with(cluster::with_files(&files, 4), random, trace);
    world.elect(Some(0));
    world
}

/// Requests, new leaders, deletions and forgetful masters, one after the other.
pub fn play(world: &mut World) -> Result<(), String> {
    let mut model = Model {
        files: files_of(world),
        leader: 0,
        changed: BTreeMap::new(),
    };
    world.run_until_converged(world.now() + Duration::from_secs(3))?;
    for step in always() {
        model.step(world, step)?;
    }
    for _ in 0..20 {
        let step = Step::random(&mut world.random);
        model.step(world, step)?;
    }
    Ok(())
}

/// One thing that happens.
enum Step {
    /// An operator wants something.
    Request(Change),
    /// This master leads.
    Lead(usize),
    /// An older master has forgotten what was changed, and the other one of these leads.
    Forget,
    /// Agents get new subnets: this one, or some.
    Delete(Option<&'static str>),
}

/// What happens in each cluster at first: the cases in which the two masters differ most.
fn always() -> Vec<Step> {
    vec![
        // A name that only the first file has, removed by the second master: it does not
        // come back with the first one.
        Step::Request(networks::replace(overlay("mine", 1))),
        Step::Lead(1),
        Step::Request(networks::replace(overlay("mine", 2))),
        Step::Request(networks::remove("mine".into(), false)),
        Step::Lead(0),
        Step::Request(networks::hand_back("mine".into())),
        // Handed back with both families as they were.
        Step::Request(networks::replace(OverlayInfo {
            enabled: Some(false),
            ..overlay("both", 0)
        })),
        Step::Request(networks::hand_back("both".into())),
        // Subnets of two lengths, of which the log says nothing any more.
        Step::Request(networks::replace(overlay("six", 1))),
        Step::Delete(Some("10.0.2.2")),
        Step::Request(networks::hand_back("six".into())),
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

/// Something that an operator may want.
fn request(random: &mut Rng) -> Change {
    let name = NAMES[random.usize(0..NAMES.len())];
    let wanted = overlay(name, random.u32(0..3));
    match random.u8(0..8) {
        0..2 => networks::add(wanted),
        2..5 => networks::replace(wanted),
        5 | 6 => networks::hand_back(name.into()),
        _ => networks::remove(name.into(), false),
    }
}

/// What the masters' files say.
fn files_of(world: &World) -> Vec<Overlays> {
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
    world
        .processes
        .iter()
        .filter_map(file)
        .map(by_name)
        .collect()
}

impl Model {
    fn file(&self) -> &Overlays {
        &self.files[self.leader]
    }

    /// The overlay as it should be in force.
    fn in_force(&self, name: &str) -> Option<&OverlayInfo> {
        match self.changed.get(name) {
            Some(changed) => changed.info.as_ref(),
            None => self.file().get(name),
        }
    }

    /// A removal is remembered only where a file would bring the overlay back. (Nobody holds
    /// anything of it any more.)
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

    /// Something happens, and everything that follows from it is as it should be.
    fn step(&mut self, world: &mut World, step: Step) -> Result<(), String> {
        match step {
            Step::Request(change) => self.request(world, change)?,
            Step::Lead(leader) => self.lead(world, leader, false)?,
            Step::Forget => self.lead(world, 1 - self.leader, true)?,
            Step::Delete(agent) => {
                match agent {
                    Some(agent) => _ = world.delete(self.leader, &[agent.to_owned()], true)?,
                    None => faults::delete_some_agents(world)?,
                }
                world.run_for(Duration::from_secs(1))?;
            }
        }
        world.run_until_converged(world.now() + Duration::from_secs(4))?;
        self.settle();
        self.check(world)
    }

    /// An operator wants something.
    fn request(&mut self, world: &mut World, change: Change) -> Result<(), String> {
        let status = self.expect(&change, &held(world, &change.name));
        let shown = format!("{change:?}");
        let answer = world.change(self.leader, change)?;
        let id = overlay_core::RequestId(world.requests);
        world.run_for(Duration::from_secs(1))?;
        let answer = answer
            .or_else(|| world.answers.remove(&id))
            .ok_or("no answer within a second")?;
        match answer.status == status {
            true => Ok(()),
            false => Err(format!(
                "{shown} is answered with {answer:?} instead of {status}"
            )),
        }
    }

    /// The status that a request must be answered with; what is expected afterwards. `held`
    /// is what agents hold of the overlay.
    fn expect(&mut self, change: &Change, held: &[IpNet]) -> u16 {
        let name = change.name.as_str();
        let is = self.in_force(name).cloned();
        let same = |info: &OverlayInfo| {
            let changed = self
                .changed
                .get(name)
                .and_then(|changed| changed.info.as_ref());
            changed.is_some_and(|is| networks::same(is, info))
        };
        match &change.wanted {
            Wanted::Like(info) if same(info) => 200,
            Wanted::Like(_) if (change.method == "POST") == is.is_some() => match change.method {
                "POST" => 409,
                _ => 404,
            },
            Wanted::Like(info) => {
                self.put(name, Some(info.clone()));
                if change.method == "POST" { 201 } else { 200 }
            }
            Wanted::File => match (self.changed.contains_key(name), self.file().get(name)) {
                (false, None) => 404,
                (false, Some(_)) => 200,
                (true, None) => 409,
                (true, Some(file)) if !held.iter().all(|net| gives(file, net)) => 409,
                (true, Some(_)) => {
                    self.changed.remove(name);
                    200
                }
            },
            Wanted::Gone => {
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
    fn lead(&mut self, world: &mut World, leader: usize, forget: bool) -> Result<(), String> {
        if forget {
            world.log.rewrite(|value| {
                let mut state = State::decode(value).unwrap();
                state.networks = None;
                state.encode_to_vec()
            });
            world.check.operators = Operators::default();
            self.changed.clear();
        }
        self.leader = leader;
        world.elect(Some(self.leader));
        if self.is_contradictory(world) {
            world.check.watch.weather(false);
            self.serves_nobody(world)?;
            world.check.watch.weather(true);
            self.leader = 1 - self.leader;
            if self.is_contradictory(world) {
                return self.start_over(world);
            }
            world.elect(Some(self.leader));
        }
        world.run_for(Duration::from_millis(100))
    }

    /// Agents hold what the leader's file cannot have given them.
    fn is_contradictory(&self, world: &World) -> bool {
        let cannot = |(name, info): (&String, &OverlayInfo)| {
            let held = held(world, name);
            let lengths = |v4: bool| {
                let nets = held.iter().filter(|net| net.addr().is_ipv4() == v4);
                nets.map(IpNet::prefix_len).collect::<BTreeSet<u8>>().len()
            };
            let mixed = lengths(true) > 1 || lengths(false) > 1;
            !self.changed.contains_key(name) && !mixed && !held.iter().all(|net| gives(info, net))
        };
        self.file().iter().any(cannot)
    }

    /// A leader whose file contradicts the log changes nothing, and says so.
    fn serves_nobody(&self, world: &mut World) -> Result<(), String> {
        let value = world.log.value().clone();
        world.run_for(Duration::from_secs(2))?;
        let change = networks::remove("both".into(), false);
        let answer = world.change(self.leader, change)?;
        if answer.as_ref().is_none_or(|answer| answer.status != 503) {
            return Err(format!("serves what contradicts its file: {answer:?}"));
        }
        match value == *world.log.value() {
            true => Ok(()),
            false => Err("wrote what contradicts its file".into()),
        }
    }

    /// Neither file fits what agents hold: the log is removed on all masters.
    fn start_over(&mut self, world: &mut World) -> Result<(), String> {
        faults::wipe_the_log(world);
        world.elect(Some(self.leader));
        world.run_for(Duration::from_secs(1))
    }

    /// What is in force is what should be.
    fn check(&self, world: &World) -> Result<(), String> {
        let state = State::decode(world.log.value().clone()).unwrap();
        let is = networks::in_force(&state);
        for name in NAMES {
            let well = match (self.in_force(name), is.get(name)) {
                (Some(should), Some(is)) => networks::same(should, is),
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

/// What agents hold of this overlay, as the log has it.
fn held(world: &World, name: &str) -> Vec<IpNet> {
    let state = State::decode(world.log.value().clone()).unwrap();
    let overlays = state.agents.iter().flat_map(|agent| &agent.overlays);
    let overlays = overlays.filter(|overlay| overlay.info.name == name);
    let nets = overlays
        .flat_map(|overlay| [&overlay.subnet, &overlay.subnet6])
        .flatten();
    nets.map(|net| net.parse().unwrap()).collect()
}

/// Whether a file with this overlay can have given an agent this subnet.
fn gives(info: &OverlayInfo, net: &IpNet) -> bool {
    let (range, prefix) = match net {
        IpNet::V4(_) => (&info.subnet, info.prefix),
        IpNet::V6(_) => (&info.subnet6, info.prefix6),
    };
    let holds = |range: &String| range.parse::<IpNet>().unwrap().contains(net);
    range.as_ref().is_some_and(holds) && prefix == Some(net.prefix_len().into())
}
