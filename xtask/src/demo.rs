//! `cargo xtask demo`: a cluster on this machine, tasks on the overlay, a killed master, and a
//! deleted VXLAN device.

mod names;
mod part;
mod program;
mod table;
mod tasks;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use packaging::release;
use serde_json::Value;
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::docker::{self, Engine};
use testbed::mesos::Mesos;
use testbed::node::Node;
use testbed::packet_loss::Traffic;
use testbed::{install, paths, wait};

use names::Names;
use part::Part;
use tasks::Tasks;

use crate::build;

/// Timeout of a step.
const LIMIT: Duration = Duration::from_secs(30);

/// Path of the page of the overlays.
const PAGE: &str = "/overlay-master/ui";
/// Name of the VXLAN device.
const DEVICE: &str = "vtep1024";
/// Number of datagrams that must arrive in each direction after the repair.
const AFTERWARDS: u64 = 300;

/// Runs a demonstration cluster on this machine.
///
/// The demo starts a real Mesos master and real Mesos agents with the modules, each on a
/// simulated host (a network namespace with an address on a common underlay). It launches tasks
/// on the network "dcos": one per agent, another one on the first agent, and one in Docker if
/// that is installed. It prints the time of a round trip between each two tasks, and their names
/// with the addresses that one of the containers resolves them to. It kills the master (kill -9),
/// starts it again, and shows that state, names and traffic survived. Then it deletes
/// the VXLAN device of a host and measures the time until traffic continues. At the end it asks
/// the operators' program for the status, and lets it probe the paths to all agents.
///
/// Missing packages are installed (as root, on Debian or Ubuntu), and Apache Mesos 1.11.0 is
/// fetched the first time (27 MB, with a checksum). The machine's own network interfaces are not
/// changed. At the end, and on Ctrl-C, all processes, namespaces and files of the demo are
/// removed.
///
/// The demo needs root, or a user namespace:
///
///     unshare --user --map-root-user --mount cargo xtask demo
///
/// Without either, master and agents run on addresses of 127.0.0.0/8 and do not configure the
/// kernel; the demo says what was not shown. Where Mesos cannot start containers on a network
/// (which needs the cgroup v1 freezer), the demo attaches them with the CNI plugins.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// Number of agents, at most 25. (The ARP entries of more hosts overflow the kernel's table,
    /// which all network namespaces share.)
    #[arg(long, value_name = "N", default_value_t = 3, verbatim_doc_comment)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=25))]
    agents: u8,
    /// Leave the cluster running at the end, and print commands to inspect it.
    #[arg(long)]
    keep: bool,
    /// Remove the clusters that --keep left running, and do nothing else.
    #[arg(long, conflicts_with_all = ["agents", "keep", "part"])]
    down: bool,
    /// Show only a part, as on a machine with fewer rights.
    #[arg(long, value_name = "PART", value_enum)]
    part: Option<Part>,
}

pub fn run(options: &Options) -> Result<()> {
    if options.down {
        return down();
    }
    let part = part::choose(options.part);
    install::ensure(install::MESOS)?;
    if part != Part::Loopback {
        install::ensure(install::HOSTS)?;
    }
    release::build()?;
    // All that would be built later, so that its time is not the demo's.
    build::run(paths::BUILD_PROGRAMS)?;
    Mesos::get()?;
    let mut demo = Demo::start(options, part)?;
    demo.show_network()?;
    let tasks = demo.launch()?;
    demo.show_round_trips(&tasks)?;
    demo.show_names(&tasks)?;
    demo.kill_master(&tasks)?;
    demo.delete_device(&tasks)?;
    demo.ask_program()?;
    demo.finish(options.keep, tasks)
}

fn down() -> Result<()> {
    let runs = testbed::run::remove_kept();
    for run in &runs {
        print(format_args!("removed {run}"));
    }
    if runs.is_empty() {
        print(format_args!("no cluster was left running"));
    }
    Ok(())
}

struct Demo {
    start: Instant,
    part: Part,
    /// Docker engine of the last agent; `None`: Docker cannot run. Dropped before its host.
    engine: Option<Engine>,
    /// Name server; `None`: Mesos launches no containers.
    names: Option<Names>,
    cluster: Cluster,
}

impl Demo {
    fn start(options: &Options, part: Part) -> Result<Demo> {
        let start = Instant::now();
        let place = if part == Part::Loopback {
            Placement::Loopback
        } else {
            Placement::Hosts
        };
        let setup = ClusterConfig {
            module: Some(release::paths().module),
            launcher: part.launcher(),
            ..ClusterConfig::new(options.agents.into(), place)?
        };
        let mut cluster = Cluster::prepare(&setup)?;
        let engine = engine(&cluster)?;
        names::configure(&mut cluster);
        cluster.start_all()?;
        let names = match part {
            Part::Whole => Some(Names::start(&cluster)?),
            Part::Attached | Part::Loopback => None,
        };
        let mut demo = Demo {
            start,
            part,
            engine,
            names,
            cluster,
        };
        demo.say(format!(
            "starting a master on {} and {}",
            demo.cluster.master.address(),
            count(options.agents.into(), "agent")
        ));
        demo.cluster.wait_mesos(LIMIT)?;
        demo.say("all agents are registered with Mesos");
        if let Some(engine) = &mut demo.engine {
            engine.start()?;
            demo.say("the last one has a Docker engine");
        }
        demo.cluster.wait_overlays(LIMIT)?;
        Ok(demo)
    }

    fn say(&self, what: impl AsRef<str>) {
        print(format_args!(
            "{:7.2} s  {}",
            self.start.elapsed().as_secs_f64(),
            what.as_ref()
        ));
    }

    /// Prints the subnets of the agents.
    fn show_network(&self) -> Result<()> {
        self.say(match self.part {
            Part::Loopback => "every agent has its subnet of the overlay:",
            Part::Whole | Part::Attached => {
                "every agent has its subnet of the overlay, and its host is configured:"
            }
        });
        for agent in &self.cluster.agents {
            let overlay = overlay(agent)?;
            let vxlan = &overlay["backend"]["vxlan"];
            print(format_args!(
                "           {} on {}: containers {}, VTEP {} {}",
                agent.name(),
                agent.ip(),
                text(&overlay["subnet"]),
                text(&vxlan["vtep_ip"]),
                text(&vxlan["vtep_mac"]),
            ));
        }
        let page = self.cluster.master.client().get(PAGE)?;
        ensure!(
            page.status == 200,
            "{PAGE} is answered with {}",
            page.status
        );
        let master = self.cluster.master.address();
        self.say(format!("the page of the overlays: http://{master}{PAGE}"));
        Ok(())
    }

    fn launch(&self) -> Result<Tasks> {
        let tasks = Tasks::launch(self.part, &self.cluster, self.engine.as_ref(), LIMIT)?;
        self.say(format!("{} are running", count(tasks.list().len(), "task")));
        Ok(tasks)
    }

    fn show_round_trips(&self, tasks: &Tasks) -> Result<()> {
        let reach = table::measure(tasks.list())?;
        print(format_args!("\n{}", table::render(tasks.list(), &reach)));
        Ok(())
    }

    /// Asks for the names of the tasks in a container, and prints them.
    fn show_names(&self, tasks: &Tasks) -> Result<()> {
        let (Some(names), tasks) = (&self.names, tasks.with_names()) else {
            return Ok(());
        };
        let table = names.ask(&tasks, LIMIT)?;
        self.say(format!(
            "names, as the container of {} resolves them:\n{table}",
            tasks[0].name
        ));
        Ok(())
    }

    /// Kills and restarts the master, and compares its state.
    fn kill_master(&mut self, tasks: &Tasks) -> Result<()> {
        let before = self.wait_state(all_ok)?;
        tasks.watch()?;
        self.cluster.master.kill()?;
        self.say("kill -9 of the master; while it is dead:");
        let reach = table::measure(tasks.list())?;
        self.say(format!(
            "  all {} connections between tasks work",
            reach.len()
        ));
        if let Some(names) = &self.names {
            names.ask(&tasks.with_names(), LIMIT)?;
            self.say("  all names are answered");
        }
        self.cluster.master.start()?;
        let after = self.wait_state(|state| *state == before)?;
        let agents = after["agents"].as_array().map_or(0, Vec::len);
        let agents = count(agents, "agent");
        self.say(format!(
            "the master is back: {agents}, same subnets, same VTEPs, all registered again"
        ));
        self.cluster.wait_mesos(LIMIT)?;
        self.say("all agents are registered with Mesos again");
        table::measure(tasks.list())?;
        let seen = tasks.report()?;
        let round_trips: u64 = seen.iter().map(|seen| seen.round_trips).sum();
        let failures: u64 = seen.iter().map(|seen| seen.failures).sum();
        let gap = seen
            .iter()
            .map(|seen| seen.longest_gap)
            .max()
            .unwrap_or_default();
        self.say(format!(
            "meanwhile the tasks made {round_trips} round trips; {failures} failed, longest pause {} ms",
            gap.as_millis()
        ));
        ensure!(failures == 0, "traffic did not survive the master's death");
        Ok(())
    }

    /// Deletes the VXLAN device of the first agent's host, which deletes its addresses, neighbours,
    /// FDB entries and routes too, and measures the time without traffic.
    fn delete_device(&self, tasks: &Tasks) -> Result<()> {
        let Some(host) = self.cluster.agents[0].host() else {
            return Ok(());
        };
        let Some([one, other]) = tasks.on_two_hosts() else {
            return Ok(());
        };
        let traffic = Traffic::start(&[one.client.clone(), other.client.clone()], LIMIT)?;
        host.run("ip", &["link", "delete", DEVICE])?;
        let deleted = Instant::now();
        self.say(format!(
            "ip link delete {DEVICE} on the host of {}: addresses, neighbours, FDB, routes are gone",
            self.cluster.agents[0].name()
        ));
        wait::until("the device to be back", LIMIT, || {
            Ok(host
                .run("ip", &["link", "show", DEVICE])
                .is_ok()
                .then_some(()))
        })?;
        let back = deleted.elapsed();
        traffic.flow(AFTERWARDS, LIMIT)?;
        let streams = traffic.finish()?;
        let gap = streams
            .iter()
            .map(|stream| stream.longest_gap)
            .max()
            .unwrap_or_default();
        let (lost, sent) = streams.iter().fold((0, 0), |(lost, sent), stream| {
            (lost + stream.lost, sent + stream.sent)
        });
        self.say(format!(
            "the module restored it: device after {} ms, traffic between {} and {} after {} ms \
             ({lost} of {sent} datagrams lost)",
            back.as_millis(),
            one.name,
            other.name,
            gap.as_millis()
        ));
        table::measure(tasks.list())?;
        self.say("  all connections between tasks work again");
        Ok(())
    }

    /// Prints what the operators' program says about the cluster. The demo fails if that finds
    /// something.
    fn ask_program(&self) -> Result<()> {
        for program::Shown { command, output } in program::run(self.part, &self.cluster)? {
            self.say(format!(
                "{command} on {}:\n\n{output}",
                self.cluster.agents[0].name()
            ));
        }
        Ok(())
    }

    /// Waits until the master's state, without ages, satisfies a condition, and returns it.
    fn wait_state(&mut self, is: impl Fn(&Value) -> bool) -> Result<Value> {
        wait::until("the expected state of the master", LIMIT, || {
            self.cluster.check()?;
            let state = self.cluster.master.overlay_state()?;
            ensure!(is(&state), "it is {state}");
            Ok(Some(state))
        })
    }

    fn finish(self, keep: bool, tasks: Tasks) -> Result<()> {
        if let Some(missing) = self.part.not_shown() {
            print(format_args!("\nNot shown: {missing}"));
        }
        if !keep {
            drop(tasks);
            let start = self.start;
            drop(self);
            print(format_args!(
                "{:7.2} s  everything is removed",
                start.elapsed().as_secs_f64()
            ));
            return Ok(());
        }
        print(format_args!("\n{}", self.instructions()?));
        tasks.leave();
        if let Some(names) = self.names {
            names.leave();
        }
        if let Some(engine) = self.engine {
            engine.leave();
        }
        self.cluster.keep()?;
        Ok(())
    }

    /// Returns commands to inspect the cluster.
    fn instructions(&self) -> Result<String> {
        let Cluster { master, agents, .. } = &self.cluster;
        let agent = agents.first().context("a cluster without agents")?;
        let at = |node: &Node| match node.host() {
            Some(host) => format!("ip netns exec {} ", host.name()),
            None => String::new(),
        };
        let (m, a) = (at(master), at(agent));
        let mut lines = vec![
            "The cluster is running. To inspect it:".to_owned(),
            format!("  {m}curl http://{}/overlay-master/state", master.address()),
            format!("  {a}curl http://{}/overlay-agent/overlay", agent.address()),
        ];
        if self.names.is_some() {
            let name = names::of("task1");
            lines.push(format!("  {a}busybox nslookup {name} {}", master.ip()));
        }
        if agent.host().is_some() {
            lines.push(format!("  {a}ip route"));
            lines.push(format!("  {a}bridge fdb show dev vtep1024"));
        }
        lines.push(format!("  cat {}", self.configuration(agent).display()));
        lines.push(format!(
            "  tail {} {}",
            master.log_file().display(),
            agent.log_file().display()
        ));
        let place = match master.host() {
            Some(host) => format!(" in the network namespace {}", host.name()),
            None => String::new(),
        };
        let page = format!("http://{}{PAGE}", master.address());
        lines.push(format!(
            "The page of the overlays, for a browser{place}: {page}"
        ));
        lines.push("To remove it: cargo xtask demo --down".to_owned());
        Ok(lines.join("\n"))
    }

    fn configuration(&self, agent: &Node) -> PathBuf {
        let dir = agent.dir().join("cni");
        let first = fs::read_dir(&dir)
            .ok()
            .and_then(|mut entries| entries.next()?.ok());
        first.map_or(dir, |entry| entry.path())
    }
}

/// Prints a line. A closed pipe is ignored, so that the demo continues and cleans up.
fn print(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}

/// Starts a Docker engine for the last agent, without waiting for it, and configures the agent's
/// module for it. `None`: Docker cannot run.
fn engine(cluster: &Cluster) -> Result<Option<Engine>> {
    let Some(agent) = cluster.agents.last() else {
        return Ok(None);
    };
    let Some(host) = agent.host() else {
        return Ok(None);
    };
    if let Err(error) = docker::available() {
        eprintln!("cannot run Docker: {error:#}");
        return Ok(None);
    }
    let mut engine = Engine::new(cluster.run(), "engine", host.netns())?;
    agent.configure(|config| {
        config["docker_socket"] = engine.socket().display().to_string().into();
        config["network_config"]["docker_bridge"] = true.into();
    })?;
    engine.spawn()?;
    Ok(Some(engine))
}

/// Returns the first overlay of an agent.
fn overlay(agent: &Node) -> Result<Value> {
    let state = agent.client().get("/overlay-agent/overlay")?.json()?;
    state["overlays"]
        .get(0)
        .cloned()
        .with_context(|| format!("{} has no overlay", agent.name()))
}

fn all_ok(state: &Value) -> bool {
    let agents = state["agents"].as_array().map_or(&[][..], Vec::as_slice);
    let overlays = agents
        .iter()
        .flat_map(|agent| agent["overlays"].as_array().into_iter().flatten());
    !agents.is_empty()
        && overlays
            .into_iter()
            .all(|overlay| overlay["state"]["status"] == "STATUS_OK")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("none")
}

/// Returns the CNI configuration in a directory.
fn cni_config(dir: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    let first = files
        .next()
        .with_context(|| format!("no CNI configuration in {}", dir.display()))??;
    Ok(first.path())
}
