//! Which networks are in force: those of this master's configuration file, and what
//! operators changed while the cluster ran, which the log has. The two meet by the
//! name of the overlay; the rules stand in docs/networks.md.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::Level;
use crate::allocation::allocator::DualStackNet;
use crate::allocation::prefix::overlap;
use crate::config::master::{Definition, read_definition};
use crate::config::{Network, OverlayConfig};
use crate::proto;
use crate::util::line::one_line;

/// What agents hold, by overlay. An agent may hold an overlay without a subnet of it.
pub type Held = BTreeMap<String, Vec<(Ipv4Addr, DualStackNet)>>;

/// All that agents hold of one overlay.
fn nets<'a>(held: &'a Held, name: &str) -> impl Iterator<Item = (Ipv4Addr, IpNet)> + use<'a> {
    let agents = held.get(name).into_iter().flatten();
    agents.flat_map(|(agent, nets)| {
        [nets.v4, nets.v6]
            .into_iter()
            .flatten()
            .map(|net| (*agent, net))
    })
}

/// The networks of a lead. Never changed, only replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Networks {
    /// What is in force.
    pub network: Network,
    /// Grows with each change by an operator.
    pub revision: u64,
    /// In the order of their first change.
    stored: Vec<Stored>,
    file: Arc<Network>,
    /// Overlays of the file that cannot be as things are: why.
    left_out: BTreeMap<String, String>,
}

/// An overlay that an operator changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// What the operator wrote.
    pub info: proto::OverlayInfo,
    /// What it means. `None` only of a removed overlay that nobody knows more of.
    config: Option<OverlayConfig>,
    /// The revision that removed it.
    pub removed: Option<u64>,
    /// Some leader's file had the name when it was changed.
    in_file: bool,
}

/// What an operator wants of an overlay.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// That there be one more.
    Add(Definition),
    /// That it be like this.
    Replace(Definition),
    /// That it be as the file says.
    HandBack(String),
    /// That it be no more.
    Remove(String),
}

/// Why a change cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 404 or 409.
    pub status: u16,
    /// In one sentence, and the way out.
    pub sentence: String,
}

fn not_found(sentence: String) -> Refusal {
    Refusal {
        status: 404,
        sentence,
    }
}

fn conflict(sentence: String) -> Refusal {
    Refusal {
        status: 409,
        sentence,
    }
}

/// Where an overlay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// In force; agents get it.
    Active,
    /// In force; no agent gets it.
    Disabled,
    /// Removed; agents still hold subnets of it.
    Draining,
    /// Removed; what is left is that the file's overlay of this name is not to be.
    Removed,
    /// In the file, and cannot be.
    LeftOut,
    /// In no file and never changed; agents still hold subnets of it.
    Orphaned,
}

impl Stored {
    fn name(&self) -> &str {
        &self.info.name
    }

    fn to_wire(&self) -> proto::StoredOverlay {
        let in_file = self.in_file.then_some(true);
        proto::StoredOverlay {
            info: self.info.clone(),
            removed: self.removed,
            in_file,
        }
    }

    fn read(overlay: proto::StoredOverlay) -> Result<Stored, String> {
        let in_file = overlay.in_file();
        let proto::StoredOverlay { info, removed, .. } = overlay;
        let config = match read_definition(&info) {
            Ok(definition) => Some(definition.config),
            Err(_) if removed.is_some() && !info.name.is_empty() => None,
            Err(error) => return Err(error),
        };
        Ok(Stored {
            info,
            config,
            removed,
            in_file,
        })
    }
}

impl Change {
    /// The name of the overlay.
    pub fn name(&self) -> &str {
        match self {
            Change::Add(definition) | Change::Replace(definition) => &definition.config.name,
            Change::HandBack(name) | Change::Remove(name) => name,
        }
    }
}

impl Networks {
    /// The networks of a master with this file, from what the log has of changes, and
    /// what its operator should know of how the two met.
    ///
    /// # Errors
    /// They contradict each other in a way that no overlay can be left out for; how,
    /// in a phrase that may follow "the configuration contradicts the log".
    pub fn from_log(
        file: &Arc<Network>,
        stored: Option<proto::StoredNetworks>,
        held: &Held,
    ) -> Result<(Networks, Vec<(Level, String)>), String> {
        let stored = stored.unwrap_or_default();
        let revision = stored.revision();
        let mut notes = Vec::new();
        let mut overlays: Vec<Stored> = Vec::new();
        for overlay in stored.overlays {
            let overlay = Stored::read(overlay)?;
            if overlays
                .iter()
                .any(|earlier| earlier.name() == overlay.name())
            {
                return Err(format!(
                    "overlay {} stands twice among the changed ones",
                    overlay.name()
                ));
            }
            match unusable(file, &overlay, held) {
                Some(note) => notes.push((Level::Error, note)),
                None => overlays.push(overlay),
            }
        }
        check_stored(file, &overlays)?;
        let networks = Networks::merge(file.clone(), revision, overlays, held);
        notes.extend(networks.notes());
        Ok((networks, notes))
    }

    /// What the log is to have of changes; nothing if there never was one.
    pub fn to_wire(&self) -> Option<proto::StoredNetworks> {
        let overlays = self.stored.iter().map(Stored::to_wire).collect();
        (self.revision > 0).then_some(proto::StoredNetworks {
            revision: Some(self.revision),
            overlays,
        })
    }

    /// The file's overlays, but for those that were changed, and those that were
    /// changed. A stored overlay stands in the place of the file's.
    fn merge(file: Arc<Network>, revision: u64, stored: Vec<Stored>, held: &Held) -> Networks {
        let mut network = Network::clone(&file);
        network.overlays.clear();
        network.wire.overlays.clear();
        let mut left_out = BTreeMap::new();
        let claims = claims(&stored, held);
        let active = |overlay: &&Stored| overlay.removed.is_none();
        let mut add = |config: &OverlayConfig, info: &proto::OverlayInfo| {
            network.overlays.push(config.clone());
            network.wire.overlays.push(info.clone());
        };
        for (config, info) in file.overlays.iter().zip(&file.wire.overlays) {
            match stored.iter().find(|overlay| overlay.name() == config.name) {
                Some(overlay) => {
                    let config = overlay
                        .config
                        .as_ref()
                        .filter(|_| overlay.removed.is_none());
                    config
                        .into_iter()
                        .for_each(|config| add(config, &overlay.info));
                }
                None => match claims.iter().find_map(|claim| claim.stands_against(config)) {
                    Some(why) => _ = left_out.insert(config.name.clone(), why),
                    None => add(config, info),
                },
            }
        }
        let known = |overlay: &&Stored| {
            !file
                .overlays
                .iter()
                .any(|config| config.name == overlay.name())
        };
        for overlay in stored.iter().filter(active).filter(known) {
            overlay
                .config
                .iter()
                .for_each(|config| add(config, &overlay.info));
        }
        Networks {
            network,
            revision,
            stored,
            file,
            left_out,
        }
    }

    /// What the operator should know at the start of a lead.
    fn notes(&self) -> Vec<(Level, String)> {
        let mut notes = Vec::new();
        for (name, why) in &self.left_out {
            notes.push((Level::Error, format!(
                "Overlay {name} of the configuration is left out: {why}; give it another range, or remove the \
                 other one"
            )));
        }
        for overlay in &self.stored {
            let name = overlay.name();
            let Some((config, info)) = in_file(&self.file, name) else {
                continue;
            };
            let note = match overlay.removed {
                Some(_) => format!("Overlay {name} is in the configuration, but was removed"),
                None if overlay.config.as_ref() == Some(config) => continue,
                None => format!(
                    "Overlay {name} is not as in the configuration ({}): it was changed ({})",
                    show(info),
                    show(&overlay.info)
                ),
            };
            notes.push((Level::Warning, format!(
                "{note} with /overlay-master/overlays/{name}; change the configuration, or hand the overlay back \
                 to it with PUT {{\"source\": \"file\"}}"
            )));
        }
        notes
    }

    /// The overlay of this name as it is in force.
    pub fn overlay(&self, name: &str) -> Option<(&OverlayConfig, &proto::OverlayInfo)> {
        in_file(&self.network, name)
    }

    /// The overlay of this name as it is in the file.
    pub fn in_file(&self, name: &str) -> Option<(&OverlayConfig, &proto::OverlayInfo)> {
        in_file(&self.file, name)
    }

    /// The overlay of this name as it is in force, or was last.
    pub fn known(&self, name: &str) -> Option<&proto::OverlayInfo> {
        let stored = || self.stored(name).map(|overlay| &overlay.info);
        self.overlay(name)
            .map(|(_, info)| info)
            .or_else(stored)
            .or_else(|| Some(self.in_file(name)?.1))
    }

    /// What operators made of this overlay.
    pub fn stored(&self, name: &str) -> Option<&Stored> {
        self.stored.iter().find(|overlay| overlay.name() == name)
    }

    /// The revision that removed this overlay.
    pub fn removed(&self, name: &str) -> Option<u64> {
        self.stored(name)?.removed
    }

    /// Why this overlay of the file cannot be.
    pub fn left_out(&self, name: &str) -> Option<&str> {
        self.left_out.get(name).map(String::as_str)
    }

    /// Where the overlay of this name stands; `None`: there is none. `held`: whether
    /// agents hold something of it.
    pub fn standing(&self, name: &str, held: bool) -> Option<Standing> {
        if let Some((config, _)) = self.overlay(name) {
            return Some(if config.enabled {
                Standing::Active
            } else {
                Standing::Disabled
            });
        }
        Some(match self.stored(name) {
            Some(_) if held => Standing::Draining,
            Some(_) => Standing::Removed,
            None if self.left_out.contains_key(name) => Standing::LeftOut,
            None if held => Standing::Orphaned,
            None => return None,
        })
    }

    /// Every name that there is something to say of, in the order of the file and then
    /// of the changes.
    pub fn names(&self) -> Vec<&str> {
        let file = self
            .file
            .overlays
            .iter()
            .map(|overlay| overlay.name.as_str());
        let stored = self.stored.iter().map(Stored::name);
        let stored = stored.filter(|name| self.in_file(name).is_none());
        file.chain(stored).collect()
    }

    // Changes.

    /// The networks after this change; `None`: they are like that already. `held` is
    /// what agents hold then.
    pub fn changed(&self, change: &Change, held: &Held) -> Result<Option<Networks>, Refusal> {
        let name = change.name();
        let revision = self.revision + 1;
        let mut stored = self.stored.clone();
        match change {
            Change::Add(definition) => {
                let stands = self
                    .stored(name)
                    .filter(|overlay| overlay.removed.is_none());
                if stands.is_some_and(|overlay| overlay.config.as_ref() == Some(&definition.config))
                {
                    return Ok(None);
                }
                if self.overlay(name).is_some() {
                    return Err(conflict(format!(
                        "There is an overlay {name} already; PUT /overlay-master/overlays/{name} changes it."
                    )));
                }
                self.check(definition, held)?;
                self.put(&mut stored, definition, None);
            }
            Change::Replace(definition) => {
                self.check_known(name)?;
                let stands = self
                    .stored(name)
                    .is_some_and(|overlay| overlay.config.as_ref() == Some(&definition.config));
                if stands {
                    return Ok(None);
                }
                self.check(definition, held)?;
                self.put(&mut stored, definition, None);
            }
            Change::HandBack(_) => {
                if !self.check_hand_back(name, held)? {
                    return Ok(None);
                }
                stored.retain(|overlay| overlay.name() != name);
            }
            Change::Remove(_) => match self.standing(name, held.contains_key(name)) {
                None => return Err(not_found(unknown(name))),
                Some(Standing::Draining | Standing::Removed) => return Ok(None),
                Some(_) => self.remove(&mut stored, name, revision),
            },
        }
        Ok(Some(
            Networks::merge(self.file.clone(), revision, stored, held).pruned(held),
        ))
    }

    /// The networks now that agents hold no more than this; the same revision unless
    /// something else is in force then.
    pub fn settled(&self, held: &Held) -> Networks {
        let mut settled =
            Networks::merge(self.file.clone(), self.revision, self.stored.clone(), held)
                .pruned(held);
        settled.revision += u64::from(settled.network != self.network);
        settled
    }

    /// Without removals that nothing depends on any more: no agent holds anything of
    /// the overlay, and no file has the name.
    fn pruned(mut self, held: &Held) -> Networks {
        let file = self.file.clone();
        self.stored.retain(|overlay| {
            let name = overlay.name();
            overlay.removed.is_none()
                || overlay.in_file
                || held.contains_key(name)
                || in_file(&file, name).is_some()
        });
        self
    }

    fn put(&self, stored: &mut Vec<Stored>, definition: &Definition, removed: Option<u64>) {
        let Definition { config, info } = definition.clone();
        let name = config.name.clone();
        let before = self.stored(&name).is_some_and(|overlay| overlay.in_file);
        let in_file = before || self.in_file(&name).is_some();
        let new = Stored {
            info,
            config: Some(config),
            removed,
            in_file,
        };
        match stored.iter_mut().find(|overlay| overlay.name() == name) {
            Some(overlay) => *overlay = new,
            None => stored.push(new),
        }
    }

    fn remove(&self, stored: &mut Vec<Stored>, name: &str, revision: u64) {
        let known = self.overlay(name).or_else(|| self.in_file(name));
        if let Some((config, info)) = known {
            let definition = Definition {
                config: config.clone(),
                info: info.clone(),
            };
            self.put(stored, &definition, Some(revision));
            return;
        }
        let info = proto::OverlayInfo {
            name: name.to_owned(),
            ..Default::default()
        };
        stored.push(Stored {
            info,
            config: None,
            removed: Some(revision),
            in_file: false,
        });
    }

    fn check_known(&self, name: &str) -> Result<(), Refusal> {
        if self.overlay(name).is_some() || self.left_out.contains_key(name) {
            return Ok(());
        }
        Err(not_found(match self.stored(name) {
            Some(_) => {
                format!("Overlay {name} was removed; POST /overlay-master/overlays adds it anew.")
            }
            None => unknown(name),
        }))
    }

    /// Whether the overlay can be as the file says, and is not.
    fn check_hand_back(&self, name: &str, held: &Held) -> Result<bool, Refusal> {
        let stored = self.stored(name).is_some();
        let Some((config, info)) = self.in_file(name) else {
            if !stored {
                return Err(not_found(unknown(name)));
            }
            return Err(conflict(format!(
                "The configuration of this master has no overlay {name} to go back to; DELETE \
                 /overlay-master/overlays/{name} removes the overlay."
            )));
        };
        if !stored {
            return Ok(false);
        }
        self.check(
            &Definition {
                config: config.clone(),
                info: info.clone(),
            },
            held,
        )?;
        let other = nets(held, name).find(|(_, net)| {
            let range = if net.addr().is_ipv4() {
                config.v4
            } else {
                config.v6
            };
            range.is_some_and(|range| range.prefix != net.prefix_len())
        });
        match other {
            None => Ok(true),
            Some((agent, net)) => Err(conflict(format!(
                "Agent {agent} holds {net} of overlay {name}, and a configuration knows one prefix length only: \
                 keep the overlay as it is, or delete the agents with subnets of another length first."
            ))),
        }
    }

    /// Whether an overlay can be like this beside the others, and with what agents
    /// hold.
    fn check(&self, definition: &Definition, held: &Held) -> Result<(), Refusal> {
        let config = &definition.config;
        let name = &config.name;
        let mut claims = claims(&self.stored, held);
        claims.extend(vteps(&self.network));
        claims.extend(
            self.network
                .overlays
                .iter()
                .flat_map(|overlay| Claim::of(overlay, "overlay")),
        );
        let orphans = held.iter().filter(|(name, _)| self.overlay(name).is_none());
        claims.extend(
            orphans
                .flat_map(|(name, _)| nets(held, name).map(move |held| Claim::orphan(name, held))),
        );
        if let Some(why) = claims.iter().find_map(|claim| claim.stands_against(config)) {
            return Err(conflict(format!(
                "Overlay {name} cannot be like that: {why}; give ranges that share no address."
            )));
        }
        let outside: Vec<_> = nets(held, name)
            .filter(|(_, net)| !holds(config, *net))
            .collect();
        let Some((agent, net)) = outside.first() else {
            return Ok(());
        };
        Err(conflict(format!(
            "Overlay {name} is in use: agent {agent} holds {net}, which would not be in its range any more ({} \
             such subnets in all); give a range that holds them, or delete those agents first.",
            outside.len()
        )))
    }
}

/// The answer to a request for an overlay that there is not.
pub fn unknown(name: &str) -> String {
    let name = one_line(name, 100);
    format!("There is no overlay {name}; GET /overlay-master/overlays lists them.")
}

fn in_file<'a>(
    network: &'a Network,
    name: &str,
) -> Option<(&'a OverlayConfig, &'a proto::OverlayInfo)> {
    let index = network
        .overlays
        .iter()
        .position(|overlay| overlay.name == name)?;
    Some((&network.overlays[index], &network.wire.overlays[index]))
}

/// Whether a subnet lies in the overlay's range.
fn holds(config: &OverlayConfig, net: IpNet) -> bool {
    let range = if net.addr().is_ipv4() {
        config.v4
    } else {
        config.v6
    };
    range.is_some_and(|range| range.net.contains(&net))
}

/// A range that belongs to somebody.
struct Claim {
    /// The overlay, if it is one.
    name: Option<String>,
    what: String,
    net: IpNet,
}

impl Claim {
    fn of(overlay: &OverlayConfig, what: &str) -> Vec<Claim> {
        let claim = |net| Claim {
            name: Some(overlay.name.clone()),
            what: format!("{what} {}", overlay.name),
            net,
        };
        [overlay.v4, overlay.v6]
            .into_iter()
            .flatten()
            .map(|range| claim(range.net))
            .collect()
    }

    fn orphan(name: &str, (agent, net): (Ipv4Addr, IpNet)) -> Claim {
        let what = format!("agent {agent}, which holds it of the former overlay {name}");
        Claim {
            name: Some(name.to_owned()),
            what,
            net,
        }
    }

    /// Why the overlay cannot be because of this.
    fn stands_against(&self, overlay: &OverlayConfig) -> Option<String> {
        if self.name.as_ref() == Some(&overlay.name) {
            return None;
        }
        let mut ranges = [overlay.v4, overlay.v6].into_iter().flatten();
        let range = ranges.find(|range| overlap(range.net, self.net))?;
        Some(format!(
            "its range {} overlaps {} of {}",
            range.net, self.net, self.what
        ))
    }
}

/// The ranges of changed overlays, and of those that are removed and not yet free.
fn claims(stored: &[Stored], held: &Held) -> Vec<Claim> {
    let claims = stored.iter().flat_map(|overlay| match (&overlay.config, overlay.removed) {
        (Some(config), None) => Claim::of(config, "overlay"),
        (Some(config), Some(_)) => match nets(held, overlay.name()).next() {
            Some((agent, _)) => {
                let count = held.get(overlay.name()).map_or(0, Vec::len);
                let what =
                    format!("the removed and still draining (agents: {count}, among them {agent}) overlay");
                Claim::of(config, &what)
            }
            None => Vec::new(),
        },
        (None, _) => Vec::new(),
    });
    claims.collect()
}

fn vteps(network: &Network) -> Vec<Claim> {
    let nets = [
        Some(network.vtep_subnet.into()),
        network.vtep_subnet6.map(IpNet::from),
    ];
    nets.into_iter()
        .flatten()
        .map(|net| Claim {
            name: None,
            what: "the VTEPs".to_owned(),
            net,
        })
        .collect()
}

/// No changed overlay may share an address with the VTEPs, or with another one.
fn check_stored(file: &Network, stored: &[Stored]) -> Result<(), String> {
    let mut claims = vteps(file);
    for overlay in stored.iter().filter(|overlay| overlay.removed.is_none()) {
        let Some(config) = &overlay.config else {
            continue;
        };
        if let Some(why) = claims.iter().find_map(|claim| claim.stands_against(config)) {
            return Err(format!(
                "overlay {}, which was changed while the cluster ran, cannot be: {why}",
                config.name
            ));
        }
        claims.extend(Claim::of(config, "overlay"));
    }
    Ok(())
}

/// A changed overlay that cannot hold what agents have, while the file's can: only a
/// master that knows nothing of changes can have led to that. The complaint.
fn unusable(file: &Network, overlay: &Stored, held: &Held) -> Option<String> {
    let config = overlay
        .config
        .as_ref()
        .filter(|_| overlay.removed.is_none())?;
    let all =
        |config: &OverlayConfig| nets(held, overlay.name()).all(|(_, net)| holds(config, net));
    let (other, info) = in_file(file, overlay.name())?;
    (!all(config) && all(other)).then(|| {
        format!(
            "Overlay {} was changed while the cluster ran ({}), but agents hold subnets outside of that: an \
             older master must have led meanwhile. It is as in the configuration again ({}).",
            overlay.name(),
            show(&overlay.info),
            show(info)
        )
    })
}

/// `9.0.0.0/8 in /24, fd01:b::/64 in /80, disabled`.
pub fn show(info: &proto::OverlayInfo) -> String {
    let family = |subnet: &Option<String>, prefix: Option<u32>| {
        let mut text = subnet.clone()?;
        if let Some(prefix) = prefix {
            _ = write!(text, " in /{prefix}");
        }
        Some(text)
    };
    let v4 = family(&info.subnet, info.prefix);
    let v6 = family(&info.subnet6, info.prefix6);
    let disabled = (!info.enabled()).then(|| "disabled".to_owned());
    [v4, v6, disabled]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
}

/// How the network in force differs from what the last leader wrote, one phrase each.
pub fn differences(before: &proto::NetworkConfig, now: &proto::NetworkConfig) -> Vec<String> {
    let text = |value: Option<&str>| value.unwrap_or("none").to_owned();
    let number = |value: Option<u32>| value.map_or("none".to_owned(), |value| value.to_string());
    let settings = [
        (
            "vtep_subnet",
            text(Some(&before.vtep_subnet)),
            text(Some(&now.vtep_subnet)),
        ),
        (
            "vtep_subnet6",
            text(before.vtep_subnet6.as_deref()),
            text(now.vtep_subnet6.as_deref()),
        ),
        (
            "vtep_mac_oui",
            before.vtep_mac_oui.to_ascii_lowercase(),
            now.vtep_mac_oui.to_ascii_lowercase(),
        ),
        ("vtep_mtu", number(before.vtep_mtu), number(now.vtep_mtu)),
    ];
    let settings = settings
        .into_iter()
        .filter(|(_, before, now)| before != now);
    let mut differences: Vec<_> = settings
        .map(|(key, before, now)| format!("{key} was {before} and is {now}"))
        .collect();
    let find = |network: &proto::NetworkConfig, name: &str| {
        network
            .overlays
            .iter()
            .find(|overlay| overlay.name == name)
            .map(show)
    };
    for overlay in &before.overlays {
        let name = &overlay.name;
        match find(now, name) {
            None => differences.push(format!(
                "overlay {name} ({}) is not there any more",
                show(overlay)
            )),
            Some(is) if is != show(overlay) => {
                differences.push(format!("overlay {name} was {} and is {is}", show(overlay)));
            }
            Some(_) => {}
        }
    }
    let new = now
        .overlays
        .iter()
        .filter(|overlay| find(before, &overlay.name).is_none());
    differences
        .extend(new.map(|overlay| format!("overlay {} ({}) is new", overlay.name, show(overlay))));
    differences
}

#[cfg(test)]
mod tests;
