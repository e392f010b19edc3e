//! The program that tests run as a task. It echoes, connects to other tasks on request, and
//! measures round trips and lost datagrams.
//!
//! A task listens on one TCP port and takes one command per connection, a line, which it answers
//! with a line:
//!
//! * `echo`: answers with the address of the client as the task sees it, then returns every byte;
//! * `ping <address> <count>`: makes `count` round trips with the task at the address;
//! * `watch <address>`: starts to make a round trip every few milliseconds, until the task ends;
//! * `report`: results of all watches so far;
//! * `resolve <name>`: addresses of a name, as the C library finds them in the container;
//! * `send <address>`, `stop`, `received`: streams of numbered datagrams, see
//!   [`crate::packet_loss`].
//!
//! Tasks do not depend on Mesos, so they can be asked while a master or an agent is down.

mod client;
mod datagrams;
mod watch;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

pub use client::{Ping, ReceivedStream, SentStream, TaskClient, WatchReport};
use datagrams::Datagrams;
use watch::Watches;

use crate::netns;

/// Port of a task that has a network namespace of its own.
pub const PORT: u16 = 7007;

/// Timeout of one round trip.
const LIMIT: Duration = Duration::from_secs(2);

/// Serves commands, forever.
pub fn serve(listener: &TcpListener) -> ! {
    let (watches, streams) = (Watches::default(), Datagrams::default());
    let receiving = listener
        .local_addr()
        .map_err(Into::into)
        .and_then(|here| streams.receive_at(here));
    if let Err(error) = receiving {
        eprintln!("cannot receive datagrams: {error:#}");
    }
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let (watches, streams) = (watches.clone(), streams.clone());
                thread::spawn(move || {
                    if let Err(error) = answer(stream, &watches, &streams) {
                        eprintln!("error while serving a client: {error:#}");
                    }
                });
            }
            Err(error) => {
                eprintln!("cannot accept a client: {error}");
                thread::sleep(Duration::from_millis(100)); // probably too many open files
            }
        }
    }
}

fn answer(stream: TcpStream, watches: &Watches, streams: &Datagrams) -> Result<()> {
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
        ["resolve", name] => resolve(name).unwrap_or_else(failure),
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

fn resolve(name: &str) -> Result<Value> {
    let mut addresses: Vec<_> = (name, PORT).to_socket_addrs()?.collect();
    addresses.sort();
    addresses.dedup();
    let ips: Vec<_> = addresses.iter().map(SocketAddr::ip).collect();
    Ok(json!({ "addresses": ips }))
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

/// A connection to another task, which echoes.
struct Echo {
    reader: BufReader<TcpStream>,
    /// Address of this task, as the other task sees it.
    seen_as: String,
}

impl Echo {
    fn connect(to: SocketAddr, limit: Duration) -> Result<Echo> {
        let stream = netns::connect(None, to, limit)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet_loss::Traffic;

    fn task() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(&listener));
        address
    }

    #[test]
    fn tasks_measure_round_trips() {
        let (a, b) = (task(), task());
        let ping = TaskClient::new(a, None).ping(b, 20).unwrap();
        assert_eq!(ping.seen_as, "127.0.0.1");
        assert!(ping.median_us < 1_000_000, "{ping:?}");
    }

    #[test]
    fn tasks_resolve_names() {
        let task = TaskClient::new(task(), None);
        let found = task.resolve("localhost").unwrap();
        assert!(found.iter().all(|ip| ip.is_loopback()), "{found:?}");
        assert!(!found.is_empty());
        let error = task.resolve("no.such.name.invalid").unwrap_err();
        assert!(format!("{error:#}").contains("no.such.name"), "{error:#}");
    }

    #[test]
    fn a_failed_ping_names_the_address() {
        let nobody = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let error = TaskClient::new(task(), None).ping(nobody, 1).unwrap_err();
        assert!(
            format!("{error:#}").contains(&format!("connecting to {nobody}")),
            "{error:#}"
        );
    }

    #[test]
    fn every_datagram_of_a_stream_is_counted() {
        let tasks = [task(), task()].map(|address| TaskClient::new(address, None));
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
        let remote = TaskClient::new(a, None);
        remote.watch(b).unwrap();
        let seen = crate::wait::until("round trips", LIMIT, || {
            let seen = remote.report()?;
            Ok((seen[0].round_trips > 3).then_some(seen))
        });
        let seen = seen.unwrap();
        assert_eq!((seen[0].to.clone(), seen[0].failures), (b.to_string(), 0));
    }
}
