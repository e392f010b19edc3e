//! Runs a transcript: turns its lines into inputs of an agent, and the effects into lines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::IpNet;
use overlay_core::agent::Agent;
use overlay_core::config::AgentConfig;
use overlay_core::config::authentication::{AuthMode, Confirmation};
use overlay_core::host_api::desired::Backend;
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::host_api::usage::InUse;
use overlay_core::proto::internal::{
    AgentRegisteredAcknowledgement, Peer, PeerSubnet, PeersVersion, RegistrationRefusedMessage,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::proto::{AgentOverlayInfo, BackendInfo, BridgeInfo, OverlayInfo, VxLanInfo};
use overlay_core::protocol::messages::{NAMES, Named};
use overlay_core::protocol::peer_list_codec::{PEERS, pack};
use overlay_core::protocol::session::join;
use overlay_core::{
    Effect, EngineReport, HostReport, Input, Io, Machine, Request, RequestId, Time, Upid,
};

use crate::format;
use crate::session::{Master, Style, keys};

/// The agent of a transcript.
struct Runner {
    agent: Agent,
    now: Time,
    me: Upid,
    /// Master that sends messages, unless a line names another one.
    master: Master,
    /// The latest message of a master.
    latest: Option<Input>,
    requests: u64,
    /// Generation of the last `ApplyHost`.
    generation: u64,
    /// Generation of the last `ApplyEngine`.
    engine_generation: u64,
    engine: Engine,
}

/// Container engine of a transcript.
#[derive(Clone, Copy, PartialEq)]
enum Engine {
    /// Succeeds at once and is not part of the transcript.
    Hidden,
    /// Does what the transcript says.
    Scripted,
}

/// Returns the transcript with the present effects of the agent.
pub fn run(transcript: &str) -> String {
    let mut output = String::new();
    let mut runner: Option<Runner> = None;
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(output, "{line}").unwrap();
            let words: Vec<&str> = command.split_whitespace().collect();
            match words[0] {
                "agent" => runner = Some(Runner::new(&words[1..])),
                _ => runner
                    .as_mut()
                    .expect("a transcript begins with \"> agent\"")
                    .command(&words, &mut output),
            }
        } else if line.is_empty() || line.starts_with('#') {
            writeln!(output, "{line}").unwrap();
        }
    }
    output
}

/// Parses `dcos=3` or `dcos=3,2`: addresses in use of both families.
fn usage(word: &str) -> (String, InUse) {
    let (name, counts) = word.split_once('=').unwrap();
    let (v4, v6) = counts.split_once(',').unwrap_or((counts, "0"));
    (
        name.to_owned(),
        InUse {
            v4: v4.parse().unwrap(),
            v6: v6.parse().unwrap(),
            leaked: 0,
        },
    )
}

impl Runner {
    fn new(words: &[&str]) -> Runner {
        let mut config = AgentConfig::new("/cni");
        let mut engine = Engine::Hidden;
        let mut master = Master::new();
        let mut at = "10.0.0.2";
        for word in words {
            match *word {
                "shows-sessions" => master.is_shown = true,
                "always" => config.authentication.confirmation = Confirmation::Always,
                "warn" => config.authentication.mode = AuthMode::Warn,
                "key=A" => {
                    config.authentication.mode = AuthMode::Require;
                    config.authentication.keys = Some(keys('A'));
                    master.key = Some('A');
                }
                "external" => config.backend = Backend::External,
                "with-engine" => engine = Engine::Scripted,
                "no-docker" => config.network.docker_bridge = false,
                "no-ipv6" => config.network.enable_ipv6 = false,
                "two-attempts" => config.max_configuration_attempts = 2,
                word if word.starts_with("at=") => at = &word[3..],
                word => panic!("no such setting: {word}"),
            }
        }
        let me: Upid = format!("overlay-agent@{at}:5051").parse().unwrap();
        Runner {
            agent: Agent::new(config, me.clone(), 1),
            now: Time::default(),
            me,
            master,
            latest: None,
            requests: 0,
            generation: 0,
            engine_generation: 0,
            engine,
        }
    }

    fn command(&mut self, words: &[&str], output: &mut String) {
        let timer = self.agent.poll_timeout();
        let input = self.input(words);
        self.agent.handle(self.now, input);
        while let Some(effect) = self.agent.poll_effect() {
            if words[0] == "status" {
                writeln!(output, "  {}", format::status(&effect)).unwrap();
                continue;
            }
            match effect {
                Effect::ApplyHost { generation, .. } => self.generation = generation,
                Effect::ApplyEngine { generation, .. } => {
                    self.engine_generation = generation;
                    if self.engine == Engine::Hidden {
                        let done = Input::EngineDone(self.engine_report("ok"));
                        self.agent.handle(self.now, done);
                        continue;
                    }
                }
                _ => {}
            }
            let session = self.session(&effect);
            writeln!(output, "  {}{session}", format::effect(&effect)).unwrap();
        }
        match self.agent.poll_timeout() {
            next if next == timer => {}
            Some(next) => writeln!(output, "  timer {next}").unwrap(),
            None => writeln!(output, "  no timer").unwrap(),
        }
    }

    /// Shows the master a message to it. Returns the description of the message's session.
    fn session(&mut self, effect: &Effect) -> String {
        match effect {
            Effect::Io(Io::Send {
                to,
                name,
                body,
                session,
            }) => self.master.read(&self.me, to, name, &join(body, session)),
            _ => String::new(),
        }
    }

    fn input(&mut self, words: &[&str]) -> Input {
        let style = match words[0] {
            "legacy" => Some(Style::Legacy),
            "forged" => Some(Style::Forged),
            "unsigned" => Some(Style::Unsigned),
            word => word
                .strip_prefix("key=")
                .map(|key| Style::Key(key.parse().unwrap())),
        };
        match (words[0], style) {
            (_, Some(style)) => {
                self.master.style = style;
                let input = self.input(&words[1..]);
                self.master.style = Style::default();
                input
            }
            ("again", _) => self.latest.clone().expect("a message came before"),
            _ => {
                let input = self.plain_input(words);
                if matches!(input, Input::Message { .. }) {
                    self.latest = Some(input.clone());
                }
                input
            }
        }
    }

    fn plain_input(&mut self, words: &[&str]) -> Input {
        match words[0] {
            "timer" => {
                self.now = self.agent.poll_timeout().expect("a timer is set");
                Input::Timeout
            }
            // 1 ns before the timer.
            "early" => {
                let timer = self.agent.poll_timeout().expect("a timer is set");
                self.now = Time(timer.0 - Duration::from_nanos(1));
                Input::Timeout
            }
            "after" => {
                self.now = self.now + Duration::from_millis(words[1].parse().unwrap());
                self.input(&words[2..])
            }
            "from" => {
                let master = std::mem::replace(&mut self.master.me, words[1].parse().unwrap());
                let input = self.input(&words[2..]);
                self.master.me = master;
                input
            }
            "nobody-leads" => Input::Leader(None),
            "leads" => {
                let address = words[1].parse().unwrap();
                self.master.me = Upid::new("overlay-master", address);
                Input::Leader(Some(Upid::new("master", address)))
            }
            "exited" => Input::Exited(self.master.me.clone()),
            "challenge" => {
                let challenge = self.master.challenge(words.get(1).copied());
                self.message(&challenge)
            }
            "overlays" => self.message(&overlays(&words[1..])),
            "acknowledged" => self.message(&AgentRegisteredAcknowledgement {
                ..Default::default()
            }),
            "refused" => self.message(&RegistrationRefusedMessage {
                reason: words[1..].join(" "),
                ..Default::default()
            }),
            "peers" => self.message(&peers(&words[1..])),
            "packed-peers" => self.message(&packed(peers(&words[1..]))),
            "damaged-peers" => {
                let mut message = packed(peers(&words[1..]));
                message.packed.as_mut().unwrap().truncate(10);
                self.message(&message)
            }
            "bytes" => self.bytes(words[1], words[2..].concat().as_bytes()),
            // The result of the attempt before the latest one.
            "late-host" => {
                let report = self.report(&words[1..].join(" "));
                Input::HostDone(HostReport {
                    generation: self.generation - 1,
                    ..report
                })
            }
            "host" => Input::HostDone(self.report(&words[1..].join(" "))),
            "engine" => Input::EngineDone(self.engine_report(&words[1..].join(" "))),
            "usage" => Input::Usage(words[1..].iter().map(|word| usage(word)).collect()),
            "get" => self.request("GET", words),
            "status" => self.request("GET", &["status", "/overlay-agent/overlay"]),
            "post" => self.request("POST", words),
            word => panic!("no such command: {word}"),
        }
    }

    fn message<M: Named>(&mut self, message: &M) -> Input {
        let body = self
            .master
            .seal(&self.me, M::NAME, &message.encode_to_vec().into());
        Input::Message {
            from: self.master.me.clone(),
            name: M::NAME.to_owned(),
            body,
        }
    }

    fn bytes(&mut self, short: &str, body: &[u8]) -> Input {
        let name = NAMES
            .iter()
            .find(|name| name.ends_with(&format!(".{short}")));
        let name = name.map_or(short.to_owned(), |name| (*name).to_owned());
        let body = self.master.seal(&self.me, &name, &body.to_vec().into());
        Input::Message {
            from: self.master.me.clone(),
            name,
            body,
        }
    }

    /// Parses `ok`, or `dcos: error; host: error; further: count; used: web; draining: sentence`.
    fn report(&self, text: &str) -> HostReport {
        let mut report = HostReport {
            generation: self.generation,
            ..HostReport::default()
        };
        for part in text.split("; ").filter(|part| *part != "ok") {
            match part.split_once(": ").unwrap() {
                ("host", error) => {
                    let problem = Problem::new(ProblemKind::Operation, error, error);
                    report.host.push(problem);
                }
                ("further", sentence) => {
                    let kind = sentence.split_once(": ").unwrap().0;
                    let problem = Problem::new(ProblemKind::FurtherOperations, kind, sentence);
                    report.host.push(problem);
                }
                ("used", overlay) => {
                    report.draining_overlays.insert(overlay.to_owned());
                    report.draining_bridges.insert(
                        format!("m-{overlay}"),
                        format!("overlay {overlay} is gone, but 1 container uses it"),
                    );
                }
                ("draining", sentence) => {
                    let bridge = sentence.split(' ').find(|word| word.starts_with("m-"));
                    report
                        .draining_bridges
                        .insert(bridge.unwrap().to_owned(), sentence.to_owned());
                }
                (overlay, error) => {
                    report.overlays.insert(overlay.to_owned(), error.to_owned());
                }
            }
        }
        report
    }

    /// Parses `ok`, or `dcos: error; note: sentence; used: web`, or `away: error` from an engine that
    /// is not reachable.
    fn engine_report(&self, text: &str) -> EngineReport {
        let mut report = EngineReport {
            generation: self.engine_generation,
            ..EngineReport::default()
        };
        for part in text.split("; ").filter(|part| *part != "ok") {
            match part.split_once(": ").unwrap() {
                ("note", note) => {
                    let problem = Problem::new(ProblemKind::RemovedNetwork, note, note);
                    report.notes.push(problem);
                }
                ("used", overlay) => _ = report.draining_networks.insert(overlay.to_owned()),
                ("away", error) => report.engine = Some(error.to_owned()),
                (overlay, error) => {
                    _ = report.overlays.insert(overlay.to_owned(), error.to_owned())
                }
            }
        }
        report
    }

    /// Parses `get /path [accept=…] [jsonp=…]`.
    fn request(&mut self, method: &str, words: &[&str]) -> Input {
        self.requests += 1;
        let mut request = Request {
            id: RequestId(self.requests),
            method: method.to_owned(),
            path: words[1].to_owned(),
            query: BTreeMap::new(),
            accept: None,
            headers: Default::default(),
            body: Default::default(),
        };
        for word in &words[2..] {
            match word.split_once('=').unwrap() {
                ("accept", value) => request.accept = Some(value.to_owned()),
                (key, value) => {
                    request.query.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        Input::Request(request)
    }
}

/// Parses `dcos=9.0.0.0/24 dcos6=fd01:b::/80 both=9.1.0.0/24,fd01:b:0:0:1::/80 vtep=44.128.0.9/20
/// problem:sentence notice:sentence @3`. All other values are those of a real master.
fn overlays(words: &[&str]) -> UpdateAgentOverlaysMessage {
    let mut message = UpdateAgentOverlaysMessage::default();
    let mut vtep = "44.128.0.2/20";
    for word in words {
        if let Some(problem) = word.strip_prefix("problem:") {
            message.problems.push(problem.replace('_', " "));
            continue;
        }
        if let Some(revision) = word.strip_prefix('@') {
            message.revision = Some(revision.parse().unwrap());
            continue;
        }
        if let Some(notice) = word.strip_prefix("notice:") {
            message.notices.push(notice.replace('_', " "));
            continue;
        }
        match word.split_once('=').unwrap() {
            ("vtep", value) => vtep = value,
            (name, subnet) => message.overlays.push(overlay(name, subnet)),
        }
    }
    let v6 = message
        .overlays
        .iter()
        .any(|overlay| overlay.subnet6.is_some());
    for overlay in &mut message.overlays {
        let vxlan = overlay.backend.vxlan.as_mut().unwrap();
        vxlan.vtep_ip = vtep.to_owned();
        vxlan.vtep_ip6 = v6.then(|| "fd01:a::2/64".into());
    }
    message
}

/// Returns the lower and the upper half of a subnet.
fn halves(subnet: Option<&str>) -> (Option<String>, Option<String>) {
    let halves = subnet
        .and_then(|subnet| subnet.parse::<IpNet>().ok())
        .and_then(|net| {
            let mut halves = net.subnets(net.prefix_len() + 1).ok()?;
            Some((halves.next()?.to_string(), halves.next()?.to_string()))
        });
    halves.unzip()
}

fn overlay(name: &str, subnets: &str) -> AgentOverlayInfo {
    let subnet = subnets.split(',').find(|subnet| !subnet.contains(':'));
    let subnet6 = subnets.split(',').find(|subnet| subnet.contains(':'));
    let ((lower, upper), (lower6, upper6)) = (halves(subnet), halves(subnet6));
    let bridge = |kind: char, ip, ip6| {
        Some(BridgeInfo {
            name: format!("{kind}-{name}"),
            ip,
            ip6,
        })
    };
    let vxlan = VxLanInfo {
        vni: 1024,
        vtep_name: "vtep1024".into(),
        vtep_mac: "70:b3:d5:80:00:02".into(),
        ..VxLanInfo::default()
    };
    AgentOverlayInfo {
        info: OverlayInfo {
            name: name.into(),
            subnet: subnet.map(|_| "9.0.0.0/8".to_owned()),
            prefix: subnet.map(|_| 24),
            subnet6: subnet6.map(|_| "fd01:b::/64".to_owned()),
            prefix6: subnet6.map(|_| 80),
            enabled: Some(true),
        },
        subnet: subnet.map(str::to_owned),
        subnet6: subnet6.map(str::to_owned),
        mesos_bridge: bridge('m', lower, lower6),
        docker_bridge: bridge('d', upper, upper6),
        backend: BackendInfo { vxlan: Some(vxlan) },
        state: None,
        ..Default::default()
    }
}

/// Parses `7:1` (a snapshot) or `7:1..2` (a delta), then `10.0.0.3=9.0.1.0/24` for a peer,
/// `10.0.0.3=web@9.1.0.0/24` for a subnet of another overlay than `dcos`, `v4:10.0.0.3=9.0.1.0/24` for one whose VTEP has no IPv6, `-10.0.0.3` for one that left, and
/// `since:6:9` for the version of another leader with the same list as the delta's base.
fn peers(words: &[&str]) -> UpdatePeersMessage {
    let (epoch, versions) = words[0].split_once(':').unwrap();
    let (base, version) = match versions.split_once("..") {
        Some((base, version)) => (Some(base.parse().unwrap()), version),
        None => (None, versions),
    };
    let version = PeersVersion {
        epoch: epoch.parse().ok(),
        version: version.parse().ok(),
        ..Default::default()
    };
    let mut message = UpdatePeersMessage {
        version,
        base,
        ..UpdatePeersMessage::default()
    };
    for word in &words[1..] {
        if let Some(since) = word.strip_prefix("since:") {
            let (epoch, version) = since.split_once(':').unwrap();
            let (epoch, version) = (epoch.parse().ok(), version.parse().ok());
            message.since = Some(PeersVersion {
                epoch,
                version,
                ..Default::default()
            });
            continue;
        }
        match (word.strip_prefix('-'), word.split_once('=')) {
            (Some(ip), _) => message.removed.push(ip.to_owned()),
            (None, Some((ip, subnets))) => message.peers.push(peer(ip, subnets)),
            (None, None) => panic!("not a peer: {word}"),
        }
    }
    message
}

/// Returns the message with its peers packed.
fn packed(mut message: UpdatePeersMessage) -> UpdatePeersMessage {
    let mut encoded = Vec::new();
    prost::encoding::message::encode_repeated(
        PEERS,
        &std::mem::take(&mut message.peers),
        &mut encoded,
    );
    message.packed = Some(pack([encoded.as_slice()].into_iter()));
    message
}

fn peer(ip: &str, subnets: &str) -> Peer {
    if let Some(ip) = ip.strip_prefix("v4:") {
        return Peer {
            vtep_ip6: None,
            ..peer(ip, subnets)
        };
    }
    let last = ip.parse::<Ipv4Addr>().map_or(99, |ip| ip.octets()[3]);
    let subnets = subnets.split(',').map(|subnet| {
        let (overlay, subnet) = subnet.split_once('@').unwrap_or(("dcos", subnet));
        PeerSubnet {
            overlay: overlay.into(),
            subnet: (!subnet.contains(':')).then(|| subnet.to_owned()),
            subnet6: subnet.contains(':').then(|| subnet.to_owned()),
        }
    });
    Peer {
        ip: ip.to_owned(),
        vni: 1024,
        vtep_ip: format!("44.128.0.{last}"),
        vtep_ip6: Some(format!("fd01:a::{last}")),
        vtep_mac: format!("70:b3:d5:80:00:{last:02x}"),
        subnets: subnets.collect(),
    }
}
