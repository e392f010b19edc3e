//! A master that is told things one after the other, and what it does about each, as text.

use std::time::Duration;

use bytes::Bytes;
use overlay_core::config::master::parse;
use overlay_core::master::Master;
use overlay_core::protocol::http::{Request, RequestId};
use overlay_core::protocol::messages::Named;
use overlay_core::{Effect, Input, Io, Machine, StoreOutcome, Time, Upid};

use crate::fixture;
use testkit::sessions::WithSessions;

fn me() -> Upid {
    "overlay-master@10.0.0.250:5050".parse().unwrap()
}

fn agent(n: u8) -> Upid {
    format!("overlay-agent@10.0.0.{n}:5051").parse().unwrap()
}

/// A master with its log.
pub struct Player {
    config: String,
    seed: u64,
    master: WithSessions<Master>,
    now: Time,
    /// The value of the log.
    pub log: Bytes,
    written: Option<(u64, Bytes)>,
    requests: u64,
    /// The bodies of the messages sent since they were taken last: receiver, name, body.
    sent: Vec<(Upid, &'static str, Bytes)>,
    /// All inputs and effects.
    pub played: String,
}

impl Player {
    /// A master of the configuration `config` (JSON) that leads, once it has read `log`.
    pub fn new(config: &str, log: Bytes) -> Player {
        let mut player = Player {
            config: config.to_owned(),
            seed: 1,
            master: master(config, 1),
            now: Time::default(),
            log,
            written: None,
            requests: 0,
            sent: Vec::new(),
            played: String::new(),
        };
        player.lead();
        player
    }

    /// Another master takes over the log. Its seed is another one.
    pub fn take_over(&mut self) {
        self.seed += 1;
        self.master = master(&self.config, self.seed);
        self.written = None;
        self.played += "> another master\n";
        self.lead();
    }

    fn lead(&mut self) {
        self.leader(Some(Upid::new("master", me().address)));
        let log = self.log.clone();
        self.input("fetched", &log, Input::Fetched(Ok(log.clone())));
    }

    /// Announces a leader.
    pub fn leader(&mut self, leader: Option<Upid>) {
        let title = leader.as_ref().map_or("nobody leads".to_owned(), |leader| {
            format!("{leader} leads")
        });
        self.input(&title, b"", Input::Leader(leader));
    }

    /// The agent 10.0.0.`n` sends this.
    pub fn message<M: Named>(&mut self, n: u8, message: &M) {
        let body = Bytes::from(message.encode_to_vec());
        let title = format!("{} {}", agent(n), M::NAME);
        self.input(
            &title,
            &body,
            Input::Message {
                from: agent(n),
                name: M::NAME.to_owned(),
                body: body.clone(),
            },
        );
    }

    /// The latest message of this kind to the agent 10.0.0.`n`.
    pub fn sent<M: Named>(&mut self, n: u8) -> M {
        let is_it = |(to, name, _): &&(Upid, &str, Bytes)| *to == agent(n) && *name == M::NAME;
        let (_, _, body) = self
            .sent
            .iter()
            .rfind(is_it)
            .unwrap_or_else(|| panic!("no {} to {n}", M::NAME));
        M::decode(body.clone()).unwrap()
    }

    /// The connection to the agent 10.0.0.`n` breaks.
    pub fn exited(&mut self, n: u8) {
        self.input(
            &format!("exited {}", agent(n)),
            b"",
            Input::Exited(agent(n)),
        );
    }

    /// The write that is under way is in the log.
    pub fn stored(&mut self) {
        let (number, state) = self
            .written
            .take()
            .unwrap_or_else(|| panic!("no write is under way:\n{}", self.played));
        self.log = state;
        self.input(
            "stored",
            b"",
            Input::Stored {
                number,
                outcome: StoreOutcome::Stored,
            },
        );
    }

    /// The write that is under way fails, and the log is read again.
    pub fn fails(&mut self) {
        let (number, _) = self.written.take().expect("a write is under way");
        let outcome = StoreOutcome::Failed("disk full".to_owned());
        self.input("failed", b"", Input::Stored { number, outcome });
        self.wait(Duration::from_secs(1));
        let log = self.log.clone();
        self.input("fetched", &log, Input::Fetched(Ok(log.clone())));
    }

    /// An HTTP request comes.
    pub fn request(&mut self, method: &str, url: &str, body: &str) {
        self.requests += 1;
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let pair = |pair: &str| {
            pair.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        };
        let request = Request {
            id: RequestId(self.requests),
            method: method.to_owned(),
            path: format!("/overlay-master/{path}"),
            query: query.split('&').filter_map(pair).collect(),
            accept: None,
            headers: Default::default(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        self.input(
            &format!("{method} {url} {body}"),
            b"",
            Input::Request(request),
        );
    }

    /// Time goes by, and deadlines are met.
    pub fn wait(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(due) = self.master.poll_timeout().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            let title = format!("at {}", self.now);
            self.input(&title, b"", Input::Timeout);
        }
        self.now = end;
    }

    fn input(&mut self, title: &str, body: &[u8], input: Input) {
        self.played += &fixture::input(title, body);
        self.master.handle(self.now, input);
        while let Some(effect) = self.master.poll_effect() {
            self.played += &fixture::effect(&effect);
            match effect {
                Effect::Io(Io::Store { number, state }) => {
                    assert!(
                        self.written.replace((number, state)).is_none(),
                        "two writes at a time"
                    );
                }
                Effect::Io(Io::Send { to, name, body, .. }) => self.sent.push((to, name, body)),
                _ => {}
            }
        }
    }
}

fn master(config: &str, seed: u64) -> WithSessions<Master> {
    let config = parse("master.json", config).unwrap().config;
    WithSessions::new(Master::new(config, me(), seed), me())
}
