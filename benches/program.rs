//! Benchmark of the operators' program beside a real master with many agents:
//! `cargo xtask bench program`. docs/dev/performance.md explains the results and their aims.
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::mesos::Mesos;
use testbed::{install, net, paths, wait};
use testkit::load::generator::{Generator, allow_files};
use testkit::load::measure::{get, median};
use testkit::load::round::{network, v4};

/// Repetitions of each command; results are medians.
const REPEATS: usize = 5;

/// Timeout of a step.
const LIMIT: Duration = Duration::from_secs(600);

/// Commands that are measured. None of them changes anything.
const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["agents", "list"],
    &["networks", "list"],
    &["networks", "show", "dcos"],
    &["ipam", "show"],
    &["ipam", "check"],
    &["whois", "9.0.1.7"],
];

/// Measures commands of the operators' program.
#[derive(Debug, Parser)]
struct Options {
    /// Numbers of agents.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    agents: Vec<usize>,
    /// The program, built for release.
    #[arg(long)]
    program: PathBuf,
    /// Flag that cargo bench passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Result of one command.
struct Measured {
    command: String,
    time: Duration,
    /// Highest resident memory, bytes.
    memory: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    net::available()?;
    install::ensure(install::MESOS)?;
    // Fetched now, since the isolated namespaces have no network.
    Mesos::get()?;
    let library = paths::module()?;
    for agents in options.agents {
        net::isolated(|| measure(&library, &options.program, agents))
            .with_context(|| format!("{agents} agents"))?;
    }
    Ok(())
}

/// Starts a master with a number of agents, and measures all commands.
fn measure(library: &Path, program: &Path, agents: usize) -> Result<()> {
    let without_connection = allow_files(agents)?;
    let mut setup = ClusterConfig {
        network: network(),
        ..ClusterConfig::new(0, Placement::Loopback)?
    };
    setup.module = Some(library.to_owned());
    let mut cluster = Cluster::prepare(&setup)?;
    cluster.start_all()?;
    let client = cluster.master.client();
    wait::until("the master to serve", LIMIT, || {
        cluster.check()?;
        Ok((client.get("/overlay-master/state")?.status == 200).then_some(()))
    })?;
    let mut generator = Generator::new(v4(&cluster.master)?, without_connection)?;
    generator.join(agents);
    generator.until("all agents to know all", LIMIT, Generator::all_know_all)?;
    let master = cluster.master.address().to_string();
    // The agents go on while the commands run.
    thread::scope(|scope| {
        let commands = scope.spawn(|| {
            let plain: Result<Vec<(Duration, usize)>> = (0..REPEATS)
                .map(|_| get(&client, "/overlay-master/state"))
                .collect();
            let measured: Result<Vec<Measured>> = COMMANDS
                .iter()
                .map(|command| repeat(program, command, &master))
                .collect();
            Ok((plain?, measured?))
        });
        generator.until("the commands", LIMIT, |_| commands.is_finished())?;
        let (plain, measured) = commands
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("panic")))?;
        print(agents, &plain, &measured);
        Ok(())
    })
}

/// Runs a command repeatedly.
fn repeat(program: &Path, arguments: &[&str], master: &str) -> Result<Measured> {
    let mut times = Vec::new();
    let mut memory = 0;
    for _ in 0..REPEATS {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(["--master", master])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let (time, most) = run(&mut command).with_context(|| arguments.join(" "))?;
        times.push(time);
        memory = memory.max(most);
    }
    Ok(Measured {
        command: arguments.join(" "),
        time: median(times),
        memory,
    })
}

/// Runs a command to its end. Returns the time and its highest resident memory in bytes.
fn run(command: &mut Command) -> Result<(Duration, u64)> {
    let start = Instant::now();
    let child = command.spawn()?;
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both pointers are valid for the call; nobody else waits for the child.
    let pid = unsafe { libc::wait4(child.id().cast_signed(), &mut status, 0, usage.as_mut_ptr()) };
    let time = start.elapsed();
    ensure!(pid > 0, "wait4: {}", io::Error::last_os_error());
    // 1 stands for findings: no agent of the benchmark has a host.
    let code = libc::WEXITSTATUS(status);
    ensure!(libc::WIFEXITED(status) && code < 2, "exit status {code}");
    // SAFETY: zeros are a valid value, and wait4 filled it in.
    let usage = unsafe { usage.assume_init() };
    Ok((time, u64::try_from(usage.ru_maxrss)? * 1024))
}

/// Prints the results; the baseline is the plain request for the state.
fn print(agents: usize, plain: &[(Duration, usize)], measured: &[Measured]) {
    let baseline = median(plain.iter().map(|(time, _)| *time).collect());
    let size = plain.first().map_or(0, |(_, size)| *size);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "\n{agents} agents; GET /overlay-master/state: {:.1} ms, {:.2} MB",
        ms(baseline),
        size as f64 / 1e6
    );
    println!(
        "  {:<20} {:>10} {:>10} {:>10}",
        "command", "ms", "of GET", "MB"
    );
    for Measured {
        command,
        time,
        memory,
    } in measured
    {
        println!(
            "  {command:<20} {:>10.1} {:>10.1} {:>10.1}",
            ms(*time),
            time.as_secs_f64() / baseline.as_secs_f64().max(1e-9),
            *memory as f64 / 1e6
        );
    }
}
