//! Container engines on test hosts, fake engines, and the executor of their networks.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use overlay_core::EngineReport;
use overlay_core::host_api::engine::EngineDesired;
use overlay_core::host_api::engine::Network;
use overlay_host::docker::Executor;
use serde_json::Value;
use testbed::docker::Engine;
use testbed::run::Run;

use super::host::{Host, PATIENCE, net};

/// A host with its own engine.
pub struct DockerHost {
    /// Dropped before its host.
    pub engine: Engine,
    /// The host, dropped after the engine.
    pub host: Host,
    // Dropped last, because it removes everything of the run.
    _run: Run,
}

impl DockerHost {
    /// Returns a host with an engine that does not run yet.
    pub fn stopped() -> DockerHost {
        let (run, host) = (Run::new().unwrap(), Host::new());
        let engine = Engine::new(&run, "engine", &host.netns()).unwrap();
        DockerHost {
            engine,
            host,
            _run: run,
        }
    }

    /// Returns a host with a running engine.
    pub fn started() -> DockerHost {
        let mut host = DockerHost::stopped();
        host.engine.start().unwrap();
        host
    }

    /// Runs `docker` with these arguments and returns its output.
    pub fn docker(&self, line: &str) -> String {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.engine
            .docker(&args)
            .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Returns the engine's description of a network; `None` if it does not exist.
    pub fn network(&self, name: &str) -> Option<Value> {
        let text = self.engine.docker(&["network", "inspect", name]).ok()?;
        Some(serde_json::from_str::<Value>(&text).unwrap()[0].take())
    }

    /// Returns the engine's id of a network.
    pub fn id(&self, name: &str) -> Option<String> {
        Some(self.network(name)?["Id"].as_str()?.to_owned())
    }

    /// Returns the desired state of the `n`th agent: one dual-stack network, `dcos`.
    pub fn desired(&self, n: u8) -> EngineDesired {
        EngineDesired {
            socket: self.engine.socket(),
            timeout: Duration::from_secs(15),
            networks: [("dcos".to_owned(), network("d-dcos", n))].into(),
            fit_mtu: false,
            firewall_accepts: true,
        }
    }
}

/// Returns a network with the upper halves of the `n`th agent's subnets (see
/// [`super::host::overlay`]).
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

/// An executor of which the test can wait for reports.
pub struct EngineKeeper {
    executor: Executor,
    woken: Receiver<()>,
    generation: u64,
}

impl EngineKeeper {
    /// Starts the worker.
    pub fn spawn() -> EngineKeeper {
        let (wake, woken) = channel();
        let executor = Executor::spawn(move || _ = wake.send(())).unwrap();
        EngineKeeper {
            executor,
            woken,
            generation: 0,
        }
    }

    /// Requests a desired state and returns the first report about it.
    pub fn apply(&mut self, desired: &EngineDesired) -> EngineReport {
        self.generation += 1;
        self.executor
            .apply(self.generation, Arc::new(desired.clone()));
        self.report()
    }

    /// Requests a desired state, asserts that the report is without errors and notes, and
    /// returns the number of operations.
    pub fn apply_ok(&mut self, desired: &EngineDesired) -> usize {
        let report = self.apply(desired);
        assert!(report.is_ok() && report.notes.is_empty(), "{report:?}");
        report.operations
    }

    /// Waits for the next report about the last desired state.
    pub fn report(&mut self) -> EngineReport {
        self.wait("any report", |_| true)
    }

    /// Waits for a report about the last desired state that satisfies the predicate.
    pub fn wait(&mut self, what: &str, predicate: impl Fn(&EngineReport) -> bool) -> EngineReport {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.woken.recv_timeout(left).is_err() {
                panic!("timed out waiting for {what}; the last report was {last:?}");
            }
            match self.executor.poll() {
                Some(report) if report.generation == self.generation && predicate(&report) => {
                    return report;
                }
                report => last = report.or(last),
            }
        }
    }
}

/// A socket that accepts connections and never answers, like an engine that hangs.
pub struct HungEngine {
    _dir: tempfile::TempDir,
    /// Path of the socket.
    pub socket: PathBuf,
}

impl HungEngine {
    /// Makes a socket in a directory of its own.
    pub fn spawn() -> HungEngine {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        HungEngine::at(&socket);
        HungEngine { _dir: dir, socket }
    }

    /// Creates such a socket at a path.
    pub fn at(socket: &Path) {
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            // Open connections without an answer.
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                connections.push(stream);
            }
        });
    }
}

/// An engine with scripted answers that records its requests.
pub struct FakeEngine {
    _dir: tempfile::TempDir,
    /// Path of the socket.
    pub socket: PathBuf,
    /// Requests in the order of their arrival.
    pub requests: Arc<Mutex<Vec<FakeRequest>>>,
}

/// A request to a [`FakeEngine`].
pub struct FakeRequest {
    /// Request line, such as `GET /version HTTP/1.1`.
    pub line: String,
    /// Body of the request.
    pub body: String,
}

impl FakeEngine {
    /// Starts an engine. `answer` returns status and body for a request line; with `None` the
    /// connection stays open without an answer.
    pub fn new(answer: impl Fn(&str) -> Option<(u16, String)> + Send + 'static) -> FakeEngine {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read_request(&stream);
                let answer = answer(&request.line);
                log.lock().unwrap().push(request);
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
            requests,
        }
    }
}

fn read_request(stream: &UnixStream) -> FakeRequest {
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
    FakeRequest {
        line: line.trim().to_owned(),
        body: String::from_utf8(body).unwrap(),
    }
}
