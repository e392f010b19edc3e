//! Measurement of one master: agents register, join, leave, and return after a restart.

use std::fs;
use std::fs::Permissions;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use overlay_core::proto::internal::{Peer, PeerSubnet, PeersVersion, UpdateAgentOverlaysMessage};
use overlay_core::proto::{AgentOverlayInfo, BackendInfo, BridgeInfo, OverlayInfo, VxLanInfo};
use overlay_core::protocol::peer_list_codec::{PEERS, pack};
use overlay_core::protocol::session::keys::Keys;
use prost::Message as _;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::http::Client;
use testbed::mesos::Mesos;
use testbed::node::Node;
use testbed::wait;

use super::generator::{Generator, address, allow_files};
use super::measure::{Probe, Usage, get, median, usage};

/// Timeout of a step.
pub(super) const LIMIT: Duration = Duration::from_secs(180);
/// Pause between two requests of Mesos's own state.
const PROBE_PAUSE: Duration = Duration::from_millis(5);
/// CPU time within [`QUIET_FOR`] below which a master counts as idle.
const QUIET: Duration = Duration::from_millis(10);
/// Interval of the check for an idle master.
const QUIET_FOR: Duration = Duration::from_millis(250);

/// Log line of a master that is elected.
pub(super) const ELECTED: &str = "Elected as the leading master";

/// Key of masters and agents that authenticate their messages.
const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Module in the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// The module of this project.
    Real,
    /// The baseline, which only answers.
    Baseline,
}

/// Results of a measurement.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Number of agents that share a connection, because of the limit of open files.
    pub without_connection: usize,
    /// Number of repeated registrations.
    pub retries: usize,
    /// Time from the first connection until the last agent is registered.
    pub registering: Duration,
    /// CPU time of the master while agents register.
    pub registering_cpu: Duration,
    /// Time from the last registration until every agent has the complete list of peers.
    pub telling: Duration,
    /// CPU time of the master from the first connection until it is idle.
    pub cpu: Duration,
    /// Writes of the log until the master is idle; `None`: the module does not count them.
    pub writes: Option<u64>,
    /// Bytes written to disk until the master is idle.
    pub written: u64,
    /// Bytes sent to agents until the master is idle.
    pub sent: u64,
    /// Growth of the memory until the master is idle, bytes.
    pub memory: u64,
    /// `/overlay-master/state`: median and longest time, and length in bytes.
    pub state: (Duration, Duration, usize),
    /// Mesos's own `/state`: median time while the master is idle.
    pub mesos_idle: Duration,
    /// Mesos's own `/state` while agents register and get the list of peers: median time, and
    /// number of requests.
    pub mesos_busy: (Duration, usize),
    /// Times after an agent is added, until it is registered and until every agent knows it.
    pub join: (Duration, Duration),
    /// A deleted agent: time until every agent knows; `None` for the baseline.
    pub leave: Option<Duration>,
    /// Times after a restart, from the election, until the first agent is answered, all agents are
    /// registered, and all have the complete list of peers.
    pub again: (Duration, Duration, Duration),
    /// CPU time of the restarted master.
    pub again_cpu: Duration,
    /// Bytes that the restarted master sent.
    pub again_sent: u64,
}

/// Measures a master with a number of agents. One more agent joins `repeats` times, and medians are
/// of that many values. With `key` all messages are authenticated. Must be called in an isolated
/// network namespace.
pub fn run(
    module: Module,
    library: &Path,
    agents: usize,
    repeats: usize,
    key: bool,
) -> Result<Measured> {
    let without_connection = allow_files(agents + repeats)?;
    let mut round = Round::new(module, library, agents, without_connection, key)?;
    round.repeats = repeats;
    round.measured.without_connection = without_connection;
    round.idle()?;
    round.register()?;
    round.ask()?;
    round.join()?;
    round.leave()?;
    round.restart()?;
    round.measured.retries = round.generator.retries();
    Ok(round.measured)
}

struct Round {
    module: Module,
    agents: usize,
    repeats: usize,
    cluster: Cluster,
    generator: Generator,
    measured: Measured,
}

impl Round {
    fn new(
        module: Module,
        library: &Path,
        agents: usize,
        without_connection: usize,
        key: bool,
    ) -> Result<Round> {
        let mut setup = ClusterConfig {
            network: network(),
            ..ClusterConfig::new(0, Placement::Loopback)?
        };
        setup.module = Some(match module {
            Module::Real => library.to_owned(),
            Module::Baseline => Mesos::get()?.baseline(),
        });
        let mut cluster = Cluster::prepare(&setup)?;
        let canned = cluster.run().dir().join("canned");
        Canned::typical(agents).write(&canned)?;
        cluster.master.set("BASELINE_DIR", canned.display());
        // Times in the log are compared with those of this process.
        cluster.master.set("TZ", "UTC");
        if key {
            let directory = cluster.run().dir().to_owned();
            set_key(&directory, &cluster.master)?;
        }
        cluster.start_all()?;
        let mut generator = Generator::new(v4(&cluster.master)?, without_connection)?;
        if key {
            generator.set_keys(Keys::read(KEY).map_err(anyhow::Error::msg)?);
        }
        let measured = Measured::default();
        let mut round = Round {
            module,
            agents,
            repeats: 1,
            cluster,
            generator,
            measured,
        };
        round.wait_serving()?;
        Ok(round)
    }

    fn client(&self) -> Client {
        self.cluster.master.client()
    }

    fn usage(&self) -> Result<Usage> {
        usage(
            self.cluster
                .master
                .pid()
                .context("the master is not running")?,
        )
    }

    fn wait_serving(&mut self) -> Result<()> {
        let client = self.client();
        wait::until("the master to serve", LIMIT, || {
            self.cluster.check()?;
            Ok((client.get("/overlay-master/state")?.status == 200).then_some(()))
        })
    }

    /// Waits until the master is idle, while agents continue.
    fn quiet(&mut self) -> Result<Usage> {
        let start = Instant::now();
        let mut before = self.usage()?;
        loop {
            let end = Instant::now() + QUIET_FOR;
            self.generator
                .until("nothing", LIMIT, |_| Instant::now() >= end)?;
            let now = self.usage()?;
            if now.cpu - before.cpu < QUIET {
                return Ok(now);
            }
            ensure!(start.elapsed() < LIMIT, "the master does not become idle");
            before = now;
        }
    }

    fn idle(&mut self) -> Result<()> {
        self.quiet()?;
        let client = self.client();
        let times = (0..2 * self.repeats)
            .map(|_| Ok(get(&client, "/state")?.0))
            .collect::<Result<_>>()?;
        self.measured.mesos_idle = median(times);
        Ok(())
    }

    fn register(&mut self) -> Result<()> {
        let before = self.quiet()?;
        let probe = Probe::start(self.client(), "/state", PROBE_PAUSE);
        let start = Instant::now();
        self.generator.join(self.agents);
        self.measured.registering =
            self.generator
                .until("all agents to register", LIMIT, Generator::all_registered)?;
        self.measured.registering_cpu = self.usage()?.cpu - before.cpu;
        self.measured.telling = self.wait_peers_known()?;
        let end = Instant::now();
        let samples = probe.stop()?;
        let busy: Vec<_> = samples
            .iter()
            .filter(|(at, _)| (start..end).contains(at))
            .map(|(_, time)| *time)
            .collect();
        self.measured.mesos_busy = (median(busy.clone()), busy.len());
        let after = self.quiet()?;
        self.measured.cpu = after.cpu - before.cpu;
        self.measured.memory = after.memory.saturating_sub(before.memory);
        self.measured.written = after.written - before.written;
        self.measured.sent = self.generator.received();
        self.measured.writes = self.writes()?;
        Ok(())
    }

    /// Waits until every agent has the complete list of peers, and returns the time. Lists of the
    /// baseline are numbered by their length.
    fn wait_peers_known(&mut self) -> Result<Duration> {
        let count = self.generator.agents().len() as u64;
        match self.module {
            Module::Real => self.generator.until(
                "all agents to have the list of peers",
                LIMIT,
                Generator::all_know_all,
            ),
            Module::Baseline => {
                let all = PeersVersion {
                    epoch: Some(1),
                    version: Some(count),
                    ..Default::default()
                };
                self.generator
                    .until("all agents to get the list of peers", LIMIT, |generator| {
                        generator.all_have(all)
                    })
            }
        }
    }

    fn writes(&mut self) -> Result<Option<u64>> {
        // Mesos's metrics may be a second old.
        let end = Instant::now() + Duration::from_millis(1200);
        self.generator
            .until("the metrics", LIMIT, |_| Instant::now() >= end)?;
        let metrics = self.client().get("/metrics/snapshot")?.json()?;
        // Mesos prints all numbers as floating point.
        Ok(metrics["overlay/master/log/writes"]
            .as_f64()
            .map(|writes| writes as u64))
    }

    fn ask(&mut self) -> Result<()> {
        let client = self.client();
        let asked = (0..2 * self.repeats).map(|_| get(&client, "/overlay-master/state"));
        let asked = asked.collect::<Result<Vec<_>>>()?;
        let times: Vec<_> = asked.iter().map(|(time, _)| *time).collect();
        let worst = times.iter().max().copied().unwrap_or_default();
        self.measured.state = (
            median(times),
            worst,
            asked.first().map_or(0, |(_, length)| *length),
        );
        Ok(())
    }

    fn join(&mut self) -> Result<()> {
        let (mut registered, mut known) = (Vec::new(), Vec::new());
        for _ in 0..self.repeats {
            self.quiet()?;
            self.generator.join(1);
            let first = self.generator.until(
                "one more agent to register",
                LIMIT,
                Generator::all_registered,
            )?;
            registered.push(first);
            known.push(first + self.wait_peers_known()?);
        }
        self.measured.join = (median(registered), median(known));
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        if self.module == Module::Baseline {
            return Ok(());
        }
        self.generator.leave(0);
        self.quiet()?;
        let start = Instant::now();
        let body = json!({ "agents": [address(0).ip().to_string()] });
        let reply = self.client().post("/overlay-master/agents/delete", &body)?;
        ensure!(
            reply.status == 200,
            "deleting an agent: {} {}",
            reply.status,
            reply.text()
        );
        self.generator
            .until("all agents to learn of the departure", LIMIT, |generator| {
                generator.all_know_left(0)
            })?;
        self.measured.leave = Some(start.elapsed());
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.cluster.master.kill()?;
        self.generator
            .until("the connections to break", LIMIT, |generator| {
                generator.connections() == 0
            })?;
        let sent = self.generator.received();
        // Agents keep their list of peers, so the baseline must not send it again.
        for file in ["canned/peer", "canned/packed"] {
            fs::write(self.cluster.run().dir().join(file), "")?;
        }
        self.cluster.master.start()?;
        // ZooKeeper would notify all agents at once.
        self.cluster.master.wait_log(ELECTED, LIMIT)?;
        self.generator.join_again();
        self.generator.until(
            "all agents to register again",
            LIMIT,
            Generator::all_registered,
        )?;
        let (registered, registered_at) = (Instant::now(), SystemTime::now());
        self.wait_peers_known()?;
        let told = Instant::now();
        let after = self.quiet()?;
        let elected = logged_at(&self.cluster.master.log(), ELECTED)
            .context("the master's log has no time")?;
        let all = registered_at.duration_since(elected).unwrap_or_default();
        let first = self
            .generator
            .first_answer()
            .context("no agent was answered")?;
        let since = |at: Instant| (all + (at - registered)).saturating_sub(registered - at);
        self.measured.again = (since(first), all, since(told));
        self.measured.again_cpu = after.cpu;
        self.measured.again_sent = self.generator.received() - sent;
        Ok(())
    }
}

/// Returns the time of the first log line with a text, such as `I1120 19:14:05.123456 … Elected as
/// the leading master!`, in UTC.
pub(super) fn logged_at(log: &str, text: &str) -> Option<SystemTime> {
    let line = log.lines().find(|line| line.contains(text))?;
    let time = line.split_whitespace().nth(1)?;
    let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let of_day = Duration::from_secs_f64(hours * 3600.0 + minutes * 60.0 + seconds);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .ok()?;
    let day = Duration::from_secs(24 * 60 * 60);
    let midnight = Duration::from_secs(now.as_secs() / day.as_secs() * day.as_secs());
    let at = midnight + of_day;
    // The line may have been logged before midnight.
    Some(SystemTime::UNIX_EPOCH + if at > now { at - day } else { at })
}

/// Returns the address of a master, which must be IPv4.
pub fn v4(master: &Node) -> Result<SocketAddrV4> {
    match master.address() {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => bail!("a master with IPv6"),
    }
}

/// Returns DC/OS's network, enlarged for 65,534 agents.
pub fn network() -> Value {
    json!({
        "vtep_subnet": "44.128.0.0/16",
        "vtep_mac_oui": "70:B3:D5:00:00:00",
        "overlays": [{ "name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24 }],
    })
}

/// Messages of the baseline, as long as those of the real module with [`network`].
struct Canned {
    answer: Vec<u8>,
    peer: Vec<u8>,
    packed: Vec<u8>,
}

impl Canned {
    fn typical(agents: usize) -> Canned {
        let bridge = |kind: char, half: u8| BridgeInfo {
            name: format!("{kind}-dcos"),
            ip: Some(format!("9.10.100.{half}/25")),
            ip6: None,
        };
        let vxlan = VxLanInfo {
            vni: 1024,
            vtep_name: "vtep1024".into(),
            vtep_ip: "44.128.10.100/16".into(),
            vtep_mac: "70:b3:d5:80:0a:64".into(),
            ..Default::default()
        };
        let overlay = AgentOverlayInfo {
            info: OverlayInfo {
                name: "dcos".into(),
                subnet: Some("9.0.0.0/8".into()),
                prefix: Some(24),
                ..Default::default()
            },
            subnet: Some("9.10.100.0/24".into()),
            mesos_bridge: Some(bridge('m', 0)),
            docker_bridge: Some(bridge('d', 128)),
            backend: BackendInfo { vxlan: Some(vxlan) },
            ..Default::default()
        };
        let answer = UpdateAgentOverlaysMessage {
            overlays: vec![overlay],
            ..Default::default()
        };
        let peer = |number: usize| {
            let (a, b) = (number >> 8 & 255, number & 255);
            let peer = Peer {
                ip: format!("127.240.{a}.{b}"),
                vni: 1024,
                vtep_ip: format!("44.128.{a}.{b}"),
                vtep_mac: format!("70:b3:d5:80:{a:02x}:{b:02x}"),
                subnets: vec![PeerSubnet {
                    overlay: "dcos".into(),
                    subnet: Some(format!("9.{a}.{b}.0/24")),
                    subnet6: None,
                }],
                ..Default::default()
            };
            let mut encoded = Vec::new();
            prost::encoding::message::encode(PEERS, &peer, &mut encoded);
            encoded
        };
        let peers: Vec<_> = (0..agents).map(peer).collect();
        let packed = pack(peers.iter().map(Vec::as_slice)).to_vec();
        Canned {
            answer: answer.encode_to_vec(),
            peer: peer(10 << 8 | 100),
            packed,
        }
    }

    fn write(&self, dir: &PathBuf) -> Result<()> {
        fs::create_dir(dir).with_context(|| format!("making {}", dir.display()))?;
        fs::write(dir.join("answer"), &self.answer)?;
        fs::write(dir.join("peer"), &self.peer)?;
        fs::write(dir.join("packed"), &self.packed)?;
        fs::write(dir.join("agent"), AGENT_JSON)?;
        Ok(())
    }
}

/// Agent in the JSON of the state.
const AGENT_JSON: &str = concat!(
    r#"{"connected":true,"ip":"127.240.10.100","overlays":[{"backend":{"vxlan":{"vni":1024,"#,
    r#""vtep_ip":"44.128.10.100/16","vtep_mac":"70:b3:d5:80:0a:64","vtep_name":"vtep1024"}},"#,
    r#""docker_bridge":{"ip":"9.10.100.128/25","name":"d-dcos"},"info":{"enabled":true,"name":"dcos","#,
    r#""prefix":24,"subnet":"9.0.0.0/8"},"mesos_bridge":{"ip":"9.10.100.0/25","name":"m-dcos"},"#,
    r#""state":{"status":"STATUS_OK"},"subnet":"9.10.100.0/24"}],"since_seconds":10}"#,
);

/// Gives a master the key, for its next start.
fn set_key(directory: &Path, master: &Node) -> Result<()> {
    let path = directory.join("key");
    fs::write(&path, KEY)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let file = master.dir().join("master.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file)?)?;
    config["auth_key_file"] = json!(path);
    Ok(fs::write(&file, config.to_string())?)
}
