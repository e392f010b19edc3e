//! `mesos-overlay ipam check`.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::unistd::geteuid;
use overlay_core::host_api::usage::Containerizer;
use overlay_core::util::line::list_first;
use schemars::JsonSchema;
use serde::Serialize;

use super::ask::{AskOptions, ask};
use super::leaks::{LeakReport, Leaked, Origin};
use super::view::Place;
use super::{alive, cluster, compare};
use crate::answers::{Agent, MasterState, Overlays};
use crate::connection::{ConnectionOptions, Master};
use crate::finding::Finding;
use crate::output::page::{self, Page, count, styled};
use crate::output::{Failure, OutputOptions, Report};
use crate::status::overlay_finding;
use crate::this_host::ThisHost;

/// Time between two looks at the host. Containers that start or end meanwhile are no fault.
const PAUSE: Duration = Duration::from_secs(1);

/// Compares the master's allocations, the agents' reports, the files of host-local, and the
/// containers of Mesos and Docker.
///
/// Finds addresses that are reserved for containers that do not exist, addresses and subnets that
/// are there twice, addresses outside of the agent's subnet, addresses that another container can
/// get, and what is left of overlays that nobody defines. On the host of an agent, it looks at that
/// host; anywhere, at what the master gave to agents.
///
/// Exit status:
///   0  all is well; warnings, such as leaked addresses, may have been found
///   1  an error was found
///   2  the command could not ask, or wrong usage
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  mesos-overlay ipam check
  mesos-overlay ipam check --report /tmp/leaks.json
  mesos-overlay ipam check --ask-agents -o json"
)]
pub struct Options {
    #[command(flatten)]
    ask: AskOptions,
    /// Write a report of the leaked addresses of this host, for ipam release.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    pub(super) output: OutputOptions,
}

/// Result of `ipam check`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Check {
    /// Address of the agent on this host; absent if only the master's part was examined.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<Ipv4Addr>,
    /// Number of agents whose subnets were compared.
    agents: usize,
    /// Number of agents that were asked themselves.
    agents_asked: usize,
    /// Number of addresses on this host that containers have or that are reserved.
    addresses: usize,
    /// Number of containers on this host that have addresses.
    containers: usize,
    /// Leaked addresses of this host.
    leaked: Vec<Leaked>,
    /// Remarks: parts that could not be seen, and what is no fault. One sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip)]
    findings: Vec<Finding>,
}

/// Answers of the leading master.
pub struct MasterPart {
    pub state: MasterState,
    pub overlays: Overlays,
    master: Master,
}

impl MasterPart {
    /// Asks the leading master.
    ///
    /// # Errors
    /// No master answers.
    pub fn ask(options: &ConnectionOptions, host: &ThisHost) -> Result<MasterPart, Failure> {
        let master = Master::find(options, host)?;
        Ok(MasterPart {
            state: master.state()?,
            overlays: master.overlays()?,
            master,
        })
    }

    /// Returns the overlays that are defined, or that an agent still holds.
    fn defined(&self, agent: Option<Ipv4Addr>) -> BTreeSet<String> {
        let agent = agent.map(|agent| agent.to_string());
        let is_there = |state: &str, holders: &[String]| {
            state != "removed" || agent.as_ref().is_some_and(|agent| holders.contains(agent))
        };
        let overlays = self.overlays.overlays.iter();
        overlays
            .filter(|overlay| is_there(&overlay.state, &overlay.holders))
            .map(|overlay| overlay.name.clone())
            .collect()
    }
}

/// Runs the check.
///
/// # Errors
/// Neither the master nor this host can be examined, or the report cannot be written.
pub fn check(options: &Options) -> Result<Check, Failure> {
    let host = ThisHost::look();
    let place = Place::find(&options.connection, &host)?;
    if options.report.is_some() && place.is_none() {
        return Err("--report: this is not the host of an agent: nothing names a configuration of the agent module; give --agent-config".into());
    }
    let mut check = Check::empty();
    let master = match MasterPart::ask(&options.connection, &host) {
        Ok(master) => Some(master),
        // The host can be examined without the master.
        Err(Failure(sentence)) if place.is_some() => {
            check
                .notes
                .push(format!("the master's part was not examined: {sentence}"));
            None
        }
        Err(failure) => return Err(failure),
    };
    if let Some(master) = &master {
        check.cluster(master, options.ask.ask_agents)?;
    }
    if let Some(place) = &place {
        check.host(place, master.as_ref())?;
        if let Some(file) = &options.report {
            let origin = Origin::here(check.agent, place.agent_id(), &place.data_dir)?;
            LeakReport::new(origin, check.leaked.clone()).write(file)?;
        }
    }
    check.findings.sort_by_key(|finding| finding.severity);
    Ok(check)
}

impl Check {
    fn empty() -> Check {
        Check {
            agent: None,
            agents: 0,
            agents_asked: 0,
            addresses: 0,
            containers: 0,
            leaked: Vec::new(),
            notes: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Examines what the master gave to agents, and asks these if that is wanted.
    fn cluster(&mut self, master: &MasterPart, asks: bool) -> Result<(), Failure> {
        self.agents = master.state.agents.len();
        self.findings.extend(cluster::overlapping(&master.state));
        let overlays = master.overlays.overlays.iter();
        let orphaned = overlays.filter(|overlay| overlay.state == "orphaned");
        self.findings.extend(orphaned.filter_map(overlay_finding));
        if asks {
            let answers = ask(&master.master, &master.state)?;
            self.agents_asked = answers.agents.len();
            self.notes.extend(answers.notes());
            self.findings.extend(cluster::leaking(&answers));
            let first = cluster::differing(&master.state, &answers);
            self.findings.extend(differing_twice(master, first)?);
        }
        Ok(())
    }

    /// Examines this host.
    fn host(&mut self, place: &Place, master: Option<&MasterPart>) -> Result<(), Failure> {
        let Looked {
            agent, compared, ..
        } = look_twice(place, master, &mut self.notes)?;
        self.agent = agent;
        if agent.is_none() {
            self.notes.push("it is not known what the agent of this host has, so its addresses were not examined".to_owned());
        }
        if compared.unreadable > 0 {
            let files = count(compared.unreadable, "file");
            self.notes.push(match geteuid().is_root() {
                true => format!("{files} of host-local cannot be read or are empty, so their containers are not known"),
                false => format!("{files} of host-local cannot be read, so their containers are not known; root can read them"),
            });
        }
        if !compared.unexplained.is_empty() {
            let addresses: Vec<String> =
                compared.unexplained.iter().map(IpAddr::to_string).collect();
            self.notes.push(format!(
                "Mesos knows no containers with these reserved addresses, but they answer, or it is not known whether they do, so that another program may have them: {}",
                list_first(&addresses, 10)
            ));
        }
        self.addresses = compared.addresses;
        self.containers = compared.containers;
        // An agent that was asked says it, too.
        if let Some(agent) = agent.filter(|_| !compared.leaked.is_empty()) {
            let subject = agent.to_string();
            self.findings.retain(|finding| {
                finding.code != crate::finding::kinds::addresses::LEAKED.code
                    || finding.subject.as_ref() != Some(&subject)
            });
        }
        self.leaked = compared.leaked;
        self.findings.extend(compared.findings);
        Ok(())
    }
}

/// Result of two looks at this host.
pub struct Looked {
    /// Address of the agent.
    pub agent: Option<Ipv4Addr>,
    /// Findings of both looks.
    pub compared: compare::Compared,
    /// True if the Mesos agent said which containers it has.
    pub sees_containers: bool,
}

/// Looks at this host. If something is wrong, looks again, and keeps what is still wrong.
///
/// # Errors
/// The host cannot be looked at.
pub fn look_twice(
    place: &Place,
    master: Option<&MasterPart>,
    notes: &mut Vec<String>,
) -> Result<Looked, Failure> {
    let state = master.map(|master| &master.state);
    let view = place.look(state, notes)?;
    let agent = view.agent;
    let defined = master.map(|master| master.defined(agent));
    let nobody = BTreeSet::new();
    let compare = |view, answering: &BTreeSet<IpAddr>| {
        compare::compare(view, &place.data_dir, defined.as_ref(), answering)
    };
    let first = compare(&view, &nobody);
    if first.findings.is_empty() {
        return Ok(Looked {
            agent,
            compared: first,
            sees_containers: view.mesos.is_some(),
        });
    }
    // Without its bridge no container has an address of an overlay.
    let has_bridge = |leaked: &&Leaked| {
        view.bridges
            .contains(&Containerizer::Mesos.bridge_name(&leaked.overlay))
    };
    let candidates: Vec<IpAddr> = first
        .leaked
        .iter()
        .filter(has_bridge)
        .map(|leaked| leaked.address)
        .collect();
    let answering = alive::answering(&candidates);
    thread::sleep(PAUSE);
    let view = place.look(state, &mut Vec::new())?;
    let mut second = compare(&view, &answering);
    let before: BTreeSet<&Leaked> = first.leaked.iter().collect();
    second.leaked.retain(|leaked| before.contains(leaked));
    let is_still = |finding: &Finding| {
        let same = |other: &Finding| other.code == finding.code && other.subject == finding.subject;
        first.findings.iter().any(same)
    };
    second.findings.retain(is_still);
    Ok(Looked {
        agent,
        compared: second,
        sees_containers: view.mesos.is_some(),
    })
}

/// Asks the master and the agents again whose subnets differ, since these can get others at any
/// time. Returns what still differs.
fn differing_twice(master: &MasterPart, first: Vec<Finding>) -> Result<Vec<Finding>, Failure> {
    if first.is_empty() {
        return Ok(first);
    }
    thread::sleep(PAUSE);
    let mut state = master.master.state()?;
    let is_meant = |agent: &Agent| {
        let ip = agent.ip.to_string();
        first
            .iter()
            .any(|finding| finding.subject.as_ref() == Some(&ip))
    };
    state.agents.retain(is_meant);
    let answers = ask(&master.master, &state)?;
    Ok(cluster::still(&first, cluster::differing(&state, &answers)))
}

impl Report for Check {
    const COMMAND: &'static str = "ipam check";

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.agents > 0 || self.agent.is_none() {
            let asked = match self.agents_asked {
                0 => String::new(),
                asked => format!(", {asked} asked"),
            };
            page.line(format_args!(
                "Master: subnets of {}{asked}",
                count(self.agents, "agent")
            ))?;
        }
        if let Some(agent) = self.agent {
            page.line(format_args!("This host: agent {agent}"))?;
        }
        for note in &self.notes {
            page.line(format_args!("{} {note}.", styled(page::DIM, "note:")))?;
        }
        page.line(format_args!(
            "Check complete: {}, {}, {}",
            match self.addresses {
                1 => "1 address".to_owned(),
                number => format!("{number} addresses"),
            },
            count(self.containers, "container"),
            count(self.findings.len(), "problem")
        ))
    }
}
