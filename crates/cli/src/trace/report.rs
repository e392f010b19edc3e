//! Report of `trace`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::Serialize;

use crate::finding::Finding;
use crate::output::Report;
use crate::output::page::{DIM, ERROR, GOOD, Page, WARNING, styled};

/// Report of `trace`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TraceReport {
    /// Where the packet comes from.
    pub source: End,
    /// Where it is to go.
    pub destination: End,
    /// `tcp`, `udp` or `icmp`.
    pub protocol: &'static str,
    /// Destination port, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Steps in order, up to the one at which the packet is dropped.
    pub steps: Vec<Step>,
    /// True if the packet arrives; absent if that cannot be told from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrives: Option<bool>,
    /// Where the packet ends, in one sentence.
    pub verdict: String,
    /// Remarks about what could not be seen.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub findings: Vec<Finding>,
}

/// End of the way.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct End {
    /// Address; absent if the kernel chooses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What has the address, in words.
    pub description: String,
    /// Address of the agent on its host; absent outside of the overlays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Ipv4Addr>,
}

/// Step of the way.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Step {
    /// Host on which it happens.
    pub host: String,
    /// What happens: `bridge`, `forwarding`, `rule`, `route`, `firewall`, `masquerading`, `neighbour`,
    /// `fdb`, `underlay`, `tunnel`, `agent`, `probe` or `container`.
    pub step: &'static str,
    /// What the master says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What this host's kernel says, or what was seen of another host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// State of the step.
    pub state: State,
}

/// State of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it has to be.
    Ok,
    /// Not as the master says, and the packet goes on.
    Differs,
    /// The packet ends here.
    Drops,
    /// It cannot be seen.
    Unknown,
}

impl Report for TraceReport {
    const COMMAND: &'static str = "trace";

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        let port = self
            .port
            .map_or(String::new(), |port| format!(" port {port}"));
        page.line(format_args!("From  {}", described(&self.source)))?;
        page.line(format_args!("to    {}", described(&self.destination)))?;
        page.line(format_args!("with  {}{port}\n", self.protocol))?;
        let rows = self.steps.iter().enumerate().map(|(number, step)| {
            let (style, word) = match step.state {
                State::Ok => (GOOD, "ok"),
                State::Differs => (WARNING, "differs"),
                State::Drops => (ERROR, "drops"),
                State::Unknown => (DIM, "not seen"),
            };
            vec![
                (number + 1).to_string(),
                step.host.clone(),
                step.step.to_owned(),
                styled(style, word),
                step.model.clone().unwrap_or_else(|| "-".to_owned()),
                step.kernel.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        });
        page.table(&["", "HOST", "STEP", "", "MODEL", "KERNEL"], &[0], rows)?;
        let style = match self.arrives {
            Some(true) => GOOD,
            Some(false) => ERROR,
            None => WARNING,
        };
        page.line(format_args!("\n{}", styled(style, &self.verdict)))?;
        for note in &self.notes {
            page.line(format_args!("{} {note}", styled(DIM, "note:")))?;
        }
        Ok(())
    }
}

fn described(end: &End) -> String {
    match end.address {
        Some(ip) => format!("{ip}, {}", end.description),
        None => end.description.clone(),
    }
}
