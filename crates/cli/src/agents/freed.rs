//! Commands that free what agents hold.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use overlay_core::util::line::list_first;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::Slaves;
use super::list::Entry;
use crate::answers::{Agent, MasterState};
use crate::change::{Change, ConsentOptions as Consent, NotDone, Request, send};
use crate::connection::{ConnectionOptions, Master};
use crate::finding::Finding;
use crate::output::page::{Page, count, duration};
use crate::output::{Failure, OutputOptions, Report, finish};
use crate::this_host::ThisHost;

/// Number of agents that one request names.
const BATCH: usize = 1000;
/// Number of agents whose losses are said one by one.
const NAMED: usize = 20;
/// Command that shows what was freed.
const FIND_OUT: &str = "mesos-overlay agents list";

/// Frees the VTEP addresses and the subnets of agents that are gone for good.
///
/// Drain and stop an agent first. An agent that comes back registers like a new one, and can get
/// other subnets; containers that still run on it then have to be restarted.
///
/// Exit status:
///   0  the agents are deleted, and the replicated log says so
///   1  the master refused it, or an agent is connected
///   2  the master could not be asked, the deletion was not confirmed, or wrong usage
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  mesos-overlay agents delete 10.0.0.7
  mesos-overlay agents delete 10.0.0.7 10.0.0.8 --dry-run
  mesos-overlay agents delete node7.example.org --yes"
)]
pub struct DeleteOptions {
    /// Agents: addresses, hostnames or Mesos ids.
    #[arg(required = true, value_name = "AGENT")]
    agents: Vec<String>,
    /// Delete connected agents, too. Their running containers lose their network.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Frees the VTEP addresses and the subnets of agents whose leases ended.
///
/// A lease ends when the master has had no contact with the agent for agent_lease of its
/// configuration. Without this command they are freed when another agent needs them. An agent that
/// comes back gets those of its former subnets that are still free.
///
/// Exit status:
///   0  done, and the replicated log says so
///   1  the master refused it: a lease has not ended, or there are no leases
///   2  the master could not be asked, it was not confirmed, or wrong usage
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  mesos-overlay agents reclaim 10.0.0.7
  mesos-overlay agents reclaim --all --yes"
)]
pub struct ReclaimOptions {
    /// Agents: addresses, hostnames or Mesos ids.
    #[arg(required_unless_present = "all", value_name = "AGENT")]
    agents: Vec<String>,
    /// All agents whose leases ended.
    #[arg(long, conflicts_with = "agents")]
    all: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Result of a command that frees what agents hold.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Freed {
    #[serde(flatten)]
    change: Change,
    /// Agents that held something before, and hold nothing now.
    agents: Vec<Entry>,
}

/// Result of `agents delete`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Deleted(Freed);

/// Result of `agents reclaim`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Reclaimed(Freed);

impl Report for Deleted {
    const COMMAND: &'static str = "agents delete";
    const EXAMINES: bool = false;

    fn findings(&self) -> &[Finding] {
        &[]
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        self.0.write(page, "Deleted")
    }
}

impl Report for Reclaimed {
    const COMMAND: &'static str = "agents reclaim";
    const EXAMINES: bool = false;

    fn findings(&self) -> &[Finding] {
        &[]
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.0.change.done && self.0.agents.is_empty() {
            page.line("Nothing was reclaimed: no lease has ended.")?;
        }
        self.0.write(page, "Reclaimed from")
    }
}

impl Freed {
    fn write(&self, page: &mut Page<'_>, verb: &str) -> io::Result<()> {
        for agent in &self.agents {
            page.line(format_args!(
                "{verb} agent {}: {}",
                agent.ip,
                agent.holdings()
            ))?;
        }
        self.change.write(page)
    }
}

/// Runs `agents delete`.
pub fn delete(options: &DeleteOptions) -> ExitCode {
    match try_to_delete(options) {
        Ok(freed) => finish(options.output, Ok(Deleted(freed))),
        Err(not_done) => not_done.exit(),
    }
}

fn try_to_delete(options: &DeleteOptions) -> Result<Freed, NotDone> {
    let master = Master::find(&options.connection, &ThisHost::look())?;
    let ips = addresses(&options.agents, &master)?;
    let state = master.state()?;
    let (known, notes) = known(&ips, &state);
    let connected: Vec<String> = known
        .iter()
        .filter(|agent| agent.connected)
        .map(|agent| agent.ip.to_string())
        .collect();
    if !connected.is_empty() && !options.force {
        return Err(NotDone::Refused(format!(
            "connected, so containers may be using their subnets: {}; stop these agents first, or give --force",
            list_first(&connected, NAMED)
        )));
    }
    let body = |batch: &[Ipv4Addr]| match options.force {
        true => json!({ "agents": batch, "force": true }),
        false => json!({ "agents": batch }),
    };
    let change = Change {
        done: false,
        requests: requests("delete", &ips, body),
        losses: losses(&known),
        notes,
    };
    let scope = Scope::These(ips.iter().copied().collect());
    carry_out(
        &master,
        state,
        change,
        options.consent,
        (&scope, &word(&ips)),
    )
}

/// Runs `agents reclaim`.
pub fn reclaim(options: &ReclaimOptions) -> ExitCode {
    match try_to_reclaim(options) {
        Ok(freed) => finish(options.output, Ok(Reclaimed(freed))),
        Err(not_done) => not_done.exit(),
    }
}

fn try_to_reclaim(options: &ReclaimOptions) -> Result<Freed, NotDone> {
    let master = Master::find(&options.connection, &ThisHost::look())?;
    let ips = addresses(&options.agents, &master)?;
    let state = master.state()?;
    let (change, scope, word) = match options.all {
        true => (reclaim_all(&state), Scope::Away, "all".to_owned()),
        false => {
            let (known, notes) = known(&ips, &state);
            let change = Change {
                done: false,
                requests: requests("reclaim", &ips, |batch| json!({ "agents": batch })),
                losses: losses(&known),
                notes,
            };
            let scope = Scope::These(ips.iter().copied().collect());
            (change, scope, word(&ips))
        }
    };
    carry_out(&master, state, change, options.consent, (&scope, &word))
}

/// Returns the change that frees what all agents hold whose leases ended. Only the master knows
/// which these are.
fn reclaim_all(state: &MasterState) -> Change {
    let mut away: Vec<Entry> = state
        .agents
        .iter()
        .filter(|agent| !agent.connected)
        .map(Entry::new)
        .collect();
    away.sort_by_key(|agent| std::cmp::Reverse(agent.since_seconds));
    let mut losses = Vec::new();
    if !away.is_empty() {
        let named: Vec<String> = away
            .iter()
            .map(|agent| format!("{} ({})", agent.ip, since(agent)))
            .collect();
        losses.push(format!(
            "what those of these agents hold whose leases ended becomes free: {}",
            list_first(&named, NAMED)
        ));
        losses.push(CONTAINERS.to_owned());
    }
    Change {
        done: false,
        requests: requests("reclaim", &[Ipv4Addr::UNSPECIFIED], |_| json!({})),
        losses,
        notes: Vec::new(),
    }
}

/// Sentence about containers of agents whose subnets are freed.
const CONTAINERS: &str = "containers that still run there have addresses that other agents can get; they have to be restarted if the agent comes back";

/// Returns what is lost with these agents.
fn losses(agents: &[Entry]) -> Vec<String> {
    let one = |agent: &Entry| match agent.connected {
        true => format!(
            "{} of agent {} become free, although it is connected: it removes its networks, its running containers lose their network, and it registers again",
            agent.holdings(),
            agent.ip
        ),
        false => format!(
            "{} of agent {} become free ({})",
            agent.holdings(),
            agent.ip,
            since(agent)
        ),
    };
    let mut losses: Vec<String> = agents.iter().take(NAMED).map(one).collect();
    if agents.len() > NAMED {
        losses.push(format!(
            "what {} more agents hold becomes free",
            agents.len() - NAMED
        ));
    }
    if !agents.is_empty() {
        losses.push(CONTAINERS.to_owned());
    }
    losses
}

fn since(agent: &Entry) -> String {
    match agent.since_seconds {
        Some(seconds) => format!("not connected for {}", duration(seconds)),
        None => "not registered with this master since it leads".to_owned(),
    }
}

/// Agents that a change is about.
#[derive(Debug)]
enum Scope {
    /// All that are not connected.
    Away,
    /// Agents of the command line.
    These(BTreeSet<Ipv4Addr>),
}

impl Scope {
    /// Returns the agents of the scope that the master knows.
    fn entries(&self, state: &MasterState) -> Vec<Entry> {
        let has = |agent: &&Agent| match self {
            Scope::Away => !agent.connected,
            Scope::These(ips) => ips.contains(&agent.ip),
        };
        state.agents.iter().filter(has).map(Entry::new).collect()
    }

    /// Returns true if the same is lost in two states.
    fn is_same(&self, one: &MasterState, other: &MasterState) -> bool {
        // For how long an agent has been away is no difference.
        let lost = |state| {
            let entries = self.entries(state).into_iter();
            let lost = entries.map(|agent| (agent.ip, agent.connected, agent.holdings()));
            lost.collect::<BTreeSet<_>>()
        };
        lost(one) == lost(other)
    }

    /// Returns the agents of the scope that held something before, and hold nothing after the
    /// change; and a note about agents of the command line that still do.
    fn freed(&self, before: &MasterState, after: &MasterState) -> (Vec<Entry>, Option<String>) {
        let left: BTreeSet<Ipv4Addr> = after.agents.iter().map(|agent| agent.ip).collect();
        let (still, freed): (Vec<Entry>, Vec<Entry>) = self
            .entries(before)
            .into_iter()
            .partition(|agent| left.contains(&agent.ip));
        let still: Vec<String> = still.iter().map(|agent| agent.ip.to_string()).collect();
        let note = match self {
            Scope::These(_) if !still.is_empty() => Some(format!(
                "the master still knows {}: {}",
                count(still.len(), "agent"),
                list_first(&still, NAMED)
            )),
            _ => None,
        };
        (freed, note)
    }
}

/// Has the operator confirm, and sends the requests, unless something else is lost meanwhile.
/// `about` has the agents, and the word that the operator types.
fn carry_out(
    master: &Master,
    mut before: MasterState,
    mut change: Change,
    consent: Consent,
    about: (&Scope, &str),
) -> Result<Freed, NotDone> {
    let (scope, word) = about;
    if !change.confirm(consent, word)? {
        return Ok(Freed {
            change,
            agents: Vec::new(),
        });
    }
    // The operator may have taken a long time to answer.
    if !consent.yes && !change.losses.is_empty() {
        let now = master.state()?;
        if !scope.is_same(&before, &now) {
            return Err(Failure(format!(
                "what these agents hold, or which are connected, changed meanwhile, and nothing was sent; look at them ({FIND_OUT}) and try again"
            ))
            .into());
        }
        before = now;
    }
    let mut after: Option<MasterState> = None;
    for (index, request) in change.requests.iter().enumerate() {
        let answer = send(master, request, FIND_OUT)
            .map_err(|not_done| partly(not_done, index, change.requests.len()))?;
        after = serde_json::from_slice(&answer.body).ok();
    }
    let after = after.ok_or_else(|| {
        Failure(format!(
            "it was done, but the answer is not understood; look with {FIND_OUT}"
        ))
    })?;
    change.done = true;
    let (agents, note) = scope.freed(&before, &after);
    change.notes.extend(note);
    Ok(Freed { change, agents })
}

/// Adds to an error that earlier requests of several were carried out.
fn partly(not_done: NotDone, done: usize, all: usize) -> NotDone {
    if done == 0 {
        return not_done;
    }
    let before = format!("{done} of {all} requests were carried out; then: ");
    match not_done {
        NotDone::Refused(text) => NotDone::Refused(before + &text),
        NotDone::Failed(Failure(text)) => NotDone::Failed(Failure(before + &text)),
    }
}

/// Returns the requests about these agents.
fn requests(
    operation: &str,
    ips: &[Ipv4Addr],
    body: impl Fn(&[Ipv4Addr]) -> Value,
) -> Vec<Request> {
    let request = |batch: &[Ipv4Addr]| Request {
        method: "POST",
        path: format!("/overlay-master/agents/{operation}"),
        body: Some(body(batch)),
    };
    ips.chunks(BATCH).map(request).collect()
}

/// Returns what the operator types: the address of one agent, or how many there are.
fn word(ips: &[Ipv4Addr]) -> String {
    match ips {
        [ip] => ip.to_string(),
        ips => ips.len().to_string(),
    }
}

/// Returns those of the agents that the master knows, and a note about the others.
fn known(ips: &[Ipv4Addr], state: &MasterState) -> (Vec<Entry>, Vec<String>) {
    let wanted: BTreeSet<Ipv4Addr> = ips.iter().copied().collect();
    let known: Vec<Entry> = state
        .agents
        .iter()
        .filter(|agent| wanted.contains(&agent.ip))
        .map(Entry::new)
        .collect();
    let there: BTreeSet<Ipv4Addr> = known.iter().map(|agent| agent.ip).collect();
    let unknown: Vec<String> = wanted.difference(&there).map(ToString::to_string).collect();
    let notes = match unknown.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "the master does not know {}: {}",
            count(unknown.len(), "agent"),
            list_first(&unknown, NAMED)
        )],
    };
    (known, notes)
}

/// Returns the addresses of agents, each once.
///
/// # Errors
/// One is given by a name that Mesos does not know.
fn addresses(agents: &[String], master: &Master) -> Result<Vec<Ipv4Addr>, Failure> {
    let mut slaves: Option<Slaves> = None;
    let mut ips = BTreeSet::new();
    for agent in agents {
        if let Ok(ip) = agent.parse() {
            ips.insert(ip);
            continue;
        }
        let asked = match slaves.take() {
            Some(slaves) => slaves,
            None => Slaves::ask(master)?,
        };
        let found = asked.find(agent);
        slaves = Some(asked);
        ips.insert(
            found?.ok_or_else(|| format!("Mesos knows no agent {agent}; give its address"))?,
        );
    }
    Ok(ips.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(agents: &str) -> MasterState {
        let text = format!(r#"{{"network":{{"vtep_subnet":"44.0.0.0/8"}},"agents":[{agents}]}}"#);
        serde_json::from_str(&text).unwrap()
    }

    const ONE: &str = r#"{"ip":"10.0.0.1","since_seconds":5}"#;
    const TWO: &str = r#"{"ip":"10.0.0.2"}"#;
    const THREE: &str = r#"{"ip":"10.0.0.3","connected":true}"#;

    #[test]
    fn only_requested_agents_are_freed() {
        let before = state(&format!("{ONE},{TWO},{THREE}"));
        let these = Scope::These([[10, 0, 0, 1].into(), [10, 0, 0, 3].into()].into());
        // Somebody else deletes the second one meanwhile.
        let (freed, note) = these.freed(&before, &state(THREE));
        let freed: Vec<String> = freed.iter().map(|agent| agent.ip.to_string()).collect();
        assert_eq!(freed, ["10.0.0.1"]);
        assert_eq!(
            note.as_deref(),
            Some("the master still knows 1 agent: 10.0.0.3")
        );
        let (freed, note) = Scope::Away.freed(&before, &state(&format!("{TWO},{THREE}")));
        assert_eq!((freed.len(), note), (1, None));
    }

    #[test]
    fn agents_that_connect_or_go_make_another_loss() {
        let before = state(&format!("{ONE},{TWO},{THREE}"));
        let these = Scope::These([[10, 0, 0, 1].into()].into());
        let longer = ONE.replace('5', "500");
        let back = ONE.replace("since", r#"connected":true,"since"#);
        let same = |scope: &Scope, agents: &str| scope.is_same(&before, &state(agents));
        assert!(same(&these, &longer));
        assert!(!same(&these, &back) && !same(&these, TWO));
        assert!(same(&Scope::Away, &format!("{longer},{TWO}")));
        assert!(!same(
            &Scope::Away,
            &format!("{ONE},{TWO},{}", THREE.replace("true", "false"))
        ));
    }
}
