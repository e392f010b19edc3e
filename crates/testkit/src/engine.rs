//! Container engines on throw-away hosts, and the worker that keeps their networks.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use overlay_core::EngineReport;
use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::engine::Network;
use overlay_host::docker::Worker;
use serde_json::Value;
use testbed::docker::Engine;
use testbed::run::Run;

use super::host::{Host, PATIENCE, net};

/// A host with an engine.
pub struct DockerHost {
    /// Ended before its host goes.
    pub engine: Engine,
    pub host: Host,
    // The last to go: it takes everything with it.
    _run: Run,
}

impl DockerHost {
    /// A host with an engine that does not run yet.
    pub fn new() -> DockerHost {
        let (run, host) = (Run::new().unwrap(), Host::new());
        let engine = Engine::new(&run, "engine", &host.netns()).unwrap();
        DockerHost {
            engine,
            host,
            _run: run,
        }
    }

    /// A host with a running engine.
    pub fn started() -> DockerHost {
        let mut host = DockerHost::new();
        host.engine.start().unwrap();
        host
    }

    /// Runs `docker`; gives what it prints.
    pub fn docker(&self, line: &str) -> String {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.engine
            .docker(&args)
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// What the engine says of a network; `None`: there is none.
    pub fn network(&self, name: &str) -> Option<Value> {
        let text = self.engine.docker(&["network", "inspect", name]).ok()?;
        Some(serde_json::from_str::<Value>(&text).unwrap()[0].take())
    }

    /// The engine's id of a network.
    pub fn id(&self, name: &str) -> Option<String> {
        Some(self.network(name)?["Id"].as_str()?.to_owned())
    }

    /// One dual-stack network, `dcos`, in the engine.
    pub fn desired(&self, n: u8) -> EngineDesired {
        EngineDesired {
            socket: self.engine.socket(),
            timeout: Duration::from_secs(15),
            networks: [("dcos".to_owned(), network("d-dcos", n))].into(),
            fit_mtu: false,
        }
    }
}

/// The upper halves of the `n`th agent's subnets (see [`overlay_host::overlay`]).
pub fn network(bridge: &str, n: u8) -> Network {
    Network {
        bridge: bridge.into(),
        subnets: vec![
            net(&format!("9.0.{n}.128/25")),
            net(&format!("fd01:b::{n:x}:8000:0:0/81")),
        ],
        mtu: 1420,
        trusted: vec!["vtep1024".into(), bridge.replacen('d', "m", 1)],
    }
}

/// A worker that can be waited for.
pub struct Keeper {
    worker: Worker,
    woken: Receiver<()>,
    generation: u64,
}

impl Keeper {
    pub fn new() -> Keeper {
        let (wake, woken) = channel();
        let worker = Worker::spawn(move || _ = wake.send(())).unwrap();
        Keeper {
            worker,
            woken,
            generation: 0,
        }
    }

    /// Wants the engine to be like this; gives the first report about it.
    pub fn apply(&mut self, desired: &EngineDesired) -> EngineReport {
        self.generation += 1;
        self.worker
            .apply(self.generation, Arc::new(desired.clone()));
        self.report()
    }

    /// The same for what has to work out; gives how many operations it took.
    pub fn apply_ok(&mut self, desired: &EngineDesired) -> usize {
        let report = self.apply(desired);
        assert!(report.is_ok() && report.notes.is_empty(), "{report:?}");
        report.operations
    }

    /// The next report about what was wanted last.
    pub fn report(&mut self) -> EngineReport {
        self.wait("any report", |_| true)
    }

    /// The next report that is as it should be.
    pub fn wait(&mut self, what: &str, is_so: impl Fn(&EngineReport) -> bool) -> EngineReport {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.woken.recv_timeout(left).is_err() {
                panic!("not in time: {what}; the last report was {last:?}");
            }
            match self.worker.poll() {
                Some(report) if report.generation == self.generation && is_so(&report) => {
                    return report;
                }
                report => last = report.or(last),
            }
        }
    }
}

/// A socket at which nobody ever answers, as an engine that hangs. It goes with its
/// directory.
pub struct HungEngine {
    _dir: tempfile::TempDir,
    pub socket: PathBuf,
}

impl HungEngine {
    pub fn new() -> HungEngine {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        HungEngine::at(&socket);
        HungEngine { _dir: dir, socket }
    }

    /// The same at a given place.
    pub fn at(socket: &Path) {
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            // Taken and kept open: the caller hears nothing at all.
            let mut taken = Vec::new();
            for stream in listener.incoming() {
                taken.push(stream);
            }
        });
    }
}

/// An engine as far as a test makes one up: it answers as told, and keeps what it
/// was asked.
pub struct FakeEngine {
    _dir: tempfile::TempDir,
    pub socket: PathBuf,
    /// First lines and bodies.
    pub asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl FakeEngine {
    /// `answer` gives status and body for a request's first line; `None`: nothing
    /// ever, on an open connection.
    pub fn new(answer: impl Fn(&str) -> Option<(u16, String)> + Send + 'static) -> FakeEngine {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (line, body) = read_request(&stream);
                let answer = answer(&line);
                log.lock().unwrap().push((line, body));
                match answer {
                    None => open.push(stream),
                    Some((status, body)) => {
                        let length = body.len();
                        let head =
                            format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\n\r\n");
                        let _ = stream.write_all(format!("{head}{body}").as_bytes());
                    }
                }
            }
        });
        FakeEngine {
            _dir: dir,
            socket,
            asked,
        }
    }
}

fn read_request(stream: &UnixStream) -> (String, String) {
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let (mut header, mut length) = (String::new(), 0);
    while lines.read_line(&mut header).unwrap() > 2 {
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        header.clear();
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).unwrap();
    (line.trim().to_owned(), String::from_utf8(body).unwrap())
}
