//! How a master carries many agents, beside a module that only answers, in one run:
//! `cargo xtask bench master`. What each line means, and what it should be, is in
//! docs/scaling.md.
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use testbed::mesos::Mesos;
use testbed::{install, net, paths};
use testkit::load::failover::Fall;
use testkit::load::{Measured, Module};

/// How often one more agent joins, and an endpoint is asked; the median counts.
const REPEATS: usize = 11;

/// The number of agents that the aims are for.
const AIMED_AT: usize = 10_000;

/// Loads real Mesos masters with agents that are one thread.
#[derive(Debug, Parser)]
struct Options {
    /// Numbers of agents.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    agents: Vec<usize>,
    /// Kill the leader of three masters so many times instead, with ZooKeeper.
    #[arg(long, value_name = "N", default_value_t = 0)]
    falls: usize,
    /// What cargo bench says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    net::available()?;
    install::ensure(install::MESOS)?;
    // Fetched now: there is no network where it is used.
    Mesos::get()?;
    let library = paths::module()?;
    if options.falls > 0 {
        install::ensure(install::ZOOKEEPER)?;
        return options.agents.iter().try_for_each(|agents| {
            let falls =
                net::isolated(|| testkit::load::failover::run(&library, *agents, options.falls));
            print_falls(*agents, &falls.with_context(|| format!("{agents} agents"))?);
            Ok(())
        });
    }
    let mut smaller: Option<(usize, Measured)> = None;
    for agents in options.agents {
        let measure = |module| {
            net::isolated(|| testkit::load::run(module, &library, agents, REPEATS))
                .with_context(|| format!("{agents} agents, {module:?}"))
        };
        let baseline = measure(Module::Baseline)?;
        let real = measure(Module::Real)?;
        print(agents, &real, &baseline, smaller.as_ref());
        smaller = Some((agents, real));
    }
    Ok(())
}

fn print_falls(agents: usize, falls: &[Fall]) {
    println!(
        "\n{agents} agents, three masters, {}",
        load_of_the_machine()
    );
    println!("  {:>22}   from the next leader's election, ms, until", "");
    println!(
        "  {:>22} {:>12} {:>12} {:>12} {:>16}",
        "without a leader, ms", "it serves", "the first", "the last", "all know all"
    );
    let ms = |time: Duration| digits(time.as_secs_f64() * 1e3);
    for fall in falls {
        let Fall {
            without_leader,
            serving,
            first,
            last,
            told,
        } = *fall;
        println!(
            "  {:>22} {:>12} {:>12} {:>12} {:>16}",
            ms(without_leader),
            ms(serving),
            ms(first),
            ms(last),
            ms(told)
        );
    }
    let worst = falls.iter().map(|fall| fall.last).max().unwrap_or_default();
    let met = if worst < Duration::from_secs(1) {
        "met"
    } else {
        "MISSED"
    };
    println!(
        "  the last agent registered after {} ms at worst; aim: 1000 ms: {met}",
        ms(worst)
    );
}

fn print(agents: usize, real: &Measured, baseline: &Measured, smaller: Option<&(usize, Measured)>) {
    println!("\n{agents} agents, {}", load_of_the_machine());
    println!(
        "  {:<44} {:>12} {:>12} {:>8}  aim",
        "", "module", "limit", "ratio"
    );
    if real.without_connection > 0 {
        println!(
            "  ({} agents send over connections of others: too few open files are allowed)",
            real.without_connection
        );
    }
    let count = agents as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e3 / count;
    let rate = |of: &Measured| count / of.registering.as_secs_f64();
    let line =
        |what: &str, unit: &str, real: f64, baseline: Option<f64>, aim: Option<(&str, bool)>| {
            let number = |value: f64| format!("{} {unit}", digits(value));
            let limit = baseline.map_or_else(|| "-".to_owned(), number);
            let ratio = baseline
                .filter(|b| *b > 0.0)
                .map_or_else(|| "-".to_owned(), |b| format!("{:.2}", real / b));
            let aim = aim
                .filter(|_| agents >= AIMED_AT)
                .map_or_else(String::new, |(aim, met)| {
                    format!("{aim}: {}", if met { "met" } else { "MISSED" })
                });
            println!(
                "  {what:<44} {:>12} {limit:>12} {ratio:>8}  {aim}",
                number(real)
            );
        };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let both = |of: fn(&Measured) -> Duration| (ms(of(real)), Some(ms(of(baseline))));

    line(
        "registrations per second",
        "/s",
        rate(real),
        Some(rate(baseline)),
        Some((">= 0.7 x", rate(real) >= 0.7 * rate(baseline))),
    );
    let (a, b) = (each(real.registering_cpu), each(baseline.registering_cpu));
    let growth = smaller.map(|(n, m)| a / (m.registering_cpu.as_secs_f64() * 1e3 / *n as f64));
    line(
        "CPU per registration",
        "ms",
        a,
        Some(b),
        Some(("<= 2 x", a <= 2.0 * b)),
    );
    if let Some(growth) = growth {
        line(
            "  growth from the line above",
            "x",
            growth,
            None,
            Some(("<= 1.5", growth <= 1.5)),
        );
    }
    line(
        "CPU per agent until all know all",
        "ms",
        each(real.cpu),
        Some(each(baseline.cpu)),
        None,
    );
    line(
        "from all registered to all know all",
        "ms",
        ms(real.telling),
        Some(ms(baseline.telling)),
        None,
    );
    line(
        "sent by the master",
        "MB",
        real.sent as f64 / 1e6,
        Some(baseline.sent as f64 / 1e6),
        None,
    );
    if let Some(writes) = real.writes {
        line("writes to the log", "", writes as f64, None, None);
    }
    line(
        "written to disk",
        "MB",
        real.written as f64 / 1e6,
        Some(baseline.written as f64 / 1e6),
        None,
    );
    let (a, b) = (
        real.memory as f64 / 1024.0 / count,
        baseline.memory as f64 / 1024.0 / count,
    );
    line(
        "memory per agent",
        "KB",
        a,
        Some(b),
        Some(("<= 2 KB more", a - b <= 2.0)),
    );
    let (a, b) = both(|m| m.state.0);
    line(
        "/overlay-master/state, median",
        "ms",
        a,
        b,
        Some(("<= 25 ms", a <= 25.0)),
    );
    let (a, b) = both(|m| m.state.1);
    line("/overlay-master/state, worst", "ms", a, b, None);
    let (a, b) = both(|m| m.mesos_idle);
    line("Mesos's /state, idle", "ms", a, b, None);
    let (a, b) = both(|m| m.mesos_busy.0);
    let enough = real.mesos_busy.1.min(baseline.mesos_busy.1) >= 10;
    line(
        "Mesos's /state, meanwhile",
        "ms",
        a,
        b,
        enough.then(|| ("<= 1.05 x", b.is_some_and(|b| a <= 1.05 * b))),
    );
    let (a, b) = both(|m| m.join.0);
    line(
        "one more agent, until registered",
        "ms",
        a,
        b,
        Some(("<= 15 ms", a <= 15.0)),
    );
    let (a, b) = both(|m| m.join.1);
    line(
        "one more agent, until all know",
        "ms",
        a,
        b,
        Some(("<= 1 s", a <= 1000.0)),
    );
    if let Some(leave) = real.leave {
        line(
            "one less agent, until all know",
            "ms",
            ms(leave),
            None,
            None,
        );
    }
    let (a, b) = both(|m| m.again.0);
    line(
        "restart: from election to first agent",
        "ms",
        a,
        b,
        Some(("<= 0.5 s", a <= 500.0)),
    );
    let (a, b) = both(|m| m.again.1);
    line("restart: until all are registered", "ms", a, b, None);
    let (a, b) = both(|m| m.again.2);
    line("restart: until all know all", "ms", a, b, None);
    line(
        "registrations sent twice (none came in 5 s)",
        "",
        real.retries as f64,
        Some(baseline.retries as f64),
        None,
    );
    line(
        "restart: CPU per agent",
        "ms",
        each(real.again_cpu),
        Some(each(baseline.again_cpu)),
        None,
    );
    line(
        "restart: sent by the master",
        "MB",
        real.again_sent as f64 / 1e6,
        Some(baseline.again_sent as f64 / 1e6),
        None,
    );
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn load_of_the_machine() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "load of the machine {}",
        load.split(' ').next().unwrap_or_default()
    )
}
