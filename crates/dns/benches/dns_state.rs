//! Benchmark of the names of a large cluster: time and memory of its whole state, and the time from a
//! change at the master to the answer. docs/dev/performance.md explains the results and their aims.

use std::fs;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use overlay_dns::events::{self, Item};
use overlay_dns::publisher::{Now, Publisher, Settings, default_domain};
use overlay_dns::server::authority::Authority;
use overlay_dns::zone::{Lookup, Zones, parse_name};

/// Number of tasks.
const TASKS: u32 = 100_000;
/// Tasks of an agent.
const TASKS_OF_AGENT: u32 = 25;
/// Tasks that have the same name, as instances of one app do.
const INSTANCES: u32 = 4;
/// Number of changes whose times are measured.
const CHANGES: u32 = 50;

fn main() -> Result<()> {
    let instances = [1, INSTANCES];
    for instances in instances {
        // Each in a process of its own would be better for memory; the larger one is the last.
        measure(instances).with_context(|| format!("{instances} instances"))?;
    }
    Ok(())
}

fn measure(instances: u32) -> Result<()> {
    let authority = Arc::new(Authority::new(Zones::default()));
    let start = Instant::now();
    let now = move || Now {
        clock: start.elapsed(),
        calendar: SystemTime::now(),
    };
    let settings = Settings {
        domains: vec![default_domain()],
        ranges: Vec::new(),
        mname: None,
        rname: None,
        name_servers: Vec::new(),
        addresses: Vec::new(),
        max_age: Duration::MAX,
    };
    let mut publisher = Publisher::new(settings, None, Arc::clone(&authority), now());
    publisher.set_overlays(vec!["9.0.0.0/8".parse()?], now());
    let before = memory("VmRSS")?;
    let state = BufReader::with_capacity(64 << 10, State::new(instances));
    // As in the program, events are decoded by one thread and handled by another.
    let (sender, items) = mpsc::sync_channel::<Item>(1024);
    let begin = Instant::now();
    let reader = thread::spawn(move || {
        let mut state = state;
        let outcome = events::decode(&mut state, &mut |item| {
            let _ = sender.send(item);
        });
        outcome.map(|()| (state.get_ref().sent, sender))
    });
    let mut ends = false;
    while !ends {
        let item = items.recv()?;
        ends = matches!(item, Item::StateEnds { .. });
        publisher.handle(item, now());
        publisher.tick(now());
    }
    let whole = begin.elapsed();
    let (sent, sender) = reader.join().map_err(|_| anyhow::anyhow!("a panic"))??;
    let counts = publisher.cluster().counts();
    let (names, serials) = {
        let zones = authority.zones();
        let records: usize = zones.iter().map(overlay_dns::zone::Zone::len).sum();
        (records, zones.iter().count())
    };
    println!("{TASKS} tasks, {instances} of each name: {names} records in {serials} zones");
    println!(
        "  whole state ({} MB): {:.2} s",
        sent >> 20,
        whole.as_secs_f64()
    );
    println!(
        "  memory: {} MB, at most {} MB",
        (memory("VmRSS")? - before) >> 20,
        memory("VmHWM")? >> 20
    );
    assert_eq!(counts.named, TASKS as usize);
    let begin = Instant::now();
    let content = publisher
        .snapshot(SystemTime::now())
        .context("no snapshot")?;
    println!(
        "  snapshot ({} MB): {:.2} s",
        content.len() >> 20,
        begin.elapsed().as_secs_f64()
    );
    drop(content);
    let again = Instant::now();
    events::decode(BufReader::new(State::new(instances)), &mut |item| {
        publisher.handle(item, now())
    })?;
    println!(
        "  the same state again, on one thread: {:.2} s",
        again.elapsed().as_secs_f64()
    );
    println!("  memory at most {} MB", memory("VmHWM")? >> 20);
    changes(publisher, &authority, sender, &items, now)
}

/// Measures the time from a new status of a task to the answer, through the thread of the table.
fn changes(
    mut publisher: Publisher,
    authority: &Arc<Authority>,
    sender: mpsc::SyncSender<Item>,
    items: &mpsc::Receiver<Item>,
    now: impl Fn() -> Now + Copy + Send,
) -> Result<()> {
    let mut times = Vec::new();
    thread::scope(|scope| -> Result<()> {
        let sends = scope.spawn(move || -> Result<Vec<Duration>> {
            let mut times = Vec::new();
            for number in 0..CHANGES {
                let name = format!("new-{number}.fw.containerip.dcos.thisdcos.directory");
                let name = parse_name(&name)?;
                let begin = Instant::now();
                let event = format!(
                    r#"{{"task_added":{{"task":{}}}}}"#,
                    task(number, &format!("new-{number}"))
                );
                let event = event.replace("\"t-", "\"n-");
                events::decode(event.as_bytes(), &mut |item| {
                    let _ = sender.send(item);
                })?;
                while !is_there(authority, name.as_slice()) {
                    thread::sleep(Duration::from_millis(1));
                }
                times.push(begin.elapsed());
            }
            Ok(times)
        });
        let mut next = None;
        loop {
            let clock = now().clock;
            let wait = next.unwrap_or(Duration::MAX).saturating_sub(clock);
            match items.recv_timeout(wait.min(Duration::from_secs(1))) {
                Ok(item) => publisher.handle(item, now()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            next = publisher.tick(now());
        }
        times = sends.join().map_err(|_| anyhow::anyhow!("a panic"))??;
        Ok(())
    })?;
    times.sort();
    let (median, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!("  a change to its answer: median {median:.1?}, at most {last:.1?}");
    Ok(())
}

fn is_there(authority: &Authority, name: &[u8]) -> bool {
    let zones = authority.zones();
    let zone = zones.zone_of(name);
    zone.is_some_and(|zone| matches!(zone.find(name), Lookup::Name(_)))
}

/// Returns a line of the process's status in bytes.
fn memory(line: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|text| text.strip_prefix(line));
    let number = line.and_then(|text| text.split_whitespace().nth(1));
    Ok(number.context("no such line")?.parse::<u64>()? << 10)
}

/// Returns a task as Mesos describes one, some 2 KB.
fn task(number: u32, name: &str) -> String {
    let [_, b, c, d] = number.to_be_bytes();
    let labels: Vec<String> = (0..8)
        .map(|label| format!(r#"{{"key":"LABEL_OF_SOME_LENGTH_{label}","value":"a value of the label that says something"}}"#))
        .collect();
    let network = format!(
        r#"{{"name":"dcos","labels":{{}},"ip_addresses":[{{"protocol":"IPv4","ip_address":"9.{b}.{c}.{d}"}}]}}"#
    );
    let status = |state: &str| {
        format!(
            r#"{{"task_id":{{"value":"t-{number}"}},"state":"{state}","source":"SOURCE_EXECUTOR","timestamp":17000.5,"uuid":"c29tZSB1dWlkIGhlcmU=","agent_id":{{"value":"s-{}"}},"container_status":{{"container_id":{{"value":"container-{number}-0123456789abcdef"}},"executor_pid":4711,"network_infos":[{network}]}}}}"#,
            number / TASKS_OF_AGENT
        )
    };
    format!(
        r#"{{"name":"{name}","task_id":{{"value":"t-{number}"}},"framework_id":{{"value":"f"}},"executor_id":{{"value":""}},"agent_id":{{"value":"s-{}"}},"state":"TASK_RUNNING","resources":[{{"name":"cpus","type":"SCALAR","scalar":{{"value":0.1}},"allocation_info":{{"role":"*"}}}},{{"name":"mem","type":"SCALAR","scalar":{{"value":64.0}},"allocation_info":{{"role":"*"}}}}],"statuses":[{},{}],"status_update_state":"TASK_RUNNING","labels":{{"labels":[{}]}},"discovery":{{"visibility":"FRAMEWORK","name":"{name}","ports":{{"ports":[{{"number":8080,"name":"http","protocol":"tcp"}}]}}}},"container":{{"type":"MESOS","network_infos":[{{"name":"dcos"}}]}},"user":"nobody"}}"#,
        number / TASKS_OF_AGENT,
        status("TASK_STARTING"),
        status("TASK_RUNNING"),
        labels.join(",")
    )
}

/// First event of a master's stream, which is generated while it is read.
struct State {
    instances: u32,
    next: u32,
    buffer: Vec<u8>,
    at: usize,
    sent: u64,
}

impl State {
    fn new(instances: u32) -> State {
        let agents: Vec<String> = (0..TASKS / TASKS_OF_AGENT)
            .map(|number| {
                let [_, b, c, d] = number.to_be_bytes();
                format!(r#"{{"agent_info":{{"id":{{"value":"s-{number}"}},"hostname":"10.{b}.{c}.{d}"}},"pid":"slave(1)@10.{b}.{c}.{d}:5051"}}"#)
            })
            .collect();
        let head = format!(
            r#"{{"type":"SUBSCRIBED","subscribed":{{"get_state":{{"get_frameworks":{{"frameworks":[{{"framework_info":{{"id":{{"value":"f"}},"name":"fw"}}}}]}},"get_agents":{{"agents":[{}]}},"get_tasks":{{"tasks":["#,
            agents.join(",")
        );
        State {
            instances,
            next: 0,
            buffer: head.into_bytes(),
            at: 0,
            sent: 0,
        }
    }
}

impl Read for State {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.buffer.len() {
            self.at = 0;
            self.buffer.clear();
            if self.next > TASKS {
                return Ok(0);
            }
            if self.next == TASKS {
                self.buffer
                    .extend_from_slice(br#"]}},"heartbeat_interval_seconds":15.0}}"#);
            } else {
                let name = format!("service-{}.group.team", self.next / self.instances);
                let text = task(self.next, &name);
                self.buffer
                    .extend_from_slice(if self.next > 0 { b"," } else { b"" });
                self.buffer.extend_from_slice(text.as_bytes());
            }
            self.next += 1;
        }
        let count = out.len().min(self.buffer.len() - self.at);
        out[..count].copy_from_slice(&self.buffer[self.at..self.at + count]);
        self.at += count;
        self.sent += count as u64;
        Ok(count)
    }
}
