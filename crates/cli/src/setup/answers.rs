//! What an installation depends on: from options, from files of Mesos, or asked on a terminal.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use ipnet::IpNet;
use overlay_core::config::{agent, zk};

use super::{Options, Role};
use crate::output::Failure;

/// Networks of DC/OS, which are the default.
const OVERLAY: &str = "dcos=9.0.0.0/8/24";
const VTEP_SUBNET: &str = "44.128.0.0/20";
const VTEP_SUBNET6: &str = "fd01:a::/64";
/// IPv6 range and prefix length of the first network with `--ipv6`.
const SUBNET6: &str = "fd01:b::/64/80";

/// File of Mesos's packages that names ZooKeeper, or the only master.
const ZK_FILE: &str = "etc/mesos/zk";
/// File of Mesos's packages with the quorum.
const QUORUM_FILE: &str = "etc/mesos-master/quorum";

/// Network of the cluster: ranges with the prefix lengths of agents' subnets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Name.
    pub name: String,
    /// IPv4 range.
    pub v4: Option<(IpNet, u8)>,
    /// IPv6 range.
    pub v6: Option<(IpNet, u8)>,
}

/// All answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Role of the host.
    pub role: Role,
    /// Networks.
    pub overlays: Vec<Overlay>,
    /// IPv4 range of the VTEPs.
    pub vtep_subnet: String,
    /// IPv6 range of the VTEPs.
    pub vtep_subnet6: Option<String>,
    /// ZooKeeper of the masters: a URL, or `file:///…`; `None`: there is one master.
    pub zk: Option<String>,
    /// Value of `master` for agents; `None`: Mesos's environment has it.
    pub master: Option<String>,
    /// Quorum of the masters.
    pub quorum: Option<u32>,
    /// Docker networks.
    pub docker: bool,
}

impl Answers {
    /// Finds all answers.
    ///
    /// # Errors
    /// An option is wrong, or one is missing and nobody can be asked.
    pub fn find(options: &Options) -> Result<Answers, Failure> {
        let network = &options.network;
        let mut dialog = Dialog::new(!options.yes && io::stdin().is_terminal());
        let role = match options.role {
            Some(role) => role,
            None => dialog.role()?,
        };
        let root = &options.places.root;
        let overlays = networks(options, role, &mut dialog)?;
        let vtep_subnet = match &network.vtep_subnet {
            Some(subnet) => subnet.clone(),
            None if role.has_master() => {
                let question = "Range of the tunnels' ends (VTEPs)";
                dialog.ask(question, VTEP_SUBNET, |text| subnet(text).map(|_| ()))?
            }
            None => VTEP_SUBNET.to_owned(),
        };
        let has_ipv6 = overlays.iter().any(|overlay| overlay.v6.is_some());
        let vtep_subnet6 = network.vtep_subnet6.clone();
        let vtep_subnet6 = vtep_subnet6.or_else(|| has_ipv6.then(|| VTEP_SUBNET6.to_owned()));
        let zk = zookeeper(options, root, &mut dialog)?;
        let quorum = match (&zk, role.has_master()) {
            (Some(_), true) => Some(quorum(options, root, &mut dialog)?),
            _ => None,
        };
        let is_asked = role.has_agent() && !network.docker && dialog.is_open;
        let docker = match is_asked {
            true => dialog.ask("Docker networks as well (yes or no)", "no", yes_or_no)? == "yes",
            false => network.docker,
        };
        Ok(Answers {
            role,
            overlays,
            vtep_subnet,
            vtep_subnet6,
            master: master(options, root, zk.as_ref(), role, &mut dialog)?,
            zk,
            quorum,
            docker,
        })
    }
}

/// Returns the networks of the cluster.
fn networks(options: &Options, role: Role, dialog: &mut Dialog) -> Result<Vec<Overlay>, Failure> {
    let mut text = options.network.overlay.join(" ");
    if text.is_empty() && role.has_master() {
        let question = "Networks, as NAME=SUBNET/PREFIX with spaces between them";
        text = dialog.ask(question, OVERLAY, |text| overlays_of(text).map(|_| ()))?;
    }
    let mut overlays = overlays_of(&text)?;
    if options.network.ipv6
        && let Some(first) = overlays.first_mut()
    {
        first.v6 = Some(range(SUBNET6)?);
    }
    Ok(overlays)
}

fn yes_or_no(text: &str) -> Result<(), Failure> {
    match text {
        "yes" | "no" => Ok(()),
        _ => Err("write yes or no".into()),
    }
}

/// Returns the content of a file of Mesos's packages.
fn read(root: &Path, file: &str) -> Option<String> {
    let text = fs::read_to_string(root.join(file)).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn zookeeper(
    options: &Options,
    root: &Path,
    dialog: &mut Dialog,
) -> Result<Option<String>, Failure> {
    if let Some(url) = &options.network.zk {
        checked_zk(url)?;
        return Ok(Some(url.trim().to_owned()));
    }
    if options.network.master.is_some() {
        return Ok(None);
    }
    match read(root, ZK_FILE) {
        Some(text) if text.starts_with("zk://") => return Ok(Some(format!("file:///{ZK_FILE}"))),
        Some(_) => return Ok(None),
        None => {}
    }
    let question = "ZooKeeper of the masters, zk://host:port/path; none with a single master";
    let check = |text: &str| match text {
        "none" => Ok(()),
        url => checked_zk(url),
    };
    let text = dialog.ask(question, "none", check)?;
    Ok((text != "none").then_some(text))
}

fn checked_zk(url: &str) -> Result<(), Failure> {
    let checked = zk::check(url);
    checked.map_err(|what| format!("\"{}\" {what}; {}", zk::redacted(url), zk::REMEDY).into())
}

fn quorum(options: &Options, root: &Path, dialog: &mut Dialog) -> Result<u32, Failure> {
    let parse = |text: &str| match text.parse::<u32>() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(Failure(format!("\"{text}\" is not a whole number from 1"))),
    };
    if let Some(quorum) = options.network.quorum {
        return parse(&quorum.to_string());
    }
    if let Some(text) = read(root, QUORUM_FILE) {
        return parse(&text);
    }
    if !dialog.is_open {
        return Err("with ZooKeeper the masters need a quorum; give --quorum, the majority of their number (2 of 3)".into());
    }
    let question = "Quorum, the majority of the number of masters (1 of 1, 2 of 3)";
    let text = dialog.ask(question, "1", |text| parse(text).map(|_| ()))?;
    parse(&text)
}

/// Returns where an agent finds the leading master.
fn master(
    options: &Options,
    root: &Path,
    zk: Option<&String>,
    role: Role,
    dialog: &mut Dialog,
) -> Result<Option<String>, Failure> {
    if role == Role::Master {
        return Ok(None);
    }
    let check = |text: &str| {
        let checked = zk::check_host_port(text);
        checked.map_err(|what| Failure(format!("\"{text}\" {what}; {}", agent::MASTER_REMEDY)))
    };
    if let Some(master) = &options.network.master {
        check(master)?;
        return Ok(Some(master.clone()));
    }
    if let Some(zk) = zk {
        return Ok(Some(zk.clone()));
    }
    if read(root, ZK_FILE).is_some() {
        return Ok(Some(format!("file:///{ZK_FILE}")));
    }
    if !dialog.is_open {
        return Err(
            "agents must find the leading master; give --zk, or --master host:port of the only one"
                .into(),
        );
    }
    let question = "Address of the only master, host:port";
    dialog.ask(question, "127.0.0.1:5050", check).map(Some)
}

/// Reads networks, `NAME=SUBNET/PREFIX` with spaces between them. Those of one name become one network.
fn overlays_of(text: &str) -> Result<Vec<Overlay>, Failure> {
    let mut order: Vec<String> = Vec::new();
    let mut overlays: BTreeMap<String, Overlay> = BTreeMap::new();
    for part in text.split_whitespace() {
        let (name, rest) = part.split_once('=').ok_or_else(|| {
            Failure(format!(
                "\"{part}\" has no \"=\"; write NAME=SUBNET/PREFIX, such as {OVERLAY}"
            ))
        })?;
        let found = range(rest)?;
        if !overlays.contains_key(name) {
            order.push(name.to_owned());
        }
        let overlay = overlays.entry(name.to_owned()).or_default();
        name.clone_into(&mut overlay.name);
        let place = match found.0 {
            IpNet::V4(_) => &mut overlay.v4,
            IpNet::V6(_) => &mut overlay.v6,
        };
        if place.replace(found).is_some() {
            return Err(format!("network {name} has two ranges of one family; give it one").into());
        }
    }
    Ok(order
        .iter()
        .filter_map(|name| overlays.remove(name))
        .collect())
}

/// Reads a range with the prefix length of agents' subnets, `SUBNET/PREFIX`.
fn range(text: &str) -> Result<(IpNet, u8), Failure> {
    let wrong = || {
        Failure(format!(
            "\"{text}\" is not SUBNET/PREFIX; write the range and the prefix length of each agent's subnet, such as 9.0.0.0/8/24"
        ))
    };
    let (net, prefix) = text.rsplit_once('/').ok_or_else(wrong)?;
    let prefix = prefix.parse().map_err(|_| wrong())?;
    Ok((subnet(net).map_err(|_| wrong())?, prefix))
}

fn subnet(text: &str) -> Result<IpNet, Failure> {
    text.parse().map_err(|_| {
        Failure(format!(
            "\"{text}\" is not a network; write one such as {VTEP_SUBNET}"
        ))
    })
}

/// Dialog with an operator.
struct Dialog {
    /// True if somebody can be asked.
    is_open: bool,
}

impl Dialog {
    fn new(is_open: bool) -> Dialog {
        Dialog { is_open }
    }

    fn role(&mut self) -> Result<Role, Failure> {
        if !self.is_open {
            return Err(
                "which role does this host have? give --role master, agent, agent-master or both"
                    .into(),
            );
        }
        let parse = |text: &str| match text {
            "master" => Ok(Role::Master),
            "agent" => Ok(Role::Agent),
            "agent-master" => Ok(Role::AgentMaster),
            "both" => Ok(Role::Both),
            _ => Err(Failure::from("write master, agent, agent-master or both")),
        };
        let question = "Role of this host (master, agent, agent-master or both)";
        let text = self.ask(question, "agent", |text| parse(text).map(|_| ()))?;
        parse(&text)
    }

    /// Asks a question until the answer is right. An empty answer, or nobody to ask, is the default.
    fn ask(
        &mut self,
        question: &str,
        default: &str,
        check: impl Fn(&str) -> Result<(), Failure>,
    ) -> Result<String, Failure> {
        if !self.is_open {
            return Ok(default.to_owned());
        }
        loop {
            let mut err = io::stderr().lock();
            let _ = write!(err, "{question} [{default}]: ");
            let _ = err.flush();
            let mut line = String::new();
            let read = io::stdin().lock().read_line(&mut line);
            if read.map_err(|error| format!("cannot read the answer: {error}"))? == 0 {
                return Err("the input ended before all questions were answered".into());
            }
            let answer = match line.trim() {
                "" => default,
                answer => answer,
            };
            match check(answer) {
                Ok(()) => return Ok(answer.to_owned()),
                Err(Failure(sentence)) => _ = writeln!(err, "{sentence}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_names_ranges_and_prefixes() {
        let overlays =
            overlays_of("web=10.64.0.0/16/24 db=fd01:b::/64/80 web=fd01:c::/64/80").unwrap();
        let names: Vec<&str> = overlays
            .iter()
            .map(|overlay| overlay.name.as_str())
            .collect();
        assert_eq!(names, ["web", "db"]);
        assert_eq!(overlays[0].v4, Some(("10.64.0.0/16".parse().unwrap(), 24)));
        assert_eq!(overlays[0].v6, Some(("fd01:c::/64".parse().unwrap(), 80)));
        assert_eq!(overlays[1].v4, None);
        for (text, words) in [
            ("web", "has no \"=\""),
            ("web=10.64.0.0/16", "is not SUBNET/PREFIX"),
            ("web=x/24", "is not SUBNET/PREFIX"),
            ("web=10.0.0.0/8/x", "is not SUBNET/PREFIX"),
            (
                "a=10.0.0.0/8/24 a=11.0.0.0/8/24",
                "two ranges of one family",
            ),
        ] {
            let Failure(sentence) = overlays_of(text).unwrap_err();
            assert!(sentence.contains(words), "{sentence}");
        }
    }
}
