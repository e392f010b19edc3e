//! What our tasks do: they echo, and on request connect to one another and
//! measure how long a round trip takes.
//!
//! One TCP port per task, one command per connection, one line each way:
//!
//! * `echo`: answers with the address that the client is seen under, then sends every
//!   byte back;
//! * `ping <address> <count>`: makes that many round trips with the task at the address;
//! * `watch <address>`: starts to make one every few milliseconds, until the end;
//! * `report`: what the watches have seen so far;
//! * `send <address>`, `stop`, `received`: numbered datagrams, see [`crate::stream`].
//!
//! It works without Mesos, so it can be asked while a master or an agent is dead.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::net::{self, Netns};
use crate::stream::Streams;

/// Port of a task in a network namespace of its own.
pub const PORT: u16 = 7007;

/// How long one round trip may take before it counts as failed.
const LIMIT: Duration = Duration::from_secs(2);
/// Time from one round trip of a watch to the next.
const WATCH_INTERVAL: Duration = Duration::from_millis(5);
/// For a watch: a connection that hangs longer is given up.
const WATCH_LIMIT: Duration = Duration::from_millis(500);

/// Serves the commands, for ever.
pub fn serve(listener: &TcpListener) -> ! {
    let (watches, streams) = (Watches::default(), Streams::default());
    let receiving = listener
        .local_addr()
        .map_err(Into::into)
        .and_then(|here| streams.receive_at(here));
    if let Err(error) = receiving {
        eprintln!("no datagrams are received: {error:#}");
    }
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let (watches, streams) = (watches.clone(), streams.clone());
                thread::spawn(move || {
                    if let Err(error) = answer(stream, &watches, &streams) {
                        eprintln!("a client: {error:#}");
                    }
                });
            }
            Err(error) => {
                eprintln!("accepting a client: {error}");
                thread::sleep(Duration::from_millis(100)); // out of files, most likely
            }
        }
    }
}

fn answer(stream: TcpStream, watches: &Watches, streams: &Streams) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let answer = match words[..] {
        ["echo"] => return echo(reader, stream),
        ["ping", address, count] => ping(address.parse()?, count.parse()?).unwrap_or_else(failure),
        ["watch", address] => {
            watches.start(address.parse()?);
            json!({})
        }
        ["report"] => watches.report(),
        ["send", address] => {
            streams.send(address.parse()?)?;
            json!({})
        }
        ["stop"] => streams.stop(),
        ["received"] => streams.received(),
        _ => failure(anyhow::anyhow!("unknown command {:?}", line.trim())),
    };
    writeln!(&stream, "{answer}")?;
    Ok(())
}

fn failure(error: anyhow::Error) -> Value {
    json!({ "error": format!("{error:#}") })
}

fn echo(mut reader: BufReader<TcpStream>, mut stream: TcpStream) -> Result<()> {
    writeln!(stream, "{}", stream.peer_addr()?.ip().to_canonical())?;
    let mut buffer = [0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => stream.write_all(&buffer[..length])?,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A connection to another task's echo.
struct Echo {
    reader: BufReader<TcpStream>,
    /// Our address as the other task sees it.
    seen_as: String,
}

impl Echo {
    fn connect(to: SocketAddr, limit: Duration) -> Result<Echo> {
        let stream = net::connect(None, to, limit)?;
        stream.set_write_timeout(Some(limit))?;
        writeln!(&stream, "echo")?;
        let mut reader = BufReader::new(stream);
        let mut seen_as = String::new();
        reader.read_line(&mut seen_as)?;
        Ok(Echo {
            reader,
            seen_as: seen_as.trim().to_owned(),
        })
    }

    fn round_trip(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let mut byte = [b'x'];
        self.reader.get_mut().write_all(&byte)?;
        self.reader.read_exact(&mut byte)?;
        Ok(start.elapsed())
    }
}

fn ping(to: SocketAddr, count: usize) -> Result<Value> {
    let mut echo = Echo::connect(to, LIMIT)?;
    let mut times = (0..count)
        .map(|_| echo.round_trip())
        .collect::<Result<Vec<_>>>()?;
    times.sort();
    let micros = |index: usize| times.get(index).map(|time| time.as_micros());
    Ok(json!({
        "round_trips": times.len(),
        "median_us": micros(times.len() / 2),
        "max_us": micros(times.len().saturating_sub(1)),
        "seen_as": echo.seen_as,
    }))
}

/// The watches of this task.
#[derive(Clone, Default)]
struct Watches(Arc<Mutex<Vec<Watch>>>);

struct Watch {
    to: SocketAddr,
    round_trips: u64,
    failures: u64,
    last: Instant,
    longest_gap: Duration,
}

impl Watches {
    fn start(&self, to: SocketAddr) {
        let watch = Watch {
            to,
            round_trips: 0,
            failures: 0,
            last: Instant::now(),
            longest_gap: Duration::ZERO,
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = all.len();
        all.push(watch);
        let watches = self.clone();
        thread::spawn(move || {
            let mut echo = None;
            loop {
                let outcome = watched_round_trip(to, &mut echo);
                watches.note(index, outcome.is_ok());
                thread::sleep(WATCH_INTERVAL);
            }
        });
    }

    fn note(&self, index: usize, good: bool) {
        let watch = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner)[index];
        if good {
            watch.round_trips += 1;
            watch.longest_gap = watch.longest_gap.max(watch.last.elapsed());
            watch.last = Instant::now();
        } else {
            watch.failures += 1;
        }
    }

    fn report(&self) -> Value {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = |watch: &Watch| {
            json!({
                "to": watch.to.to_string(),
                "round_trips": watch.round_trips,
                "failures": watch.failures,
                // One that goes on counts too.
                "longest_gap_ms": watch.longest_gap.max(watch.last.elapsed()).as_millis(),
            })
        };
        json!({ "watches": all.iter().map(watch).collect::<Vec<_>>() })
    }
}

/// One round trip; after a failure the next one connects anew.
fn watched_round_trip(to: SocketAddr, echo: &mut Option<Echo>) -> Result<()> {
    let mut this = match echo.take() {
        Some(echo) => echo,
        None => Echo::connect(to, WATCH_LIMIT)?,
    };
    this.round_trip()?;
    *echo = Some(this);
    Ok(())
}

/// What [`Remote::ping`] measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Median time of a round trip, in microseconds.
    pub median_us: u64,
    /// The pinging task's address as the other one saw it.
    pub seen_as: String,
}

/// What a watch has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
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
pub struct Remote {
    address: SocketAddr,
    netns: Option<Netns>,
}

impl Remote {
    /// The task at the address, spoken to from the namespace.
    pub fn new(address: SocketAddr, netns: Option<Netns>) -> Remote {
        Remote { address, netns }
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
    pub fn report(&self) -> Result<Vec<Seen>> {
        let answer = self.ask("report")?;
        let number = |value: &Value| value.as_u64().context("no number in the answer");
        let seen = |watch: &Value| {
            Ok(Seen {
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
            let stream = net::connect(self.netns.as_ref(), self.address, LIMIT)?;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Traffic;

    fn task() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(&listener));
        address
    }

    #[test]
    fn tasks_measure_the_way_to_each_other() {
        let (a, b) = (task(), task());
        let ping = Remote::new(a, None).ping(b, 20).unwrap();
        assert_eq!(ping.seen_as, "127.0.0.1");
        assert!(ping.median_us < 1_000_000, "{ping:?}");
    }

    #[test]
    fn a_ping_of_nobody_says_why() {
        let nobody = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = Remote::new(task(), None).ping(nobody, 1).unwrap_err();
        assert!(
            format!("{error:#}").contains(&format!("connecting to {nobody}")),
            "{error:#}"
        );
    }

    #[test]
    fn every_datagram_of_a_stream_is_counted() {
        let tasks = [task(), task()].map(|address| Remote::new(address, None));
        let traffic = Traffic::start(&tasks, LIMIT * 5).unwrap();
        traffic.flow(50, LIMIT * 5).unwrap();
        let outcomes = traffic.finish().unwrap();
        assert_eq!(outcomes.len(), 2);
        for outcome in outcomes {
            assert!(outcome.lost == 0 && outcome.sent >= 150, "{outcome:?}");
        }
    }

    #[test]
    fn a_watch_counts() {
        let (a, b) = (task(), task());
        let remote = Remote::new(a, None);
        remote.watch(b).unwrap();
        let seen = crate::wait::until("round trips", LIMIT, || {
            let seen = remote.report()?;
            Ok((seen[0].round_trips > 3).then_some(seen))
        });
        let seen = seen.unwrap();
        assert_eq!((seen[0].to.clone(), seen[0].failures), (b.to_string(), 0));
    }
}
