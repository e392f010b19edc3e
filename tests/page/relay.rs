//! A small HTTP proxy between the browser and a master in another network namespace.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testbed::netns::{self, Netns};
use testbed::node::Node;

const LIMIT: Duration = Duration::from_secs(60);
const MAX_HEAD: usize = 64 << 10;

/// Serves a master at an address of this machine, below a path. It runs until the process ends.
pub struct Relay {
    address: SocketAddr,
    prefix: String,
    target: Arc<Mutex<Target>>,
    /// The number of requests that a fault has met.
    requests: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct Target {
    address: SocketAddr,
    netns: Option<Netns>,
    /// The number of tasks that are made up.
    tasks: Option<usize>,
    /// The tasks in the place of all others.
    only: Option<Vec<Value>>,
    fault: Option<Fault>,
}

/// Treatment of requests whose path contains a text, instead of passing them on.
#[derive(Clone, Copy)]
pub enum Fault {
    /// Answer with this status.
    Status(&'static str, u16),
    /// No answer.
    Silence(&'static str),
}

impl Relay {
    /// Serves a master below `prefix`, such as `/mesos`, which may be empty.
    pub fn start(master: &Node, prefix: &str) -> Relay {
        Relay::to(
            master.address(),
            master.host().map(|host| host.netns().clone()),
            prefix,
        )
    }

    /// Serves a master, with this number of made-up tasks in the place of its own.
    pub fn with_tasks(master: &Node, tasks: usize) -> Relay {
        let relay = Relay::start(master, "");
        relay.target.lock().unwrap().tasks = Some(tasks);
        relay
    }

    fn to(address: SocketAddr, netns: Option<Netns>, prefix: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay {
            address: listener.local_addr().unwrap(),
            prefix: prefix.to_owned(),
            target: Arc::new(Mutex::new(Target {
                address,
                netns,
                tasks: None,
                only: None,
                fault: None,
            })),
            requests: Arc::default(),
        };
        let (target, prefix) = (relay.target.clone(), relay.prefix.clone());
        let requests = relay.requests.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = target.lock().unwrap().clone();
                let (prefix, requests) = (prefix.clone(), requests.clone());
                // Browsers end connections in the middle of answers.
                thread::spawn(move || drop(relay_one(client, &target, &prefix, &requests)));
            }
        });
        relay
    }

    /// Gives Mesos these tasks in the place of its own.
    pub fn set_tasks(&self, tasks: Vec<Value>) {
        self.target.lock().unwrap().only = Some(tasks);
    }

    /// Sets what fails from now on.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.target.lock().unwrap().fault = fault;
    }

    /// Returns how many requests have met a fault.
    pub fn failed(&self) -> usize {
        self.requests.load(Relaxed)
    }

    /// Returns the URL of a path of the master.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{}{path}", self.address, self.prefix)
    }

    /// Returns the URL of a view of the page.
    pub fn page(&self, view: &str) -> String {
        self.url(&format!("/overlay-master/ui{view}"))
    }
}

/// Passes on one request, without `prefix` in its path, and its answer.
fn relay_one(
    mut client: TcpStream,
    target: &Target,
    prefix: &str,
    failed: &AtomicUsize,
) -> Result<()> {
    client.set_read_timeout(Some(LIMIT))?;
    let (head, rest) = read_head(&mut client)?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let (method, path) = first.split_once(' ').context("no request line")?;
    let Some(path) = path.strip_prefix(prefix) else {
        client.write_all(
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )?;
        return Ok(());
    };
    match target.fault {
        Some(Fault::Status(part, status)) if path.contains(part) => {
            failed.fetch_add(1, Relaxed);
            return answer(&mut client, status, "This is a fault.");
        }
        Some(Fault::Silence(part)) if path.contains(part) => {
            failed.fetch_add(1, Relaxed);
            // Until the browser ends the connection.
            io::copy(&mut client, &mut io::sink())?;
            return Ok(());
        }
        _ => {}
    }
    if let Some(tasks) = target
        .only
        .as_ref()
        .filter(|_| path.starts_with("/master/tasks?"))
    {
        return answer(&mut client, 200, &json!({ "tasks": tasks }).to_string());
    }
    if let Some(body) = target.tasks.and_then(|tasks| made_up(path, tasks)) {
        return answer(&mut client, 200, &body);
    }
    let mut request = format!("{method} {path}\r\nConnection: close\r\n");
    let is_kept = |line: &&str| !line.is_empty() && !line.to_lowercase().starts_with("connection:");
    for line in lines.filter(is_kept) {
        request.push_str(line);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    let mut server = netns::connect(target.netns.as_ref(), target.address, LIMIT)?;
    server.write_all(request.as_bytes())?;
    server.write_all(&rest)?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    // The rest of the body.
    thread::spawn(move || io::copy(&mut from, &mut to));
    // Mesos ends the connection without saying so, and the browser would use it again.
    let (head, rest) = read_head(&mut server)?;
    let (status, headers) = head.split_once("\r\n").context("no status")?;
    client.write_all(format!("{status}\r\nConnection: close\r\n{headers}").as_bytes())?;
    client.write_all(&rest)?;
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)?;
    Ok(())
}

fn answer(client: &mut TcpStream, status: u16, body: &str) -> Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())?;
    Ok(())
}

/// Reads the head of a request or an answer, and what came behind it.
fn read_head(peer: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(END.len()).position(|window| window == END) {
            let rest = bytes.split_off(end + END.len());
            return Ok((String::from_utf8(bytes)?, rest));
        }
        let count = peer.read(&mut buffer)?;
        ensure!(count > 0 && bytes.len() < MAX_HEAD, "the connection ended");
        bytes.extend_from_slice(&buffer[..count]);
    }
}

/// Number of agents with made-up tasks.
const AGENTS: usize = 10_000;

/// Returns the answer of Mesos for this number of made-up tasks on network `dcos`; `None`: it is not
/// asked for tasks.
fn made_up(path: &str, tasks: usize) -> Option<String> {
    let path = path.split(' ').next()?;
    if path == "/master/state-summary" {
        let slave = |number| {
            let ip = testkit::load::generator::address(number);
            json!({"id": format!("S{number}"), "pid": format!("slave(1)@{ip}"), "hostname": format!("host-{number}.example")})
        };
        let slaves: Vec<Value> = (0..AGENTS).map(slave).collect();
        return Some(
            json!({"frameworks": [{"id": "F1", "name": "marathon"}], "slaves": slaves}).to_string(),
        );
    }
    let query = path.strip_prefix("/master/tasks?")?;
    let number = |key: &str| {
        let values = query.split('&').filter_map(|pair| pair.split_once('='));
        values
            .filter(|(name, _)| *name == key)
            .find_map(|(_, value)| value.parse().ok())
    };
    let (limit, offset) = (number("limit")?, number("offset")?);
    let shown: Vec<Value> = (offset..tasks.min(offset + limit)).map(task).collect();
    Some(json!({ "tasks": shown }).to_string())
}

/// Returns a task as long as those of Mesos.
fn task(number: usize) -> Value {
    let (subnet, host) = (number % AGENTS, 2 + number / AGENTS);
    let address = format!("9.{}.{}.{host}", subnet / 256, subnet % 256);
    let info =
        json!({"name": "dcos", "ip_addresses": [{"protocol": "IPv4", "ip_address": address}]});
    let status = |state: &str| {
        json!({
            "state": state, "timestamp": 1_700_000_000 - number,
            "container_status": {"container_id": {"value": format!("container-of-task-{number}")}, "network_infos": [info]},
        })
    };
    json!({
        "id": format!("task-{number}.instance-0123456789abcdef"), "name": format!("task-{number}"),
        "framework_id": "F1", "executor_id": "", "slave_id": format!("S{subnet}"), "state": "TASK_RUNNING",
        "resources": {"disk": 0.0, "mem": 32.0, "gpus": 0.0, "cpus": 0.05, "ports": "[31000-31000]"},
        "role": "*", "statuses": [status("TASK_STARTING"), status("TASK_RUNNING")],
        "labels": [{"key": "HAPROXY_GROUP", "value": "external"}],
        "discovery": {"visibility": "FRAMEWORK", "name": format!("task-{number}"), "ports": {"ports": [{"number": 80, "name": "http", "protocol": "tcp"}]}},
        "container": {"type": "MESOS", "network_infos": [{"name": "dcos"}]},
    })
}
