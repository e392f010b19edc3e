//! Benchmark of the name server, beside NSD with the same zone: `cargo xtask bench dns`.
//! docs/dev/performance.md explains the results and their aims.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use domain::base::Serial;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use overlay_dns::server::authority::Authority;
use overlay_dns::server::{Config, Server};
use overlay_dns::zone::{Batch, Data, Knowledge, Record, Soa, Zones, parse_name};
use testbed::name_server::{Source, Zone, start_nsd};
use testbed::{install, net, wait};

/// Zone of the names.
const ZONE: &str = "dcos.thisdcos.directory";

/// Numbers of tasks.
const TASKS: [u32; 3] = [1_000, 10_000, 100_000];

/// Questions a second for the times.
const STEADY_RATE: u32 = 10_000;

/// Length of each measurement, in seconds.
const SECONDS: u32 = 5;

/// Measurements of a rate; the result is the median.
const REPEATS: usize = 3;

/// Processor of the servers. The clients have the first one.
const SERVER_CPU: usize = 1;

fn main() -> Result<()> {
    install::ensure(install::NAME_SERVERS)?;
    println!(
        "{:>8} {:>12} {:>12} {:>6} {:>9} {:>9} {:>10}",
        "tasks", "questions/s", "NSD", "ratio", "p50, µs", "p99, µs", "NSD's p99"
    );
    for tasks in TASKS {
        net::isolated(|| measure(tasks)).with_context(|| format!("{tasks} tasks"))?;
    }
    Ok(())
}

/// Compares both servers with one zone.
fn measure(tasks: u32) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let questions = dir.path().join("questions");
    fs::write(&questions, questions_of(tasks))?;
    pin(SERVER_CPU)?;
    let nsd_address: SocketAddr = "127.0.0.1:5301".parse()?;
    let zone = Zone {
        name: ZONE.to_owned(),
        source: Source::Text(zone_file(tasks)),
    };
    let mut nsd = start_nsd(&dir.path().join("nsd"), nsd_address, &[zone])?;
    let config = Config {
        listen: vec!["127.0.0.1:5302".parse()?],
        ..Config::default()
    };
    let server = Server::start(&config, Arc::new(Authority::new(zones(tasks)?)))?;
    let address = server.addresses()[0];
    pin(0)?;
    wait::until("NSD", Duration::from_secs(60), || {
        nsd.check()?;
        Ok(
            perf(nsd_address, &questions, &["-n", "1", "-Q", "1", "-l", "1"])
                .ok()
                .filter(|perf| perf.completed > 0),
        )
    })?;
    let mut rates = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        rates.0.push(rate(address, &questions)?);
        rates.1.push(rate(nsd_address, &questions)?);
    }
    let (own, other) = (median(&mut rates.0), median(&mut rates.1));
    let (p50, p99) = times(address, &questions)?;
    let (_, nsd_p99) = times(nsd_address, &questions)?;
    println!(
        "{tasks:>8} {own:>12.0} {other:>12.0} {:>6.2} {p50:>9.0} {p99:>9.0} {nsd_p99:>10.0}",
        own / other
    );
    Ok(())
}

/// Runs this thread, and the threads and processes that it starts, on one processor.
fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Report of dnsperf.
struct Perf {
    completed: u64,
    lost: u64,
    rate: f64,
    /// Times of the answers, in microseconds, sorted.
    times: Vec<f64>,
}

fn perf(server: SocketAddr, questions: &Path, arguments: &[&str]) -> Result<Perf> {
    let mut command = Command::new("dnsperf");
    command.args([
        "-s",
        &server.ip().to_string(),
        "-p",
        &server.port().to_string(),
    ]);
    command.arg("-d").arg(questions).args(arguments);
    let output = command.output().context("running dnsperf")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "dnsperf: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let number = |name: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next());
        value
            .and_then(|value| value.parse().ok())
            .with_context(|| format!("{name} in {text}"))
    };
    // With -v there is a line for each answer: > code name type seconds
    let answers = text.lines().filter(|line| line.starts_with("> "));
    let seconds = answers.filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok());
    let mut times: Vec<f64> = seconds.map(|seconds| seconds * 1e6).collect();
    times.sort_by(f64::total_cmp);
    Ok(Perf {
        completed: number("Queries completed:")? as u64,
        lost: number("Queries lost:")? as u64,
        rate: number("Queries per second:")?,
        times,
    })
}

/// Returns the highest rate of answers, per second.
fn rate(server: SocketAddr, questions: &Path) -> Result<f64> {
    let seconds = SECONDS.to_string();
    let perf = perf(server, questions, &["-l", &seconds, "-c", "8", "-q", "200"])?;
    ensure!(
        perf.lost * 1_000 < perf.completed,
        "{} of {} questions were lost",
        perf.lost,
        perf.completed
    );
    Ok(perf.rate)
}

/// Returns the median and the 99th percentile of the times at the steady rate, in microseconds.
fn times(server: SocketAddr, questions: &Path) -> Result<(f64, f64)> {
    let (rate, seconds) = (STEADY_RATE.to_string(), SECONDS.to_string());
    let perf = perf(
        server,
        questions,
        &["-l", &seconds, "-Q", &rate, "-c", "8", "-v"],
    )?;
    ensure!(perf.lost == 0, "{} questions were lost", perf.lost);
    let at = |share: f64| {
        perf.times
            .get((perf.times.len() as f64 * share) as usize)
            .copied()
    };
    Ok((
        at(0.5).context("no answers")?,
        at(0.99).context("no answers")?,
    ))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the name of a task.
fn task(number: u32) -> String {
    format!("task-{number}.marathon")
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(9, 0, 0, 0)) + number)
}

const KINDS: [&str; 3] = ["containerip", "agentip", "autoip"];

fn zones(tasks: u32) -> Result<Zones> {
    let mut zones = Zones::default();
    let soa = Soa::new(
        parse_name("ns.spartan")?,
        parse_name("support.mesosphere.com")?,
        Serial(1),
    );
    zones.insert(parse_name(ZONE)?, soa, SystemTime::now());
    let mut added = Vec::new();
    for number in 0..tasks {
        for kind in KINDS {
            added.push(Record {
                owner: parse_name(&format!("{}.{kind}.{ZONE}", task(number)))?,
                data: Data::A(address(number)),
            });
        }
    }
    let batch = Batch {
        added,
        ..Batch::default()
    };
    zones.apply(batch, SystemTime::now());
    zones.set_knowledge(Knowledge::Complete);
    Ok(zones)
}

fn zone_file(tasks: u32) -> String {
    let mut text = format!(
        "$ORIGIN {ZONE}.\n$TTL 5\n@ SOA ns.spartan. support.mesosphere.com. 1 60 180 86400 1\n\
         @ NS ns.spartan.\n"
    );
    for number in 0..tasks {
        for kind in KINDS {
            let _ = writeln!(text, "{}.{kind} A {}", task(number), address(number));
        }
    }
    text
}

/// Returns questions for dnsperf: of twenty, one for the other family and one for a name that does not
/// exist.
fn questions_of(tasks: u32) -> String {
    let mut text = String::new();
    // An odd multiplier visits the tasks in an order without pattern.
    for index in 0..100_000_u32 {
        let number = index.wrapping_mul(2_654_435_761) % tasks;
        let kind = KINDS[index as usize % KINDS.len()];
        let _ = match index % 20 {
            0 => writeln!(text, "{}.{kind}.{ZONE} AAAA", task(number)),
            1 => writeln!(text, "no-{}.{kind}.{ZONE} A", task(number)),
            _ => writeln!(text, "{}.{kind}.{ZONE} A", task(number)),
        };
    }
    text
}
