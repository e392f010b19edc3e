//! Something else than a file where the agent module has its files.

use std::fs;
use std::time::Instant;

use anyhow::ensure;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use testbed::wait;

use crate::common::{LIMIT, all_ok, hosts, start, wait_state};

/// Whoever opens a FIFO waits for the other end, which never comes.
#[test]
fn a_fifo_fails_its_overlay_and_hangs_nothing() {
    let Some(setup) = hosts("a_fifo_fails_its_overlay_and_hangs_nothing", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    let agent = &mut cluster.agents[0];
    let file = agent.dir().join("cni/dcos.conf");
    fs::remove_file(&file).unwrap();
    mkfifo(&file, Mode::S_IRWXU).unwrap();
    let begin = Instant::now();
    let expected = format!(
        "cannot write CNI configuration dcos.conf: {} is a FIFO and not a regular file; remove it",
        file.display()
    );
    let client = agent.client();
    wait::until("the overlay to fail", LIMIT, || {
        let overlays = client.get("/overlay-agent/overlay")?.json()?;
        let state = &overlays["overlays"][0]["state"];
        ensure!(state["error"] == *expected, "{state}");
        ensure!(state["status"] != "STATUS_OK", "{state}");
        Ok(Some(()))
    })
    .unwrap();
    println!("said after {:.1?}", begin.elapsed());
    let process = Pid::from_raw(agent.pid().unwrap().cast_signed());
    let begin = Instant::now();
    kill(process, Signal::SIGUSR1).unwrap();
    agent.wait_ended(LIMIT).unwrap();
    println!("ended after {:.1?}", begin.elapsed());
    assert!(!agent.log().contains("not waiting any longer"));
    fs::remove_file(&file).unwrap();
    agent.kill().unwrap();
    agent.start().unwrap();
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
}
