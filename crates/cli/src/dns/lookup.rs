//! `mesos-overlay dns lookup`: asks the server on this host about a name or an address.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use overlay_core::util::line::one_line;
use overlay_dns::server::lookup::{Entry, Found, State, Task};
use schemars::JsonSchema;
use serde::Serialize;

use super::options::HTTP;
use crate::finding::Finding;
use crate::finding::kinds::dns::{NAME_NOT_FOUND, NAMES_INCOMPLETE, NAMES_OLD};
use crate::output::page::{Page, count};
use crate::output::{Failure, OutputOptions, Report};

/// Time that the server may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Longest answer of the server that is read, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// Longest value that is shown, in characters.
const MAX_VALUE: usize = 500;

/// Records and tasks that the page shows.
const SHOWN: usize = 20;

const EXAMPLES: &str = "\
Examples:
  Which records has a name, and for which tasks?
      mesos-overlay dns lookup web.marathon.containerip.dcos.thisdcos.directory
  Which names has an address?
      mesos-overlay dns lookup 9.0.1.5";

/// Says which records a name has or which names an address has, and for which tasks.
///
/// The name server on this host is asked, over HTTP.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES, after_help = EXAMPLES)]
pub struct Options {
    /// Name or address.
    #[arg(value_name = "NAME|ADDRESS")]
    query: String,
    /// Address of the server's metrics (its option --http).
    #[arg(long, value_name = "ADDRESS", env = "MESOS_OVERLAY_DNS_HTTP", default_value = HTTP)]
    http: SocketAddr,
    #[command(flatten)]
    pub(super) output: OutputOptions,
}

/// Knowledge of the name server about a name or an address.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DnsLookup {
    /// Name or address that was asked for.
    query: String,
    /// Zone that the name is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    /// Serial of the zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    serial: Option<u32>,
    /// State of the server's knowledge: `nothing`, `partial`, `complete`, or `old`, which is
    /// everything as it was when a master was heard for the last time.
    knowledge: &'static str,
    /// True if the name exists, or an address has names.
    exists: bool,
    /// Records of the name, or with the address.
    records: Vec<RecordLine>,
    /// Tasks that have these records.
    tasks: Vec<TaskLine>,
    #[serde(skip)]
    findings: Vec<Finding>,
}

/// A record.
#[derive(Debug, Serialize, JsonSchema)]
struct RecordLine {
    /// Owner: the name that has the record.
    name: String,
    /// Type, such as `A`.
    r#type: String,
    /// Data, as in a zone file.
    data: String,
}

/// A task.
#[derive(Debug, Serialize, JsonSchema)]
struct TaskLine {
    /// Task id.
    id: String,
    /// Name of the task.
    name: String,
    /// Name of the framework.
    framework: String,
    /// Hostname of the agent.
    agent: String,
    /// Reason why it has no names, or not all, as a phrase.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Asks the server.
pub fn lookup(options: &Options) -> Result<DnsLookup, Failure> {
    let query = options.query.trim();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.:*".contains(c);
    if query.is_empty() || !query.chars().all(is_name) {
        return Err("a name has letters, digits, dots, - and _ only".into());
    }
    let found = ask(options.http, query).map_err(|error| {
        format!(
            "the name server does not answer at http://{}: {error}; `mesos-overlay dns` must run on \
             this host, with this address as its --http",
            options.http
        )
    })?;
    Ok(DnsLookup::new(found))
}

fn ask(server: SocketAddr, query: &str) -> Result<Found, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(LIMIT))
        .proxy(None)
        .build()
        .into();
    let answer = agent.get(format!("http://{server}/lookup/{query}")).call();
    let mut answer = answer.map_err(|error| error.to_string())?;
    let body = answer
        .body_mut()
        .with_config()
        .limit(MAX_ANSWER)
        .read_to_vec();
    let body = body.map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(one_line(&String::from_utf8_lossy(&body), MAX_VALUE).into_owned());
    }
    serde_json::from_slice(&body).map_err(|error| format!("it is another program: {error}"))
}

impl DnsLookup {
    fn new(found: Found) -> DnsLookup {
        let plain = |text: &str| one_line(text, MAX_VALUE).into_owned();
        let findings = findings(&found);
        let record = |entry: &Entry| RecordLine {
            name: plain(&entry.name),
            r#type: plain(&entry.rtype),
            data: plain(&entry.data),
        };
        let task = |task: &Task| TaskLine {
            id: plain(&task.id),
            name: plain(&task.name),
            framework: plain(&task.framework),
            agent: plain(&task.agent),
            problem: task.problem.as_deref().map(plain),
        };
        DnsLookup {
            query: plain(&found.wanted),
            zone: found.zone.as_deref().map(plain),
            serial: found.serial,
            knowledge: match found.knowledge {
                State::Nothing => "nothing",
                State::Partial => "partial",
                State::Complete => "complete",
                State::Old => "old",
            },
            exists: found.exists,
            records: found.records.iter().map(record).collect(),
            tasks: found.tasks.iter().map(task).collect(),
            findings,
        }
    }
}

fn findings(found: &Found) -> Vec<Finding> {
    let wanted = one_line(&found.wanted, MAX_VALUE);
    let mut findings = Vec::new();
    if !found.exists {
        let what = match (&found.zone, wanted.parse::<std::net::IpAddr>()) {
            (_, Ok(_)) => format!("no name has the address {wanted}"),
            (Some(zone), _) => {
                format!(
                    "the zone {} has no name {wanted}",
                    one_line(zone, MAX_VALUE)
                )
            }
            (None, _) => format!("{wanted} is in none of the server's zones"),
        };
        let remedy = "Only running tasks have names; see docs/dns.md for the names they have";
        findings.push(NAME_NOT_FOUND.finding(what, remedy));
    }
    match found.knowledge {
        State::Complete => {}
        State::Old => findings.push(NAMES_OLD.finding(
            "the name server hears no leading master: it answers with what it last knew",
            "Check that a master leads, and that the log of the name server says why it is not heard",
        )),
        State::Nothing | State::Partial => findings.push(NAMES_INCOMPLETE.finding(
            "the name server does not know all tasks yet",
            "Wait for the first full state of the master; the log of the name server says what it \
             waits for",
        )),
    }
    findings
}

impl Report for DnsLookup {
    const COMMAND: &'static str = "dns lookup";
    const EXAMINES: bool = false;

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        if let (Some(zone), Some(serial)) = (&self.zone, self.serial) {
            page.line(format!("{}: zone {zone}, serial {serial}", self.query))?;
        } else {
            page.line(format!(
                "{}: {}",
                self.query,
                count(self.records.len(), "name")
            ))?;
        }
        for record in self.records.iter().take(SHOWN) {
            page.line(format!(
                "  {}  {}  {}",
                record.name, record.r#type, record.data
            ))?;
        }
        rest(page, self.records.len(), "record")?;
        for task in self.tasks.iter().take(SHOWN) {
            page.line(format!(
                "  task {} ({}) of framework {} on agent {}",
                task.name, task.id, task.framework, task.agent
            ))?;
            if let Some(problem) = &task.problem {
                page.line(format!("    without some names: {problem}"))?;
            }
        }
        rest(page, self.tasks.len(), "task")
    }
}

/// Says how many are not shown.
fn rest(page: &mut Page<'_>, number: usize, noun: &str) -> io::Result<()> {
    match number.checked_sub(SHOWN) {
        None | Some(0) => Ok(()),
        Some(more) => page.line(format!("  … and {more} more {noun}s (-o json has all)")),
    }
}
