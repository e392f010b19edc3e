//! Clusters with a large state, which is stored as differences, answered in chunks, and sent to
//! agents in compressed form.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use overlay_core::proto::State;
use prost::Message;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::mesos::Mesos;
use testbed::node::without_ages;
use testbed::{net, skip, wait};
use testkit::load::generator::Generator;
use testkit::load::round::{network, v4};

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
fn a_large_state_comes_in_chunks_to_those_who_take_them() {
    with_agents(
        "a_large_state_comes_in_chunks_to_those_who_take_them",
        0,
        |cluster, _| {
            let client = cluster.master.client();
            let path = "/overlay-master/state";
            let get = |headers: &[(&str, &str)]| client.request("GET", path, headers, b"");
            let chunked = get(&[])?;
            ensure!(
                chunked.header("Transfer-Encoding") == "chunked",
                "{:?}",
                chunked.headers
            );
            ensure!(
                chunked.header("Content-Length").is_empty(),
                "{:?}",
                chunked.headers
            );
            ensure!(
                chunked.header("Content-Type") == "application/json",
                "{:?}",
                chunked.headers
            );
            ensure!(
                chunked.body.len() > 256 << 10,
                "{} bytes are not many",
                chunked.body.len()
            );
            // HTTP/1.0 has no chunks; this header keeps the connection open.
            let whole = get(&[("Connection", "keep-alive")])?;
            ensure!(
                whole.header("Transfer-Encoding").is_empty(),
                "{:?}",
                whole.headers
            );
            ensure!(
                whole.header("Content-Length") == whole.body.len().to_string(),
                "{:?}",
                whole.headers
            );
            let parsed =
                |body: &[u8]| -> Result<Value> { Ok(without_ages(serde_json::from_slice(body)?)) };
            ensure!(parsed(&chunked.body)? == parsed(&whole.body)?);
            let compressed = get(&[("Accept-Encoding", "deflate, gzip")])?;
            ensure!(
                compressed.header("Content-Encoding") == "gzip",
                "{:?}",
                compressed.headers
            );
            ensure!(
                compressed.body.len() < whole.body.len() / 4,
                "{} bytes",
                compressed.body.len()
            );
            let closed = get(&[("Connection", "close")])?;
            ensure!(
                closed.header("Content-Length") == closed.body.len().to_string(),
                "{:?}",
                closed.headers
            );
            let jsonp = client.get(&format!("{path}?jsonp=cb"))?;
            ensure!(
                jsonp.header("Content-Type") == "text/javascript",
                "{:?}",
                jsonp.headers
            );
            ensure!(
                jsonp.text().starts_with("cb({") && jsonp.text().ends_with(')'),
                "{}",
                jsonp.body.len()
            );
            let ask = |version: &str| -> Result<TcpStream> {
                let mut stream = TcpStream::connect(v4(&cluster.master)?)?;
                write!(stream, "GET {path} HTTP/{version}\r\nHost: master\r\n\r\n")?;
                Ok(stream)
            };
            let mut old = String::new();
            ask("1.0")?.read_to_string(&mut old)?;
            let (head, body) = old
                .split_once("\r\n\r\n")
                .context("no end of the headers")?;
            ensure!(
                head.contains("Content-Length") && !head.contains("chunked"),
                "{head}"
            );
            ensure!(parsed(body.as_bytes())? == parsed(&whole.body)?);
            // A client that disconnects within an answer must not affect others.
            for _ in 0..5 {
                ask("1.1")?.read_exact(&mut [0; 100])?;
            }
            cluster.check()?;
            ensure!(parsed(&get(&[])?.body)? == parsed(&whole.body)?);
            Ok(())
        },
    );
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
