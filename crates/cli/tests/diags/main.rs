//! `mesos-overlay diags` on clusters of real Mesos: the archive has what it should have, and none of
//! the secrets that the hosts have.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::program::Program;
use testbed::{install, skip, wait};

const LIMIT: Duration = Duration::from_secs(60);

/// Secrets of the cluster, each in a place of its own.
const ZOOKEEPER: &str = "planted-zk-9f3e";
const HTTP: &str = "planted/http+4b21";
const KEY: &str = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210";
const VARIABLE: &str = "planted-variable-77aa";
const FLAG: &str = "planted-flag-1c0d";
const CNI: &str = "planted-cni-5e5e";
const LOG: &str = "cGxhbnRlZDpsb2c=";

const SECRETS: [&str; 7] = [ZOOKEEPER, HTTP, KEY, VARIABLE, FLAG, CNI, LOG];

/// Starts a cluster that has secrets wherever it can have them.
fn cluster(test: &str) -> Option<Cluster> {
    if !skip::require_hosts(test) {
        return None;
    }
    skip::require_mesos(test)?;
    if let Some(missing) = install::missing(install::ZOOKEEPER) {
        skip::skip(test, &missing);
        return None;
    }
    let mut setup = ClusterConfig::new(1, Placement::Hosts).unwrap();
    setup.zookeeper = true;
    setup.zookeeper_login = Some(format!("user:{ZOOKEEPER}"));
    setup.environment = vec![
        ("AWS_SECRET_ACCESS_KEY".into(), VARIABLE.into()),
        ("DEPLOY".into(), format!("x {VARIABLE}")),
        ("MESOS_AUTHENTICATION_SECRET".into(), FLAG.into()),
    ];
    let mut cluster = Cluster::prepare(&setup).unwrap();
    let credentials = json!({"credentials": [{"principal": "operator", "secret": HTTP}]});
    let agents = cluster
        .agents
        .iter_mut()
        .map(|agent| (agent, "MESOS_HTTP_CREDENTIALS"));
    let master = std::iter::once((&mut cluster.master, "MESOS_CREDENTIALS"));
    for (node, flag) in master.chain(agents) {
        let file = node.dir().join("credentials.json");
        fs::write(&file, credentials.to_string()).unwrap();
        node.set(flag, file.display());
        let key = node.dir().join("key");
        fs::write(&key, format!("{KEY}\n")).unwrap();
        fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        node.configure(|config| config["auth_key_file"] = json!(key))
            .unwrap();
    }
    let cni = cluster.agents[0].dir().join("cni/99-other.conf");
    fs::write(
        cni,
        json!({"name": "other", "type": "x", "etcd_password": CNI}).to_string(),
    )
    .unwrap();
    cluster.start_all().unwrap();
    cluster.wait_overlays(LIMIT).unwrap();
    let mut log = File::options()
        .append(true)
        .open(cluster.agents[0].log_file())
        .unwrap();
    writeln!(log, "I1130 overlay-agent: Authorization: Basic {LOG}").unwrap();
    writeln!(
        log,
        "I1130 overlay-agent: zk://user:{ZOOKEEPER}@10.0.0.1/x {HTTP} {KEY}"
    )
    .unwrap();
    Some(cluster)
}

/// Returns the files of an archive, by name without the directory.
fn files(archive: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(archive).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let name = path.iter().skip(1).collect::<std::path::PathBuf>();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (name.display().to_string(), text)
    });
    entries.collect()
}

/// Checks that no secret is in an archive, and that its manifest is right. Returns its files.
fn check(archive: &Path) -> BTreeMap<String, String> {
    let mode = fs::metadata(archive).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let files = files(archive);
    for (name, text) in &files {
        for secret in SECRETS {
            let escaped = secret.replace('/', "\\/");
            assert!(
                !text.contains(secret) && !text.contains(&escaped),
                "{secret} is in {name}"
            );
        }
    }
    let manifest: Value = serde_json::from_str(&files["manifest.json"]).unwrap();
    let entries = manifest["entries"].as_array().unwrap();
    assert_eq!(entries.len() + 2, files.len());
    for entry in entries {
        let text = &files[entry["name"].as_str().unwrap()];
        let sum = Sha256::digest(text.as_bytes());
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            (entry["size"].as_u64(), &entry["sha256"]),
            (Some(text.len() as u64), &json!(sum))
        );
        assert!(files["MANIFEST.txt"].contains(entry["name"].as_str().unwrap()));
    }
    files
}

/// Returns the only file whose name begins and ends with these.
fn one<'a>(files: &'a BTreeMap<String, String>, begin: &str, end: &str) -> &'a str {
    let found = files
        .iter()
        .filter(|(name, _)| name.starts_with(begin) && name.ends_with(end));
    let found: Vec<_> = found.collect();
    let [(_, text)] = found.as_slice() else {
        panic!("{begin}…{end}: {:?}", files.keys());
    };
    text
}

#[test]
fn an_archive_has_the_host_and_the_cluster_and_no_secret() {
    let Some(mut cluster) = cluster("an_archive_has") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.tar.gz");
    let path = file.to_str().unwrap();
    let program = Program::at(env!("CARGO_BIN_EXE_mesos-overlay"), &cluster.agents[0]);
    let outcome = program.run(&["diags", "--file", path]).unwrap();
    assert!(outcome.status.success(), "{outcome}");
    assert!(
        outcome.stdout.contains("secrets were removed in"),
        "{outcome}"
    );
    for secret in SECRETS {
        assert!(!outcome.to_string().contains(secret), "{outcome}");
    }
    let found = check(&file);
    assert!(one(&found, "master/", "/state.json").contains("10.77.1.1"));
    assert!(one(&found, "mesos/agent-", "/overlay.json").contains("STATUS_OK"));
    let environment = one(&found, "mesos/agent-", "/environment.json");
    assert!(
        environment.contains("MESOS_WORK_DIR") && environment.contains("***"),
        "{environment}"
    );
    assert!(!environment.contains("DEPLOY"), "{environment}");
    assert!(one(&found, "network/", "ip-link.json").contains("vtep1024"));
    assert!(one(&found, "network/", "ip-rule.json").contains("42"));
    assert!(one(&found, "cni/", "99-other.conf").contains("\"etcd_password\": \"***\""));
    assert!(one(&found, "cni/", "dcos.conf").contains("m-dcos"));
    assert!(one(&found, "config/", "agent.json").contains("auth_key_file"));
    assert!(one(&found, "logs/", "log.txt").contains("overlay-agent: Authorization: ***"));
    assert!(one(&found, "system/", "sysctl.txt").contains("net/ipv4/ip_forward = "));
    assert!(one(&found, "mesos/agent-", "libraries.txt").contains("libmesos_overlay.so"));

    let again = program.run(&["diags", "--file", path]).unwrap();
    assert_eq!(again.code(), Some(2), "{again}");
    assert!(again.stderr.contains("exists already"), "{again}");

    let listed = program.json(&["diags", "--list", "--no-logs"]).unwrap();
    let names = listed["manifest"]["entries"].as_array().unwrap();
    let names: Vec<_> = names
        .iter()
        .map(|entry| entry["name"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"master/state.json"), "{names:?}");
    assert!(
        !names.iter().any(|name| name.starts_with("logs/")),
        "{names:?}"
    );
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

    // On a host without Mesos, as a user without rights, and without a master.
    cluster.agents[0].stop().unwrap();
    wait::until("the master to end", LIMIT, || {
        cluster.master.stop().map(Some)
    })
    .unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let file = directory.path().join("nobody.tar.gz");
    let program = program.as_nobody();
    let path = file.to_str().unwrap();
    let outcome = program
        .run(&["diags", "--file", path, "--timeout", "1"])
        .unwrap();
    assert!(outcome.status.success(), "{outcome}");
    let found = check(&file);
    assert!(one(&found, "network/", "ip-link.json").contains("vtep1024"));
    assert!(
        outcome
            .stdout
            .contains("no Mesos runs in this network namespace"),
        "{outcome}"
    );
}
