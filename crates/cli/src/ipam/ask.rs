//! Agents asked one by one, some at a time.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::agents::Slaves;
use crate::answers::{MasterState, OwnAgent};
use crate::connection::{AskError, Http, Master};
use crate::output::Failure;
use crate::output::progress::Progress;

/// Number of agents that are asked at the same time.
const AT_ONCE: usize = 64;
/// Time limit of one agent.
const LIMIT: Duration = Duration::from_secs(5);

/// Option of commands that can ask the agents themselves.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct AskOptions {
    /// Also ask every connected agent, one by one.
    #[arg(long)]
    pub ask_agents: bool,
}

/// Answers of agents.
#[derive(Debug, Default)]
pub struct Answers {
    /// Agents that answered, by address.
    pub agents: Vec<(Ipv4Addr, OwnAgent)>,
    /// Agents that did not, each with the reason.
    pub silent: Vec<(Ipv4Addr, AskError)>,
    /// Number of agents that were not asked, because they are not connected.
    pub away: usize,
}

/// Asks all agents that are connected.
///
/// # Errors
/// The Mesos master does not say where the agents are.
pub fn ask(master: &Master, state: &MasterState) -> Result<Answers, Failure> {
    let slaves = Slaves::ask(master)?;
    let connected = state.agents.iter().filter(|agent| agent.connected);
    let asked: Vec<(Ipv4Addr, String)> = connected
        .map(|agent| (agent.ip, slaves.endpoint(agent.ip)))
        .collect();
    let progress = Progress::new("Asking agents", asked.len() as u64);
    let http = master.http().with_limit(LIMIT);
    let mut answers = collect(&http, &asked, &progress);
    answers.away = state.agents.len() - asked.len();
    Ok(answers)
}

fn collect(http: &Http, asked: &[(Ipv4Addr, String)], progress: &Progress) -> Answers {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Answers::default());
    let ask_next = || {
        while let Some((ip, endpoint)) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
            let answer = http.json::<OwnAgent>(endpoint, "/overlay-agent/overlay");
            progress.step();
            let Ok(mut answers) = answers.lock() else {
                return;
            };
            match answer {
                Ok(own) => answers.agents.push((*ip, own)),
                Err(error) => answers.silent.push((*ip, error)),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(asked.len()) {
            scope.spawn(ask_next);
        }
    });
    let mut answers = answers.into_inner().unwrap_or_default();
    answers.agents.sort_by_key(|(ip, _)| *ip);
    answers.silent.sort_by_key(|(ip, _)| *ip);
    answers
}

impl Answers {
    /// Returns sentences about agents that said nothing.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.away > 0 {
            notes.push(format!(
                "not asked, because they are not connected: {} agents",
                self.away
            ));
        }
        if let Some((ip, error)) = self.silent.first() {
            let others = match self.silent.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} others)"),
            };
            notes.push(format!("agent {ip} did not answer{others}: {error}"));
        }
        notes
    }
}
