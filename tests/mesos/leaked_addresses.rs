//! Addresses of `host-local` whose containers a restart of the host ended.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use testbed::cluster::Launcher;
use testbed::framework::{Framework, TaskSpec};
use testbed::{skip, wait};

use crate::common::{LIMIT, hosts, start};

/// Makes a file look as if it was written before the host started.
fn date_back(file: &Path) {
    let file = File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
}

#[test]
fn addresses_from_before_a_restart_are_given_back() {
    let name = "addresses_from_before_a_restart_are_given_back";
    let Some(setup) = hosts(name, 1) else { return };
    if setup.launcher != Launcher::Linux {
        return skip::skip(
            name,
            "Mesos needs the cgroup v1 freezer to start containers on a network",
        );
    }
    let mut cluster = start(&setup);
    let framework = Framework::subscribe(cluster.master.client()).unwrap();
    let agent = &cluster.agents[0];
    framework
        .launch(&TaskSpec::new("alive", &agent.ip(), Some("dcos")), LIMIT)
        .unwrap();
    let running = framework.wait_running("alive", LIMIT).unwrap();
    let alive = running.address().unwrap().ip().to_string();

    let dir = agent.dir().join("cni-data/dcos");
    // The clock of the host may have been wrong when the container started.
    date_back(&dir.join(&alive));
    let gone: Vec<_> = (100..120)
        .map(|last| dir.join(format!("9.0.0.{last}")))
        .collect();
    for file in &gone {
        fs::write(file, "b14e8b1a-0000-4000-8000-7d0a3b1c5f00\r\neth0").unwrap();
        date_back(file);
    }
    let line = cluster.agents[0]
        .wait_log("gave back addresses in", LIMIT)
        .unwrap();
    assert!(
        line.contains("9.0.0.1") && line.contains("and 10 more"),
        "{line}"
    );
    wait::until("the files to be gone", LIMIT, || {
        Ok(gone.iter().all(|file| !file.exists()).then_some(()))
    })
    .unwrap();
    assert!(dir.join(&alive).exists(), "the container is there");

    // Another program may have written this one.
    let other = dir.join("9.0.0.121");
    fs::write(&other, "of another program").unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let age = hour.min(std::time::Duration::from_secs_f64(uptime / 2.0));
    if age.as_secs() > 61 {
        let file = File::options().write(true).open(&other).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
        wait::until("the leaked address", LIMIT, || {
            let state = cluster.agents[0]
                .client()
                .get("/overlay-agent/overlay")?
                .json()?;
            let mesos = &state["overlays"][0]["addresses"]["mesos"];
            Ok((mesos["leaked"] == 1 && mesos["in_use"] == 2).then_some(()))
        })
        .unwrap();
        assert!(other.exists());
    }
}
