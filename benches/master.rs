//! Benchmark of a master with many agents, beside a module that only answers:
//! `cargo xtask bench master`. docs/dev/performance.md explains the results and their aims.
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use testbed::mesos::Mesos;
use testbed::{install, net, paths};
use testkit::load::failover::Failover;
use testkit::load::{Measured, Module};

/// Repetitions of one more agent and of requests; results are medians.
const REPEATS: usize = 11;

/// Number of agents to which the aims apply.
const AIMED_AT: usize = 10_000;

/// Measures real Mesos masters with simulated agents.
#[derive(Debug, Parser)]
struct Options {
    /// Numbers of agents.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    agents: Vec<usize>,
    /// Measure this many failovers of three masters with ZooKeeper instead.
    #[arg(long, value_name = "N", default_value_t = 0)]
    falls: usize,
    /// Authenticate all messages with a key.
    #[arg(long)]
    key: bool,
    /// Flag that cargo bench passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    net::available()?;
    install::ensure(install::MESOS)?;
    // Fetched now, since the isolated namespaces have no network.
    Mesos::get()?;
    let library = paths::module()?;
    if options.falls > 0 {
        install::ensure(install::ZOOKEEPER)?;
        return options.agents.iter().try_for_each(|agents| {
            let failovers =
                net::isolated(|| testkit::load::failover::run(&library, *agents, options.falls));
            print_failovers(
                *agents,
                &failovers.with_context(|| format!("{agents} agents"))?,
            );
            Ok(())
        });
    }
    let mut smaller: Option<(usize, Measured)> = None;
    for agents in options.agents {
        let measure = |module| {
            net::isolated(|| testkit::load::run(module, &library, agents, REPEATS, options.key))
                .with_context(|| format!("{agents} agents, {module:?}"))
        };
        let baseline = measure(Module::Baseline)?;
        let real = measure(Module::Real)?;
        print(agents, &real, &baseline, smaller.as_ref());
        smaller = Some((agents, real));
    }
    Ok(())
}

/// Prints the times of failovers.
fn print_failovers(agents: usize, failovers: &[Failover]) {
    println!("\n{agents} agents, three masters, {}", machine_load());
    println!("  {:>22}   from the next leader's election, ms, until", "");
    println!(
        "  {:>22} {:>12} {:>12} {:>12} {:>16}",
        "without a leader, ms", "it serves", "the first", "the last", "all know all"
    );
    let ms = |time: Duration| digits(time.as_secs_f64() * 1e3);
    for failover in failovers {
        let Failover {
            without_leader,
            serving,
            first,
            last,
            peers_known,
        } = *failover;
        println!(
            "  {:>22} {:>12} {:>12} {:>12} {:>16}",
            ms(without_leader),
            ms(serving),
            ms(first),
            ms(last),
            ms(peers_known)
        );
    }
    let worst = failovers
        .iter()
        .map(|failover| failover.last)
        .max()
        .unwrap_or_default();
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

/// Prints the results of the module beside those of the baseline.
fn print(agents: usize, real: &Measured, baseline: &Measured, smaller: Option<&(usize, Measured)>) {
    println!("\n{agents} agents, {}", machine_load());
    println!(
        "  {:<44} {:>12} {:>12} {:>8}  aim",
        "", "module", "limit", "ratio"
    );
    if real.without_connection > 0 {
        println!(
            "  ({} agents share connections: the limit of open files is too low)",
            real.without_connection
        );
    }
    let table = Table {
        agents,
        real,
        baseline,
    };
    table.registration(smaller);
    table.resources();
    table.endpoints();
    table.changes();
    table.restart();
}

/// Printer of the results of one number of agents.
struct Table<'a> {
    agents: usize,
    real: &'a Measured,
    baseline: &'a Measured,
}

/// Aim of a value, and whether it is met.
type Aim = Option<(&'static str, bool)>;

impl Table<'_> {
    fn line(&self, name: &str, unit: &str, real: f64, baseline: Option<f64>, aim: Aim) {
        let number = |value: f64| format!("{} {unit}", digits(value));
        let limit = baseline.map_or_else(|| "-".to_owned(), number);
        let ratio = baseline
            .filter(|b| *b > 0.0)
            .map_or_else(|| "-".to_owned(), |b| format!("{:.2}", real / b));
        let aim = aim
            .filter(|_| self.agents >= AIMED_AT)
            .map_or_else(String::new, |(aim, met)| {
                format!("{aim}: {}", if met { "met" } else { "MISSED" })
            });
        println!(
            "  {name:<44} {:>12} {limit:>12} {ratio:>8}  {aim}",
            number(real)
        );
    }

    /// Prints a time in milliseconds. `aim` gets the values of module and baseline.
    fn time(&self, name: &str, of: fn(&Measured) -> Duration, aim: impl Fn(f64, f64) -> Aim) {
        let (real, baseline) = (millis(of(self.real)), millis(of(self.baseline)));
        self.line(name, "ms", real, Some(baseline), aim(real, baseline));
    }

    /// Prints a number of bytes in megabytes.
    fn megabytes(&self, name: &str, of: fn(&Measured) -> u64) {
        let [real, baseline] = [self.real, self.baseline].map(|m| of(m) as f64 / 1e6);
        self.line(name, "MB", real, Some(baseline), None);
    }

    /// Prints a CPU time, divided by the number of agents, in milliseconds.
    fn cpu_per_agent(
        &self,
        name: &str,
        of: fn(&Measured) -> Duration,
        aim: impl Fn(f64, f64) -> Aim,
    ) {
        let [real, baseline] =
            [self.real, self.baseline].map(|m| millis(of(m)) / self.agents as f64);
        self.line(name, "ms", real, Some(baseline), aim(real, baseline));
    }

    fn registration(&self, smaller: Option<&(usize, Measured)>) {
        let rate = |of: &Measured| self.agents as f64 / of.registering.as_secs_f64();
        let (real, baseline) = (rate(self.real), rate(self.baseline));
        let aim = Some((">= 0.7 x", real >= 0.7 * baseline));
        self.line("registrations per second", "/s", real, Some(baseline), aim);
        self.cpu_per_agent(
            "CPU per registration",
            |m| m.registering_cpu,
            |a, b| Some(("<= 2 x", a <= 2.0 * b)),
        );
        if let Some((agents, measured)) = smaller {
            let each = |m: &Measured, agents: usize| millis(m.registering_cpu) / agents as f64;
            let growth = each(self.real, self.agents) / each(measured, *agents);
            let aim = Some(("<= 1.5", growth <= 1.5));
            self.line("  growth from fewer agents", "x", growth, None, aim);
        }
        self.cpu_per_agent("CPU per agent until all know all", |m| m.cpu, |_, _| None);
        self.time(
            "from all registered to all know all",
            |m| m.telling,
            |_, _| None,
        );
    }

    fn resources(&self) {
        self.megabytes("sent by the master", |m| m.sent);
        if let Some(writes) = self.real.writes {
            self.line("writes to the log", "", writes as f64, None, None);
        }
        self.megabytes("written to disk", |m| m.written);
        let [real, baseline] =
            [self.real, self.baseline].map(|m| m.memory as f64 / 1024.0 / self.agents as f64);
        let aim = Some(("<= 2 KB more", real - baseline <= 2.0));
        self.line("memory per agent", "KB", real, Some(baseline), aim);
    }

    fn endpoints(&self) {
        self.time(
            "/overlay-master/state, median",
            |m| m.state.0,
            |a, _| Some(("<= 25 ms", a <= 25.0)),
        );
        self.time("/overlay-master/state, worst", |m| m.state.1, |_, _| None);
        self.time("Mesos's /state, idle", |m| m.mesos_idle, |_, _| None);
        let enough = self.real.mesos_busy.1.min(self.baseline.mesos_busy.1) >= 10;
        self.time(
            "Mesos's /state, meanwhile",
            |m| m.mesos_busy.0,
            |a, b| enough.then_some(("<= 1.05 x", a <= 1.05 * b)),
        );
    }

    fn changes(&self) {
        self.time(
            "one more agent, until registered",
            |m| m.join.0,
            |a, _| Some(("<= 15 ms", a <= 15.0)),
        );
        self.time(
            "one more agent, until all know",
            |m| m.join.1,
            |a, _| Some(("<= 1 s", a <= 1000.0)),
        );
        if let Some(leave) = self.real.leave {
            let name = "one less agent, until all know";
            self.line(name, "ms", millis(leave), None, None);
        }
    }

    fn restart(&self) {
        self.time(
            "restart: from election to first agent",
            |m| m.again.0,
            |a, _| Some(("<= 0.5 s", a <= 500.0)),
        );
        self.time(
            "restart: until all are registered",
            |m| m.again.1,
            |_, _| None,
        );
        self.time("restart: until all know all", |m| m.again.2, |_, _| None);
        let [real, baseline] = [self.real, self.baseline].map(|m| m.retries as f64);
        let name = "registrations repeated after 5 s";
        self.line(name, "", real, Some(baseline), None);
        self.cpu_per_agent("restart: CPU per agent", |m| m.again_cpu, |_, _| None);
        self.megabytes("restart: sent by the master", |m| m.again_sent);
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Formats a number with three significant digits.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn machine_load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "load of the machine {}",
        load.split(' ').next().unwrap_or_default()
    )
}
