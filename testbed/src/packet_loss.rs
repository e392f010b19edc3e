//! Traffic between tasks whose lost datagrams are counted.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::task::{ReceivedStream, SentStream, TaskClient};
use crate::wait;

/// Result of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamResult {
    /// Addresses of sender and receiver.
    pub path: String,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that did not arrive.
    pub lost: u64,
    /// Datagrams that arrived after a later one.
    pub late: u64,
    /// Longest time without an arrival.
    pub longest_gap: Duration,
}

/// Datagrams under way between tasks, from each to the next and from the last to the first.
#[derive(Debug)]
pub struct Traffic {
    tasks: Vec<TaskClient>,
}

impl Traffic {
    /// Starts the streams, and waits until each task has received datagrams.
    pub fn start(tasks: &[TaskClient], limit: Duration) -> Result<Traffic> {
        let next = tasks.iter().cycle().skip(1);
        for (task, next) in tasks.iter().zip(next) {
            task.send(next.address())?;
        }
        let traffic = Traffic {
            tasks: tasks.to_vec(),
        };
        traffic.flow(100, limit)?;
        Ok(traffic)
    }

    /// Waits until every task has received `datagrams` more.
    pub fn flow(&self, datagrams: u64, limit: Duration) -> Result<()> {
        let count = || -> Result<Vec<u64>> {
            let sum = |task: &TaskClient| {
                Ok(task.received()?.iter().map(|stream| stream.datagrams).sum())
            };
            self.tasks.iter().map(sum).collect()
        };
        let before = count()?;
        wait::until(
            &format!("{datagrams} datagrams more at each task"),
            limit,
            || {
                let enough = count()?
                    .iter()
                    .zip(&before)
                    .all(|(now, before)| now - before >= datagrams);
                Ok(enough.then_some(()))
            },
        )
    }

    /// Ends the streams, waits up to a second for the last datagrams, and returns the results.
    pub fn finish(self) -> Result<Vec<StreamResult>> {
        let sent = self
            .tasks
            .iter()
            .map(TaskClient::stop)
            .collect::<Result<Vec<_>>>()?;
        let next = self.tasks.iter().cycle().skip(1);
        let mut outcomes = Vec::new();
        for ((task, next), sent) in self.tasks.iter().zip(next).zip(sent) {
            for sent in sent {
                let path = format!("{} to {}", task.address().ip(), sent.to);
                outcomes.push(result(path, next, &sent)?);
            }
        }
        Ok(outcomes)
    }
}

/// Longest delay of the last datagram.
const PATIENCE: Duration = Duration::from_secs(1);

fn result(path: String, receiver: &TaskClient, sent: &SentStream) -> Result<StreamResult> {
    let start = Instant::now();
    loop {
        let received = receiver
            .received()?
            .into_iter()
            .find(|stream| stream.id == sent.id);
        let received = received.unwrap_or_default();
        let lost = sent.sent.saturating_sub(received.datagrams);
        if lost == 0 || start.elapsed() > PATIENCE {
            let ReceivedStream {
                late, longest_gap, ..
            } = received;
            return Ok(StreamResult {
                path,
                sent: sent.sent,
                lost,
                late,
                longest_gap,
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
}
