//! Modules that are created twice in one process of Mesos, and both modules in one process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use serde_json::json;
use testbed::cluster::Cluster;
use testbed::{paths, wait};

use crate::common::{LIMIT, loopback};

/// Module of the name of the master's, which creates that of `LIBRARY` twice.
const TWICE: &str = r#"
#include <dlfcn.h>
#include <stdio.h>

struct manifest {
  const char *api, *mesos, *kind, *author, *email, *description;
  _Bool (*compatible)(void);
  void *(*create)(const void *parameters);
};

static struct manifest *ours(void)
{
  return dlsym(dlopen(LIBRARY, RTLD_NOW), "com_mesosphere_mesos_OverlayMasterManager");
}

static _Bool compatible(void) { return ours()->compatible(); }

static void *create(const void *parameters)
{
  void *first = ours()->create(parameters);
  void *second = ours()->create(parameters);
  fprintf(stderr, "first %s, second %s\n", first ? "created" : "failed", second ? "created" : "failed");
  return first;
}

struct manifest com_mesosphere_mesos_OverlayMasterManager = {
  "2", "1.11.0", "Anonymous", "tests", "tests", "Creates a module twice.", compatible, create};
"#;

/// Compiles the module into a directory.
fn compile_twice(directory: &Path) -> PathBuf {
    let (source, library) = (directory.join("twice.c"), directory.join("twice.so"));
    fs::write(&source, TWICE).unwrap();
    let define = format!("-DLIBRARY=\"{}\"", paths::module().unwrap().display());
    let output = Command::new("gcc")
        .args(["-shared", "-fPIC", "-Wall", "-Wextra", &define, "-o"])
        .args([&library, &source])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    library
}

#[test]
fn the_second_is_refused_and_the_first_serves() {
    let Some(setup) = loopback("the_second_is_refused_and_the_first_serves", 0) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let master = &mut cluster.master;
    let library = compile_twice(master.dir());
    master.set_module(&library).unwrap();
    master.start().unwrap();
    master
        .wait_log("first created, second failed", LIMIT)
        .unwrap();
    let log = master.log();
    let line = log
        .lines()
        .find(|line| line.contains("not created"))
        .unwrap();
    assert!(line.starts_with('E'), "{line}");
    assert!(
        line.contains(
            "overlay-master: not created, because this Mesos has a process overlay-master already"
        ),
        "{line}"
    );
    assert!(!log.contains("has not started within"), "{log}");
    wait::until("the master to serve", LIMIT, || {
        master.check()?;
        master.overlay_state().map(Some)
    })
    .unwrap();
}

/// On DC/OS the agent module runs in every Mesos master, too.
#[test]
fn both_modules_run_in_one_master() {
    let Some(setup) = loopback("both_modules_run_in_one_master", 0) else {
        return;
    };
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let master = &mut cluster.master;
    let config = |role: &str| master.dir().join(format!("{role}.json"));
    let agent = json!({
        "master": master.address().to_string(),
        "cni_dir": master.dir().join("cni"),
        "backend": "external",
        "firewall": "none",
        "network_config": { "allocate_subnet": false, "mesos_bridge": false, "docker_bridge": false },
    });
    fs::write(config("agent"), agent.to_string()).unwrap();
    let module = |name: &str, role: &str| {
        let parameter = json!({ "key": format!("{role}_config"), "value": config(role) });
        json!({ "name": format!("com_mesosphere_mesos_Overlay{name}Manager"), "parameters": [parameter] })
    };
    let library = json!({
        "file": paths::module().unwrap(),
        "modules": [module("Master", "master"), module("Agent", "agent")],
    });
    master.set("MESOS_MODULES", json!({ "libraries": [library] }));
    master.start().unwrap();
    wait::until(
        "the agent module to register with the master module",
        LIMIT,
        || {
            master.check()?;
            let state = master.overlay_state()?;
            let agents = state["agents"].as_array().map_or(0, Vec::len);
            ensure!(agents == 1, "the state is {state}");
            Ok(Some(()))
        },
    )
    .unwrap();
}
