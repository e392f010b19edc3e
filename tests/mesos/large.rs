//! Clusters with a large state, which is stored as differences, answered from a file in memory, and
//! sent to agents in compressed form.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use overlay_core::proto::State;
use prost::Message;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::mesos::Mesos;
use testbed::node::without_ages;
use testbed::{net, skip, wait};
use testkit::load::generator::Generator;
use testkit::load::round::{network, v4};
use testkit::watch::held;

use crate::common::{LIMIT, state, subnets};

const AGENTS: usize = 700;

/// Starts a master, real agents and simulated agents in an isolated network namespace, and runs a
/// test with them.
fn with_agents(
    test: &str,
    real: usize,
    rest: impl FnOnce(&mut Cluster, &mut Generator) -> Result<()> + Send,
) {
    if !skip::require_hosts(test) || skip::require_mesos(test).is_none() {
        return;
    }
    net::isolated(|| {
        let mut setup = ClusterConfig {
            network: network(),
            ..ClusterConfig::new(real, Placement::Loopback)?
        };
        // The network namespace is isolated.
        setup.agent_config =
            json!({ "firewall": "none", "network_config": { "docker_bridge": false } });
        let mut cluster = Cluster::start(&setup)?;
        let mut generator = Generator::new(v4(&cluster.master)?, 0)?;
        join(&mut generator, AGENTS)?;
        rest(&mut cluster, &mut generator)
    })
    .unwrap();
}

fn join(generator: &mut Generator, count: usize) -> Result<()> {
    generator.join(count);
    generator.until("all to be registered", LIMIT, Generator::all_registered)?;
    Ok(())
}

/// Reads the value of a replica through Mesos's storage, as the C++ module does.
fn read_as_the_predecessor(cluster: &Cluster) -> Result<State> {
    let replica = cluster.master.dir().join("log/overlay_replicated_log");
    let mut launcher = Command::new(Mesos::get()?.launcher());
    launcher.arg("variable").arg(&replica).arg("network-state");
    // Otherwise libprocess asks a name server for its own address.
    let output = launcher
        .env("LIBPROCESS_IP", cluster.master.ip())
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    State::decode(output.stdout.as_slice()).context("what the replica has")
}

/// Returns the number of differences in the replica's files, which are not compressed. Subversion's
/// format begins with this text.
fn differences(cluster: &Cluster) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(cluster.master.dir().join("log/overlay_replicated_log"))? {
        let bytes = fs::read(entry?.path())?;
        count += bytes.windows(4).filter(|window| window == b"SVN\0").count();
    }
    Ok(count)
}

#[test]
fn differences_in_the_log_are_read_by_whoever_comes() {
    with_agents(
        "differences_in_the_log_are_read_by_whoever_comes",
        0,
        |cluster, generator| {
            // More than follow on one whole state, twice.
            for _ in 0..40 {
                join(generator, 1)?;
            }
            let before = subnets(&state(&cluster.master)?);
            ensure!(before.len() == AGENTS + 40, "{} agents", before.len());
            cluster.master.kill()?;
            let count = differences(cluster)?;
            ensure!(count >= 30, "{count} differences were written");
            let stored = read_as_the_predecessor(cluster)?;
            for agent in &stored.agents {
                ensure!(
                    before.get(&agent.ip) == agent.overlays[0].subnet.as_ref(),
                    "{agent:?}"
                );
            }
            ensure!(
                stored.agents.len() == before.len(),
                "{} agents are stored",
                stored.agents.len()
            );

            cluster.master.start()?;
            wait::until("the state of before", LIMIT, || {
                cluster.check()?;
                let after = subnets(&state(&cluster.master)?);
                ensure!(after == before, "{} agents", after.len());
                Ok(Some(()))
            })?;
            // The master continues after that.
            generator.join_again();
            join(generator, 1)?;
            ensure!(subnets(&state(&cluster.master)?).len() == before.len() + 1);
            Ok(())
        },
    );
}

#[test]
fn every_client_gets_a_large_state() {
    with_agents("every_client_gets_a_large_state", 0, |cluster, _| {
        let client = cluster.master.client();
        let path = "/overlay-master/state";
        let parsed =
            |body: &[u8]| -> Result<Value> { Ok(without_ages(serde_json::from_slice(body)?)) };
        let plain = client.get(path)?;
        let state = parsed(&plain.body)?;
        let length = plain.body.len();
        ensure!(length > 256 << 10, "{length} bytes are not many");
        for headers in [
            &[][..],
            &[("Connection", "keep-alive")],
            &[("Connection", "close")],
            &[("Accept-Encoding", "deflate, gzip")],
        ] {
            let reply = client.request("GET", path, headers, b"")?;
            let header = |name| reply.header(name);
            ensure!(
                (header("Content-Type"), header("X-Content-Type-Options"))
                    == ("application/json", "nosniff"),
                "{:?}",
                reply.headers
            );
            ensure!(
                header("Content-Length") == reply.body.len().to_string(),
                "{:?}",
                reply.headers
            );
            ensure!(header("Content-Encoding").is_empty(), "{:?}", reply.headers);
            ensure!(parsed(&reply.body)? == state);
        }
        let jsonp = client.get(&format!("{path}?jsonp=cb"))?;
        ensure!(jsonp.header("Content-Type") == "text/javascript");
        ensure!(jsonp.text().starts_with("cb({") && jsonp.text().ends_with(')'));
        let nothing = json!({ "agents": [] });
        let deleted = client.post("/overlay-master/agents/delete", &nothing)?;
        ensure!(parsed(&deleted.body)? == state, "the answer to a change");

        let ask = |method: &str, version: &str| -> Result<TcpStream> {
            let mut stream = TcpStream::connect(v4(&cluster.master)?)?;
            let request = format!("{method} {path} HTTP/{version}\r\nHost: master\r\n\r\n");
            stream.write_all(request.as_bytes())?;
            Ok(stream)
        };
        let mut old = String::new();
        ask("GET", "1.0")?.read_to_string(&mut old)?;
        let (_, body) = old
            .split_once("\r\n\r\n")
            .context("no end of the headers")?;
        ensure!(parsed(body.as_bytes())? == state);
        let mut head = String::new();
        ask("HEAD", "1.0")?.read_to_string(&mut head)?;
        ensure!(
            head.ends_with("\r\n\r\n"),
            "HEAD has no body: {} bytes",
            head.len()
        );
        ensure!(head.contains("Content-Length: "), "{head}");
        // A client that disconnects within an answer must not affect others.
        for _ in 0..5 {
            ask("GET", "1.1")?.read_exact(&mut [0; 100])?;
        }
        cluster.check()?;
        ensure!(parsed(&client.get(path)?.body)? == state);
        Ok(())
    });
}

/// Number of clients that ask for a large state and read nothing.
const DEAF: usize = 300;

#[test]
fn clients_that_read_nothing_cost_little_and_are_given_up() {
    let test = "clients_that_read_nothing_cost_little_and_are_given_up";
    with_agents(test, 0, |cluster, _| {
        // The kernel buffers a part of an answer only.
        fs::write("/proc/sys/net/ipv4/tcp_wmem", "4096 16384 131072")?;
        let client = cluster.master.client();
        let length = client.get("/overlay-master/state")?.body.len();
        let pid = cluster.master.pid().context("no master")?;
        let before = held(pid)?;
        let ask = |_| -> Result<TcpStream> {
            let mut stream = TcpStream::connect(v4(&cluster.master)?)?;
            write!(
                stream,
                "GET /overlay-master/state HTTP/1.1\r\nHost: master\r\n\r\n"
            )?;
            Ok(stream)
        };
        let clients = (0..DEAF).map(ask).collect::<Result<Vec<_>>>()?;
        // The requests are handled in their order.
        let start = Instant::now();
        wait::until("an answer to another client", LIMIT, || {
            let reply = client.get("/overlay-master/state")?;
            ensure!(reply.body.len() >= length, "{} bytes", reply.body.len());
            Ok(Some(()))
        })?;
        let answered = start.elapsed();
        let during = held(pid)?;
        let mut files = 0;
        for mut client in clients {
            client.set_read_timeout(Some(2 * LIMIT))?;
            let mut received = Vec::new();
            // Reading could be what the server waits for, so it begins when the others ended.
            wait::until("the connection to be given up", 2 * LIMIT, || {
                Ok(is_ended(&client)?.then_some(()))
            })?;
            // The kernel discards what was not sent.
            let _ = client.read_to_end(&mut received);
            ensure!(received.len() < length, "{} bytes", received.len());
            files = files.max(held(pid)?.files);
        }
        let given_up = start.elapsed();
        let after = wait::until("the files to be closed", LIMIT, || {
            let held = held(pid)?;
            // The module keeps a few to use them again.
            Ok((held.files <= before.files + 32).then_some(held))
        })?;
        println!(
            "{DEAF} clients, {} KiB each: memory {} MiB before, {} MiB during, {} MiB after; open files {}, {}, {}; \
             another client had its answer after {answered:.1?}; all were given up after {given_up:.1?}",
            length >> 10,
            before.memory >> 20,
            during.memory >> 20,
            after.memory >> 20,
            before.files,
            during.files.max(files),
            after.files
        );
        let growth = during.memory.saturating_sub(before.memory);
        ensure!(
            growth < (DEAF * length / 4) as u64,
            "{} MiB more",
            growth >> 20
        );
        ensure!(given_up < 2 * LIMIT, "{given_up:?}");
        cluster.check()
    });
}

/// Returns whether the server has ended the connection of a client that has not read its answer.
fn is_ended(client: &TcpStream) -> Result<bool> {
    let mut events = [PollFd::new(client.as_fd(), PollFlags::empty())];
    poll(&mut events, PollTimeout::ZERO)?;
    let events = events[0].revents().unwrap_or(PollFlags::empty());
    Ok(events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}

#[test]
fn a_long_list_of_peers_reaches_the_kernel() {
    with_agents(
        "a_long_list_of_peers_reaches_the_kernel",
        1,
        |cluster, generator| {
            let neighbours = || -> Result<usize> {
                let shown = Command::new("ip")
                    .args(["neigh", "show", "dev", "vtep1024", "nud", "permanent"])
                    .output()?;
                Ok(String::from_utf8(shown.stdout)?
                    .lines()
                    .filter(|line| line.starts_with("44.128."))
                    .count())
            };
            let wait = |cluster: &mut Cluster, count: usize| {
                wait::until("the neighbours", LIMIT, || {
                    cluster.check()?;
                    let there = neighbours()?;
                    ensure!(there == count, "{there} of {count} neighbours");
                    Ok(Some(()))
                })?;
                // Metrics may be a second old.
                wait::until("the metric", LIMIT, || {
                    let metrics = cluster.agents[0]
                        .client()
                        .get("/metrics/snapshot")?
                        .json()?;
                    ensure!(metrics["overlay/slave/peers"] == count as f64, "{metrics}");
                    ensure!(
                        metrics["overlay/slave/internal/update_peers_messages_dropped"] == 0.0,
                        "{metrics}"
                    );
                    Ok(Some(()))
                })
            };
            wait(cluster, AGENTS)?;
            join(generator, 20)?;
            wait(cluster, AGENTS + 20)?;
            // The restarted agent has no peers and needs the complete list.
            cluster.agents[0].restart()?;
            join(generator, 1)?;
            wait(cluster, AGENTS + 21)
        },
    );
}
