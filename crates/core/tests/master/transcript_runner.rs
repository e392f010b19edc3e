//! Runs a transcript: delivers its inputs to masters, and formats their effects.
//!
//! ```text
//! master <JSON of `network`>          a new master; the log stays
//! on <name>                           the next inputs are for this master (at first `a`)
//! at <ip>                             the address of new masters, and of `leader me`
//! config <key>: <JSON>, …             more keys of the configuration of new masters
//! log <agent> <overlay>:<subnet>@<vtep> …   sets the log; `<IPv4>,<IPv6>` for both families
//! log garbage                         sets the log to bytes that are no state
//! log older                           drops the fields that earlier releases do not write
//! log 0.1                             the same, as release 0.1 does, which knows no trust in agents
//! leader me | none | <ip:port>        the leading master
//! fetched | fetched error <text>      the answer to reading the log
//! stored | superseded | failed <text> the answer to the latest write
//! register <agent> [<option> …]       options: no-subnets no-mesos no-docker no-v6
//!                                     port=<n> peers peers=<epoch>/<version>
//!                                     peers=<epoch>/<version>+digest
//!                                     vtep=<IPv4>[,<IPv6>] holds=<overlay>:<subnet>[,<subnet>]
//! registered <agent> <overlay>=OK | <overlay>=<error> … | +<draining overlay> … | @<revision>
//!            | ~<network of its host> …
//! received <agent> <epoch>/<version>  the agent acknowledges peers
//! exited <agent> [<port>]             the link broke
//! get | post | put | delete <path> [<body>]   an HTTP request
//! message <agent> <name> <hex>        any bytes under any name
//! unconfirmed <agent> [<port>]        a registration of an agent that answers no challenge
//! legacy <command>                    the message of an agent of an earlier release; its report may
//!                                     have `echo`, the bytes that came with its overlays
//! wait <n>ms                          time passes, with the timeouts of all masters
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use overlay_core::config::master::parse;
use overlay_core::master::Master;
use overlay_core::proto;
use overlay_core::proto::agent_overlay_info;
use overlay_core::proto::internal::{
    AgentRegisteredMessage, PeerSubnet, PeersReceivedMessage, PeersVersion, RegisterAgentMessage,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use overlay_core::protocol::http::{Request, RequestId};
use overlay_core::protocol::messages::Named;
use overlay_core::{AGENT_ID, Effect, Input, Io, Machine, StoreOutcome, Time, Upid};
use prost::Message;

use crate::format;
use testkit::sessions::WithSessions;

/// Returns the inputs of a transcript, with the effects that they have now.
pub fn play(transcript: &str) -> String {
    let mut runner = Runner::new();
    for line in transcript.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(runner.transcript, "{line}").unwrap();
            runner.run(command);
        } else if line.is_empty() || line.starts_with('#') {
            writeln!(runner.transcript, "{line}").unwrap();
        }
    }
    runner.transcript
}

/// The time after which the master counts an unanswered write as failed.
const STORE_TIMEOUT: Duration = Duration::from_secs(20);

/// Masters that share a log, and the state of a transcript.
struct Runner {
    masters: BTreeMap<String, Member>,
    /// The master that gets the inputs.
    on: String,
    /// Address of the masters; `None`: each has one of its own.
    at: Option<IpAddr>,
    now: Time,
    log: Bytes,
    requests: u64,
    /// Epochs in the order of their appearance.
    epochs: Vec<u64>,
    /// The digests of the lists of peers that were sent, by epoch and version.
    digests: BTreeMap<(u64, u64), u64>,
    /// More keys of the configuration, with a comma at the end.
    config: String,
    /// The inputs and effects up to now.
    transcript: String,
    /// Messages are those of an agent of an earlier release.
    is_legacy: bool,
    /// Bytes that agents of earlier releases return, by agent.
    echoes: BTreeMap<String, Bytes>,
}

/// Master of the cluster.
struct Member {
    master: WithSessions<Master>,
    /// Number and state of the write under way.
    written: Option<(u64, Bytes)>,
    /// Time at which the master stops waiting for the answer to that write.
    store_timeout_at: Time,
}

/// Returns the pid of a master: `a` is at 10.0.0.250, `b` at 10.0.0.251 and so on.
fn pid(name: &str) -> Upid {
    format!("overlay-master@10.0.0.{}:5050", 250 + number(name))
        .parse()
        .unwrap()
}

/// Returns the number of a master, from 0.
fn number(name: &str) -> u8 {
    name.bytes().next().unwrap() - b'a'
}

fn agent(ip: &str, port: &str) -> Upid {
    Upid::new(AGENT_ID, format!("{ip}:{port}").parse().unwrap())
}

impl Runner {
    fn new() -> Runner {
        Runner {
            masters: BTreeMap::new(),
            on: "a".to_owned(),
            at: None,
            now: Time::default(),
            log: Bytes::new(),
            requests: 0,
            epochs: Vec::new(),
            digests: BTreeMap::new(),
            config: String::new(),
            transcript: String::new(),
            is_legacy: false,
            echoes: BTreeMap::new(),
        }
    }

    fn run(&mut self, command: &str) {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let words: Vec<_> = rest.split_whitespace().collect();
        match verb {
            "master" => self.start(rest),
            "on" => self.on = rest.to_owned(),
            "at" => self.at = Some(rest.parse().unwrap()),
            "config" => self.config = format!("{rest}, "),
            "log" if rest == "older" => self.log = older(&self.log),
            "log" if rest == "0.1" => self.log = without_trust(&older(&self.log)),
            "log" => self.log = log(&words),
            "leader" => {
                let leader = match rest {
                    "none" => None,
                    "me" => Some(Upid::new("master", self.me().address)),
                    address => Some(Upid::new("master", address.parse().unwrap())),
                };
                self.input(Input::Leader(leader));
            }
            "fetched" => {
                let log = self.log.clone();
                let result = rest
                    .strip_prefix("error ")
                    .map_or(Ok(log), |error| Err(error.to_owned()));
                self.input(Input::Fetched(result));
            }
            "stored" => self.stored(StoreOutcome::Stored),
            "superseded" => self.stored(StoreOutcome::Superseded),
            "failed" => self.stored(StoreOutcome::Failed(rest.to_owned())),
            "register" => self.register(&words),
            "registered" => self.registered(&words),
            "received" => {
                let message = PeersReceivedMessage {
                    version: self.version(words[1]),
                    ..Default::default()
                };
                self.message(agent(words[0], "5051"), &message);
            }
            "exited" => {
                let port = words.get(1).copied().unwrap_or("5051");
                self.input(Input::Exited(agent(words[0], port)));
            }
            "get" | "post" | "put" | "delete" => {
                let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
                self.request(&verb.to_uppercase(), path, body);
            }
            "legacy" => {
                self.is_legacy = true;
                self.run(rest);
                self.is_legacy = false;
            }
            "unconfirmed" => self.unconfirmed(&words),
            "message" => self.raw_input(Input::Message {
                from: agent(words[0], "5051"),
                name: words[1].to_owned(),
                body: from_hex(words.get(2).copied().unwrap_or_default()),
            }),
            "wait" => self.wait(rest.strip_suffix("ms").unwrap().parse().unwrap()),
            _ => panic!("unknown command {command}"),
        }
    }

    /// Returns the pid of the master that gets the inputs.
    fn me(&self) -> Upid {
        let mut me = pid(&self.on);
        if let Some(at) = self.at {
            me.address.set_ip(at);
        }
        me
    }

    fn start(&mut self, network: &str) {
        let text = format!(
            r#"{{{}"replicated_log_dir": "/log", "replicated_log_timeout": "5mins", "network": {network}}}"#,
            self.config
        );
        let config = parse("master.json", &text).unwrap().config;
        // The random numbers of two processes differ.
        let (me, seed) = (self.me(), 7 + u64::from(number(&self.on)));
        let master = WithSessions::new(Master::new(config, me.clone(), seed), me);
        self.masters.insert(
            self.on.clone(),
            Member {
                master,
                written: None,
                store_timeout_at: Time::default(),
            },
        );
    }

    fn register(&mut self, words: &[&str]) {
        let mut message = RegisterAgentMessage::default();
        let mut port = "5051";
        for word in &words[1..] {
            let config = &mut message.network_config;
            match word.split_once('=').unwrap_or((word, "")) {
                ("no-subnets", _) => config.allocate_subnet = Some(false),
                ("no-mesos", _) => config.mesos_bridge = Some(false),
                ("no-docker", _) => config.docker_bridge = Some(false),
                ("no-v6", _) => config.enable_ipv6 = Some(false),
                ("port", value) => port = value,
                ("vtep", value) => {
                    let (v4, v6) = value.split_once(',').unwrap_or((value, ""));
                    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
                    (message.vtep_ip, message.vtep_ip6) = (text(v4), text(v6));
                }
                ("holds", value) => {
                    let (overlay, subnets) = value.split_once(':').unwrap();
                    let find = |v6| subnets.split(',').find(|net| net.contains(':') == v6);
                    message.holds.push(PeerSubnet {
                        overlay: overlay.to_owned(),
                        subnet: find(false).map(str::to_owned),
                        subnet6: find(true).map(str::to_owned),
                    });
                }
                ("peers", "") => message.peers = Some(PeersVersion::default()),
                ("peers", value) => message.peers = Some(self.version(value)),
                _ => panic!("unknown option {word}"),
            }
        }
        // Agents report their MTU, so the message is never empty.
        message.network_config.overlay_mtu.get_or_insert(1420);
        self.message(agent(words[0], port), &message);
    }

    fn registered(&mut self, words: &[&str]) {
        let overlay = |word: &&str| {
            let (name, error) = word.split_once('=').unwrap();
            let status = if error == "OK" { 1 } else { 2 };
            let error = (error != "OK").then(|| error.to_owned());
            proto::AgentOverlayInfo {
                info: proto::OverlayInfo {
                    name: name.to_owned(),
                    ..Default::default()
                },
                state: Some(agent_overlay_info::State {
                    status: Some(status),
                    error,
                }),
                ..Default::default()
            }
        };
        let echo = words
            .contains(&"echo")
            .then(|| self.echoes[words[0]].clone());
        let list = |mark| {
            words[1..]
                .iter()
                .filter_map(move |word| word.strip_prefix(mark))
        };
        let message = AgentRegisteredMessage {
            overlays: words[1..]
                .iter()
                .filter(|word| word.contains('='))
                .map(overlay)
                .map(|overlay| proto::AgentOverlayInfo {
                    echo: echo.clone(),
                    ..overlay
                })
                .collect(),
            draining: list('+').map(str::to_owned).collect(),
            networks: list('~').map(str::to_owned).collect(),
            revision: list('@').next().map(|revision| revision.parse().unwrap()),
            ..Default::default()
        };
        self.message(agent(words[0], "5051"), &message);
    }

    /// Registers an agent that does not answer its challenge.
    fn unconfirmed(&mut self, words: &[&str]) {
        let port = words.get(1).copied().unwrap_or("5051");
        let message = RegisterAgentMessage {
            nonce: Some(vec![7; 16].into()),
            ..Default::default()
        };
        self.is_legacy = true;
        self.message(agent(words[0], port), &message);
        self.is_legacy = false;
    }

    fn message<M: Named>(&mut self, from: Upid, message: &M) {
        let body = message.encode_to_vec().into();
        let input = Input::Message {
            from,
            name: M::NAME.to_owned(),
            body,
        };
        if self.is_legacy {
            self.raw_input(input);
        } else {
            self.input(input);
        }
    }

    fn request(&mut self, method: &str, url: &str, body: &str) {
        self.requests += 1;
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let pair = |pair: &str| {
            pair.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        };
        self.input(Input::Request(Request {
            id: RequestId(self.requests),
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.split('&').filter_map(pair).collect(),
            accept: None,
            headers: Default::default(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }));
    }

    fn stored(&mut self, outcome: StoreOutcome) {
        let Some((number, state)) = self.member().written.take() else {
            panic!(
                "no write is under way after
{}",
                self.transcript
            );
        };
        if outcome == StoreOutcome::Stored {
            self.log = state;
        }
        self.input(Input::Stored { number, outcome });
    }

    fn member(&mut self) -> &mut Member {
        self.masters
            .get_mut(&self.on)
            .expect("there is no master of this name yet")
    }

    /// Returns the first deadline, and the master whose it is.
    fn due(&self) -> Option<(Time, String)> {
        let due = |(name, member): (&String, &Member)| {
            Some((member.master.poll_timeout()?, name.clone()))
        };
        self.masters.iter().filter_map(due).min()
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now + Duration::from_millis(ms);
        let on = self.on.clone();
        while let Some((due, name)) = self.due().filter(|(due, _)| *due <= end) {
            assert!(
                due > self.now || self.now == Time::default(),
                "a deadline must not stay"
            );
            self.now = due.max(self.now);
            let before = self.transcript.len();
            let suffix = if name == on {
                String::new()
            } else {
                format!(" on {name}")
            };
            self.on = name;
            self.input(Input::Timeout);
            if self.transcript.len() > before {
                self.transcript
                    .insert_str(before, &format!("  at {}{suffix}\n", self.now));
            }
        }
        self.on = on;
        self.now = end;
    }

    /// Delivers a message as it is, without a session.
    fn raw_input(&mut self, input: Input) {
        let now = self.now;
        self.member().master.master.handle(now, input);
        // Challenges are not answered.
        while let Some(effect) = self.member().master.master.poll_effect() {
            self.take_effect(effect);
        }
    }

    fn input(&mut self, input: Input) {
        let now = self.now;
        self.member().master.handle(now, input);
        self.take_effects();
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.member().master.poll_effect() {
            self.take_effect(effect);
        }
    }

    fn take_effect(&mut self, effect: Effect) {
        let now = self.now;

        if let Effect::Io(Io::Store { number, state }) = &effect {
            let member = self.member();
            let timed_out = member.store_timeout_at <= now;
            assert!(
                member.written.is_none() || timed_out,
                "two writes at a time"
            );
            member.written = Some((*number, state.clone()));
            member.store_timeout_at = now + STORE_TIMEOUT;
        }
        if let Effect::Io(Io::Send {
            to,
            name: UpdateAgentOverlaysMessage::NAME,
            body,
            ..
        }) = &effect
        {
            let list = UpdateAgentOverlaysMessage::decode(body.clone()).unwrap();
            let echo = list.overlays.into_iter().find_map(|overlay| overlay.echo);
            let ip = to.address.ip().to_string();
            self.echoes.extend(echo.map(|echo| (ip, echo)));
        }
        if let Effect::Io(Io::Send {
            name: UpdatePeersMessage::NAME,
            body,
            ..
        }) = &effect
        {
            let version = UpdatePeersMessage::decode(body.clone()).unwrap().version;
            self.digests
                .insert((version.epoch(), version.version()), version.digest());
        }
        for line in format::effect(&mut self.epochs, &self.log, effect)
            .trim_end()
            .lines()
        {
            writeln!(self.transcript, "  {line}").unwrap();
        }
    }

    /// Reads a version: `E1/3` is version 3 of the first epoch that appeared, `E0/0` is none.
    /// With `+digest` it has the digest that the list was sent with.
    fn version(&self, text: &str) -> PeersVersion {
        let (text, with_digest) = text
            .strip_suffix("+digest")
            .map_or((text, false), |text| (text, true));
        let (epoch, version) = text
            .strip_prefix('E')
            .and_then(|text| text.split_once('/'))
            .unwrap();
        let number: usize = epoch.parse().unwrap();
        let epoch = number.checked_sub(1).map_or(0, |index| self.epochs[index]);
        let version = version.parse().unwrap();
        let digest = with_digest.then(|| self.digests[&(epoch, version)]);
        PeersVersion {
            epoch: Some(epoch),
            version: Some(version),
            digest,
        }
    }
}

/// Returns the bytes of hexadecimal digits.
fn from_hex(text: &str) -> Bytes {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(byte).collect()
}

/// Returns a state: `10.0.0.1 dcos:9.0.0.0/24@44.128.0.1/20 …`, `/` between agents.
fn log(words: &[&str]) -> Bytes {
    if words == ["garbage"] {
        return Bytes::from_static(b"\xff\xff\xff");
    }
    let mut agents: BTreeMap<usize, proto::AgentInfo> = BTreeMap::new();
    for word in words {
        let Some((name, rest)) = word.split_once(':') else {
            let info = proto::AgentInfo {
                ip: (*word).to_owned(),
                ..Default::default()
            };
            agents.insert(agents.len(), info);
            continue;
        };
        let (subnets, vteps) = rest.split_once('@').unwrap();
        let families = |text: &str| {
            let of = |v6: bool| {
                text.split(',')
                    .find(|net| net.contains(':') == v6)
                    .map(str::to_owned)
            };
            (of(false), of(true))
        };
        let ((subnet, subnet6), (vtep_ip, vtep_ip6)) = (families(subnets), families(vteps));
        let vxlan = proto::VxLanInfo {
            vni: 1024,
            vtep_name: "vtep1024".to_owned(),
            vtep_ip: vtep_ip.unwrap(),
            vtep_mac: "70:b3:d5:00:00:99".to_owned(),
            vtep_ip6,
            ..Default::default()
        };
        agents
            .last_entry()
            .unwrap()
            .get_mut()
            .overlays
            .push(proto::AgentOverlayInfo {
                info: proto::OverlayInfo {
                    name: name.to_owned(),
                    ..Default::default()
                },
                subnet,
                subnet6,
                backend: proto::BackendInfo { vxlan: Some(vxlan) },
                ..Default::default()
            });
    }
    proto::State {
        agents: agents.into_values().collect(),
        ..Default::default()
    }
    .encode_to_vec()
    .into()
}

/// Returns a state without the fields that earlier releases do not write.
fn older(log: &Bytes) -> Bytes {
    let proto::State {
        network, agents, ..
    } = proto::State::decode(log.clone()).unwrap();
    proto::State {
        network,
        agents,
        ..Default::default()
    }
    .encode_to_vec()
    .into()
}

fn without_trust(log: &Bytes) -> Bytes {
    let mut state = proto::State::decode(log.clone()).unwrap();
    for agent in &mut state.agents {
        (agent.confirmed, agent.provisional) = (None, None);
    }
    state.encode_to_vec().into()
}
