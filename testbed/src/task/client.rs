//! Client of a running task: sends it commands and reads the answers.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::LIMIT;
use crate::netns::{self, Netns};

/// Result of [`TaskClient::ping`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Median time of a round trip, in microseconds.
    pub median_us: u64,
    /// Address of the pinging task, as the other task sees it.
    pub seen_as: String,
}

/// Result of a watch so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchReport {
    /// Address of the watched task.
    pub to: String,
    /// Successful round trips.
    pub round_trips: u64,
    /// Failed round trips.
    pub failures: u64,
    /// Longest time without a successful round trip.
    pub longest_gap: Duration,
}

/// Client of a running task, which connects from the host of the task.
#[derive(Clone, Debug)]
pub struct TaskClient {
    address: SocketAddr,
    netns: Option<Netns>,
}

impl TaskClient {
    /// Makes a client of the task at `address` that connects from a namespace; `None`: from this
    /// process's own.
    pub fn new(address: SocketAddr, netns: Option<Netns>) -> TaskClient {
        TaskClient { address, netns }
    }

    /// Returns the address of the task.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes the task do `count` round trips with another task.
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

    /// Makes the task resolve a name, with the resolvers of its container.
    pub fn resolve(&self, name: &str) -> Result<Vec<IpAddr>> {
        let answer = self.ask(&format!("resolve {name}"))?;
        let ips = answer["addresses"].as_array();
        let ips = ips.context("no addresses in the answer")?.iter();
        ips.map(|ip| Ok(ip.as_str().unwrap_or_default().parse()?))
            .collect()
    }

    /// Makes the task watch its connection to another task.
    pub fn watch(&self, to: SocketAddr) -> Result<()> {
        self.ask(&format!("watch {to}")).map(drop)
    }

    /// Returns the results of the task's watches.
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

    /// Makes the task send a stream to another task.
    pub fn send(&self, to: SocketAddr) -> Result<()> {
        self.ask(&format!("send {to}")).map(drop)
    }

    /// Ends the streams that the task sends, and returns them.
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

    /// Returns the streams that the task has received.
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

/// A stream that a task has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentStream {
    /// Random id of the stream.
    pub id: u64,
    /// Address of the receiver.
    pub to: String,
    /// Number of datagrams.
    pub sent: u64,
    /// Datagrams that the kernel refused to send.
    pub errors: u64,
}

/// A stream that a task receives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedStream {
    /// Id of the stream, which the sender chose.
    pub id: u64,
    /// Datagrams without duplicates.
    pub datagrams: u64,
    /// Datagrams that are missing so far.
    pub missing: u64,
    /// Datagrams that arrived after a later one.
    pub late: u64,
    /// Longest time without an arrival.
    pub longest_gap: Duration,
}
