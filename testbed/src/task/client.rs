//! Client of a running task: sends it commands and reads the answers.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::LIMIT;
use crate::netns::{self, Netns};

/// What [`TaskClient::ping`] measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Median time of a round trip, in microseconds.
    pub median_us: u64,
    /// The pinging task's address as the other one saw it.
    pub seen_as: String,
}

/// What a watch has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchReport {
    /// The task that is watched.
    pub to: String,
    /// Round trips that succeeded.
    pub round_trips: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Longest time without a round trip.
    pub longest_gap: Duration,
}

/// A running task, spoken to from its host.
#[derive(Clone, Debug)]
pub struct TaskClient {
    address: SocketAddr,
    netns: Option<Netns>,
}

impl TaskClient {
    /// The task at the address, spoken to from the namespace.
    pub fn new(address: SocketAddr, netns: Option<Netns>) -> TaskClient {
        TaskClient { address, netns }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets it make `count` round trips with another task.
    pub fn ping(&self, to: SocketAddr, count: usize) -> Result<Ping> {
        let answer = self.ask(&format!("ping {to} {count}"))?;
        let median_us = answer["median_us"]
            .as_u64()
            .context("no median in the answer")?;
        Ok(Ping {
            median_us,
            seen_as: answer["seen_as"].as_str().unwrap_or_default().to_owned(),
        })
    }

    /// Lets it watch its connection to another task.
    pub fn watch(&self, to: SocketAddr) -> Result<()> {
        self.ask(&format!("watch {to}")).map(drop)
    }

    /// What its watches have seen.
    pub fn report(&self) -> Result<Vec<WatchReport>> {
        let answer = self.ask("report")?;
        let number = |value: &Value| value.as_u64().context("no number in the answer");
        let seen = |watch: &Value| {
            Ok(WatchReport {
                to: watch["to"].as_str().unwrap_or_default().to_owned(),
                round_trips: number(&watch["round_trips"])?,
                failures: number(&watch["failures"])?,
                longest_gap: Duration::from_millis(number(&watch["longest_gap_ms"])?),
            })
        };
        answer["watches"]
            .as_array()
            .context("no watches in the answer")?
            .iter()
            .map(seen)
            .collect()
    }

    pub(crate) fn ask(&self, command: &str) -> Result<Value> {
        let ask = || -> Result<Value> {
            let stream = netns::connect(self.netns.as_ref(), self.address, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT * 3))?;
            writeln!(&stream, "{command}")?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            let answer: Value =
                serde_json::from_str(&line).with_context(|| format!("answer {line:?}"))?;
            match answer.get("error") {
                Some(error) => bail!("{}", error.as_str().unwrap_or_default()),
                None => Ok(answer),
            }
        };
        ask().with_context(|| format!("asking the task at {} to {command}", self.address))
    }

    /// Lets it send a stream to another task.
    pub fn send(&self, to: SocketAddr) -> Result<()> {
        self.ask(&format!("send {to}")).map(drop)
    }

    /// Ends the streams that it sends.
    pub fn stop(&self) -> Result<Vec<SentStream>> {
        streams(&self.ask("stop")?, |stream, number| {
            let to = stream["to"].as_str().unwrap_or_default().to_owned();
            Ok(SentStream {
                id: number("id")?,
                to,
                sent: number("sent")?,
                errors: number("errors")?,
            })
        })
    }

    /// The streams that it gets or got.
    pub fn received(&self) -> Result<Vec<ReceivedStream>> {
        streams(&self.ask("received")?, |_, number| {
            Ok(ReceivedStream {
                id: number("id")?,
                datagrams: number("datagrams")?,
                missing: number("missing")?,
                late: number("late")?,
                longest_gap: Duration::from_micros(number("longest_gap_us")?),
            })
        })
    }
}

fn streams<T>(
    answer: &Value,
    read: impl Fn(&Value, &dyn Fn(&str) -> Result<u64>) -> Result<T>,
) -> Result<Vec<T>> {
    let streams = answer["streams"]
        .as_array()
        .context("no streams in the answer")?;
    let read = |stream: &Value| {
        read(stream, &|key| {
            stream[key]
                .as_u64()
                .with_context(|| format!("no {key} in the answer"))
        })
    };
    streams.iter().map(read).collect()
}

/// What a task says of a stream that it sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentStream {
    /// Random.
    pub id: u64,
    /// Where to.
    pub to: String,
    /// Datagrams.
    pub sent: u64,
    /// Those among them that the kernel refused to send.
    pub errors: u64,
}

/// What a task says of a stream that it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedStream {
    /// The sender's.
    pub id: u64,
    /// Datagrams, each counted once.
    pub datagrams: u64,
    /// Numbers left out so far.
    pub missing: u64,
    /// Datagrams that came after a later one.
    pub late: u64,
    /// Longest time in which none came.
    pub longest_gap: Duration,
}
