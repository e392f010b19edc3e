//! Hosts without Mesos: before an installation, or with the agent stopped.

use std::fs::{self, Permissions};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use serde_json::json;
use testkit::engine::{FakeEngine, HungEngine};
use testkit::host::Host;

use crate::{assert_codes, on, seen, write};

const CHECK: &[&str] = &["check", "host"];

/// A host on a network, before an installation.
pub struct Lan {
    /// The host.
    pub host: Host,
    _other: Host,
    /// Directory for files.
    pub dir: tempfile::TempDir,
}

impl Lan {
    /// Makes a host with a neighbour.
    pub fn new() -> Lan {
        let (host, other) = (Host::new(), Host::new());
        host.connect("eth0", &other, "eth0");
        host.ip("address add 10.0.0.1/24 dev eth0");
        other.ip("address add 10.0.0.2/24 dev eth0");
        Lan {
            host,
            _other: other,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Writes an agent's configuration, and returns the command that uses it. The engine that the
    /// machine may have is not the host's.
    pub fn agent(&self, change: impl FnOnce(&mut serde_json::Value)) -> [String; 4] {
        let cni = self.dir.path().join("cni");
        fs::create_dir_all(&cni).unwrap();
        let mut config = json!({"cni_dir": cni, "network_config": {"docker_bridge": false}});
        change(&mut config);
        let file = write(self.dir.path(), "agent.json", &config.to_string());
        ["check", "host", "--agent-config", &file].map(str::to_owned)
    }

    /// Asserts what is found with an agent's configuration.
    #[track_caller]
    fn finds(&self, change: impl FnOnce(&mut serde_json::Value), expected: &[&str]) {
        let arguments = self.agent(change);
        let arguments = arguments.each_ref().map(String::as_str);
        assert_codes(&on(&self.host), &arguments, expected);
    }

    /// Asserts what is found with an agent's usual configuration.
    #[track_caller]
    fn finds_usually(&self, expected: &[&str]) {
        self.finds(|_| (), expected);
    }

    /// Has nft read a script.
    pub fn nft(&self, script: &str) {
        let file = write(self.dir.path(), "rules.nft", script);
        self.host.command(&format!("nft -f {file}"));
    }
}

#[test]
fn a_host_before_an_installation_is_well() {
    if !testkit::root("check::before_an_installation") {
        return;
    }
    let lan = Lan::new();
    lan.finds_usually(&[]);
    let json = on(&lan.host).json(CHECK).unwrap();
    for (name, result) in [
        ("kernel features", "ok"),
        ("forwarding", "ok"),
        ("MTU", "ok"),
        ("isolation", "skipped"),
        ("ZooKeeper", "skipped"),
    ] {
        assert_eq!(seen(&json, name).0, result, "{name}: {json}");
    }
    assert!(
        seen(&json, "forwarding")
            .1
            .contains("the agent turns it on")
    );
    assert!(
        seen(&json, "MTU")
            .1
            .contains("eth0 has 1500, which leaves 1450")
    );
    // What the program tried is gone, and the host is as it was.
    let devices = lan.host.field("ip -j link show", "ifname");
    assert_eq!(devices, ["eth0", "lo"]);
    let forwarding = lan.host.command("sysctl -n net.ipv4.ip_forward");
    assert_eq!(forwarding.trim(), "0");
    let master = on(&lan.host)
        .json(&["check", "host", "--role", "master"])
        .unwrap();
    assert_eq!(seen(&master, "firewall").0, "skipped", "{master}");
}

#[test]
fn an_ordinary_user_sees_less_and_finds_nothing() {
    if !testkit::root("check::ordinary_user") {
        return;
    }
    let lan = Lan::new();
    let program = on(&lan.host).as_nobody();
    assert_codes(&program, CHECK, &[]);
    let json = program.json(CHECK).unwrap();
    let (result, reason) = seen(&json, "firewall");
    assert_eq!(
        (result.as_str(), reason.as_str()),
        ("skipped", "only root may read the rules")
    );
}

#[test]
fn settings_of_the_kernel_are_found() {
    if !testkit::root("check::settings") {
        return;
    }
    let lan = Lan::new();
    let host = &lan.host;
    host.command("sysctl -qw net.ipv4.conf.all.rp_filter=1");
    lan.finds_usually(&["reverse-path-filter"]);
    host.command("sysctl -qw net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.default.rp_filter=1");
    lan.finds_usually(&[]);
    host.command("sysctl -qw net.ipv4.conf.all.rp_filter=0");
    lan.finds_usually(&["reverse-path-filter"]);
    host.command("sysctl -qw net.ipv4.conf.default.rp_filter=0");
    // The default of Debian does not have the port.
    let range = lan.dir.path().join("range");
    fs::write(&range, "20000 65000\n").unwrap();
    let copy = format!(
        "cp {} /proc/sys/net/ipv4/ip_local_port_range",
        range.display()
    );
    host.command(&copy);
    lan.finds_usually(&["port-not-reserved"]);
    host.command("sysctl -qw net.ipv4.ip_local_reserved_ports=8080,63990-64010");
    lan.finds_usually(&[]);
}

#[test]
fn forwarding_must_be_on_where_the_overlays_are() {
    if !testkit::root("check::forwarding") {
        return;
    }
    let lan = Lan::new();
    lan.host.settle(&lan.host.desired(1));
    lan.finds_usually(&[]);
    for (off, on) in [
        ("net.ipv4.ip_forward=0", "net.ipv4.ip_forward=1"),
        (
            "net.ipv4.conf.m-dcos.forwarding=0",
            "net.ipv4.conf.m-dcos.forwarding=1",
        ),
        (
            "net.ipv4.conf.vtep1024.forwarding=0",
            "net.ipv4.conf.vtep1024.forwarding=1",
        ),
        (
            "net.ipv6.conf.all.forwarding=0",
            "net.ipv6.conf.all.forwarding=1",
        ),
    ] {
        lan.host.command(&format!("sysctl -qw {off}"));
        lan.finds_usually(&["forwarding-off"]);
        lan.host.command(&format!("sysctl -qw {on}"));
        lan.finds_usually(&[]);
    }
}

#[test]
fn whoever_has_the_port_is_named() {
    if !testkit::root("check::port") {
        return;
    }
    let lan = Lan::new();
    let socket = lan.host.run(|| UdpSocket::bind("0.0.0.0:64000").unwrap());
    lan.finds_usually(&["port-in-use"]);
    let arguments = lan.agent(|_| ());
    let arguments = arguments.each_ref().map(String::as_str);
    let json = on(&lan.host).json(&arguments).unwrap();
    let message = json["findings"][0]["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("(pid {})", std::process::id())),
        "{message}"
    );
    drop(socket);
    lan.finds_usually(&[]);
    // An agent's own device has the port.
    lan.host.settle(&lan.host.desired(1));
    lan.finds_usually(&[]);
}

#[test]
fn firewalls_that_drop_are_found() {
    if !testkit::root("check::firewalls") {
        return;
    }
    let lan = Lan::new();
    // The agent has its packets pass this.
    lan.host.command("iptables -P FORWARD DROP");
    lan.finds_usually(&[]);
    lan.finds(
        |config| config["firewall"] = "none".into(),
        &["firewall-drops"],
    );
    lan.host.command("iptables -P FORWARD ACCEPT");
    lan.host.command("iptables -P INPUT DROP");
    lan.finds_usually(&["firewall-drops"]);
    lan.host
        .command("iptables -I INPUT -p udp --dport 64000 -j ACCEPT");
    lan.finds_usually(&[]);
    lan.nft("table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }");
    lan.finds_usually(&["firewall-drops"]);
    lan.nft("table inet filter { chain forward { iifname { \"vtep1024\", \"m-dcos\" } oifname { \"vtep1024\", \"m-dcos\" } accept; }; }");
    lan.finds_usually(&[]);
}

#[test]
fn mtus_must_fit() {
    if !testkit::root("check::mtus") {
        return;
    }
    let lan = Lan::new();
    let mtu = |bytes: u32| {
        move |config: &mut serde_json::Value| config["network_config"]["overlay_mtu"] = bytes.into()
    };
    lan.finds(mtu(1450), &[]);
    lan.finds(mtu(1451), &["mtu-too-large"]);
    lan.host.settle(&lan.host.desired(1));
    lan.finds_usually(&[]);
    lan.host.ip("link set eth0 mtu 1400");
    lan.finds_usually(&["mtu-too-large"]);
    lan.host.ip("link set eth0 mtu 1300");
    lan.host.ip("link set vtep1024 mtu 1250");
    lan.finds_usually(&["underlay-too-small"]);
    lan.finds(
        |config| config["network_config"]["enable_ipv6"] = false.into(),
        &[],
    );
}

#[test]
fn the_engine_is_asked() {
    if !testkit::root("check::engine") {
        return;
    }
    let lan = Lan::new();
    let with = |socket: &Path| {
        let socket = socket.to_owned();
        move |config: &mut serde_json::Value| {
            config["docker_socket"] = json!(socket);
            config["network_config"] = json!({"docker_bridge": true, "command_timeout": 500});
        }
    };
    lan.finds(with(Path::new("/no/such/socket")), &["engine-absent"]);
    let hung = HungEngine::spawn();
    lan.finds(with(&hung.socket), &["engine-hung"]);
    let release = |version: &'static str, api: &'static str| {
        FakeEngine::new(move |_| {
            Some((
                200,
                json!({"Version": version, "ApiVersion": api}).to_string(),
            ))
        })
    };
    let old = release("19.03.15", "1.40");
    lan.finds(with(&old.socket), &["engine-old"]);
    let new = release("28.5.2", "1.51");
    lan.finds(with(&new.socket), &[]);
    let without_rules = |config: &mut serde_json::Value| {
        with(&new.socket)(config);
        config["firewall"] = "none".into();
    };
    lan.finds(without_rules, &["engine-isolates"]);
}

/// A process with the name of another program.
struct Named(Child);

impl Named {
    fn start(host: &Host, dir: &Path, name: &str) -> Named {
        let program = dir.join(name);
        fs::copy("/bin/sleep", &program).unwrap();
        let mut command = Command::new(program);
        command.arg("1000");
        host.netns().apply_to(&mut command);
        Named(command.spawn().unwrap())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn network_managers_must_leave_the_devices_alone() {
    if !testkit::root("check::managers") {
        return;
    }
    let lan = Lan::new();
    let root = lan.dir.path().join("root");
    let path = root.display().to_string();
    let arguments = ["check", "host", "--root", &path];
    let program = on(&lan.host);
    let package =
        |name: &str| fs::read_to_string(format!("../../packaging/network/{name}")).unwrap();
    write(
        &root,
        "etc/systemd/network/50-all.network",
        "[Match]\nName=*\n[Network]\nDHCP=yes\n",
    );
    assert_codes(&program, &arguments, &[]);
    let networkd = Named::start(&lan.host, lan.dir.path(), "systemd-networkd");
    assert_codes(&program, &arguments, &["devices-managed"]);
    let ours = package("10-mesos-overlay.network");
    write(
        &root,
        "usr/lib/systemd/network/10-mesos-overlay.network",
        &ours,
    );
    // Still the ends of containers' connections.
    assert_codes(&program, &arguments, &["devices-managed"]);
    let veth = package("10-mesos-overlay-veth.network");
    write(
        &root,
        "etc/systemd/network/10-mesos-overlay-veth.network",
        &veth,
    );
    assert_codes(&program, &arguments, &[]);
    lan.host.ip("link add d-lan type bridge");
    assert_codes(&program, &arguments, &["foreign-bridge"]);
    let one_by_one = ours.replace("vtep* m-* d-*", "vtep1024 m-dcos d-dcos");
    write(
        &root,
        "etc/systemd/network/10-mesos-overlay.network",
        &one_by_one,
    );
    assert_codes(&program, &arguments, &[]);
    write(
        &root,
        "etc/systemd/network/50-all.network",
        "[Match]\nName=eth*\n",
    );
    assert_codes(&program, &arguments, &[]);
    drop(networkd);
    lan.host.ip("link delete d-lan");
    let _manager = Named::start(&lan.host, lan.dir.path(), "NetworkManager");
    assert_codes(&program, &arguments, &["devices-not-excluded"]);
    let ours = package("10-mesos-overlay.conf");
    write(
        &root,
        "usr/lib/NetworkManager/conf.d/10-mesos-overlay.conf",
        &ours,
    );
    assert_codes(&program, &arguments, &[]);
    write(
        &root,
        "etc/NetworkManager/conf.d/90-own.conf",
        "[keyfile]\nunmanaged-devices=interface-name:eth1\n",
    );
    assert_codes(&program, &arguments, &["devices-not-excluded"]);
}

#[test]
fn directories_and_libraries_are_examined() {
    if !testkit::root("check::directories") {
        return;
    }
    let lan = Lan::new();
    lan.finds_usually(&[]);
    let cni = lan.dir.path().join("cni");
    fs::set_permissions(&cni, Permissions::from_mode(0o777)).unwrap();
    lan.finds_usually(&["cni-dir-exposed"]);
    fs::set_permissions(&cni, Permissions::from_mode(0o755)).unwrap();
    let program = on(&lan.host);
    let with = |module: &str| ["check", "host", "--module", module].map(str::to_owned);
    let finds = |module: &str, expected: &[&str]| {
        assert_codes(
            &program,
            &with(module).each_ref().map(String::as_str),
            expected,
        );
    };
    finds("/etc/passwd", &["library-missing"]);
    finds("/no/such.so", &["library-missing"]);
    finds(testbed::paths::module().unwrap().to_str().unwrap(), &[]);
}

/// Flags on a command line of Mesos, which a module cannot see. The test bed's Mesos takes its flags from the
/// environment, so a process with such a command line stands for it.
#[test]
fn flags_that_the_module_cannot_see_are_found() {
    if !testkit::root("check::flags_unseen") {
        return;
    }
    let lan = Lan::new();
    let root = lan.dir.path();
    let config = json!({"replicated_log_dir": "/var/lib/mesos", "network": testbed::cluster::default_network()});
    let master = write(root, "master.json", &config.to_string());
    let module = testbed::paths::module().unwrap();
    let list = json!({"libraries": [{"file": module, "modules": [{
        "name": "com_mesosphere_mesos_OverlayMasterManager",
        "parameters": [{"key": "master_config", "value": master}]}]}]});
    let list = write(root, "modules.json", &list.to_string());
    let start = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new("/bin/sh");
        command
            .arg0("mesos-master")
            .args(["-c", "read line < /dev/zero"]);
        command
            .arg(format!("--modules=file://{list}"))
            .args(arguments);
        command
            .env_clear()
            .env("PATH", "/bin")
            .envs(environment.iter().copied());
        lan.host.netns().apply_to(&mut command);
        Named(command.spawn().unwrap())
    };
    let program = on(&lan.host);
    let zk = "zk://me:secret@10.0.0.9:2181/mesos";
    let argument = format!("--zk={zk}");
    let hidden = start(&[&argument, "--quorum=1"], &[]);
    assert_codes(&program, CHECK, &["flags-unseen"]);
    let text = program.run(CHECK).unwrap().to_string();
    assert!(
        text.contains("zk://***@10.0.0.9:2181/mesos") && !text.contains("secret"),
        "{text}"
    );
    drop(hidden);
    let seen_by_module = [("MESOS_ZK", zk), ("MESOS_QUORUM", "2")];
    let other = start(&["--quorum=1"], &seen_by_module);
    assert_codes(&program, CHECK, &["quorum-wrong"]);
    drop(other);
    let few = [
        ("MESOS_ZK", zk),
        ("MESOS_QUORUM", "2"),
        ("LIBPROCESS_NUM_WORKER_THREADS", "4"),
    ];
    let _few = start(&[], &few);
    assert_codes(&program, CHECK, &["worker-threads-few"]);
}

/// What packages of Mesos and the page docs/install.md put into `/etc`, before Mesos is started.
#[test]
fn what_the_modules_will_not_see_is_found_before_the_start() {
    if !testkit::root("check::before_the_start") {
        return;
    }
    let lan = Lan::new();
    let root = lan.dir.path().join("root");
    let path = root.display().to_string();
    let finds = |role: &str, expected: &[&str]| {
        let arguments = ["check", "host", "--role", role, "--root", &path];
        assert_codes(&on(&lan.host), &arguments, expected);
    };
    let network = testbed::cluster::default_network();
    let mut master = json!({"replicated_log_dir": "/var/lib/mesos", "network": network});
    write(&root, "etc/mesos/overlay/master.json", &master.to_string());
    finds("master", &[]);
    write(&root, "etc/mesos/zk", "zk://a:2181/mesos\n");
    finds("master", &["flags-unseen"]);
    write(
        &root,
        "etc/default/mesos-master",
        "export MESOS_ZK=$(cat /etc/mesos/zk)\n",
    );
    finds("master", &[]);
    write(&root, "etc/default/mesos-master", "ULIMIT=1\n");
    master["zk"] = json!({"url": "file:///etc/mesos/zk", "quorum": 1});
    write(&root, "etc/mesos/overlay/master.json", &master.to_string());
    finds("master", &[]);

    let mut agent =
        json!({"cni_dir": "/etc/mesos/cni", "network_config": {"docker_bridge": false}});
    write(&root, "etc/mesos/overlay/agent.json", &agent.to_string());
    let plugins = lan.dir.path().join("plugins");
    for plugin in ["bridge", "host-local", "mesos-cni-port-mapper"] {
        let file = write(&plugins, plugin, "#!/bin/sh\n");
        fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
    }
    for (flag, value) in [
        ("isolation", "posix/cpu,network/cni"),
        ("network_cni_config_dir", "/etc/mesos/cni"),
        ("network_cni_plugins_dir", plugins.to_str().unwrap()),
    ] {
        write(&root, &format!("etc/mesos-agent/{flag}"), value);
    }
    finds("agent", &["flags-unseen"]);
    agent["master"] = "file:///etc/mesos/zk".into();
    write(&root, "etc/mesos/overlay/agent.json", &agent.to_string());
    finds("agent", &[]);
    write(&root, "etc/mesos-agent/isolation", "posix/cpu");
    finds("agent", &["isolation-without-cni"]);
    write(&root, "etc/mesos-agent/isolation", "network/cni");
    write(&root, "etc/mesos-agent/network_cni_config_dir", "/opt/cni");
    finds("agent", &["cni-dir-differs"]);
    write(
        &root,
        "etc/mesos-agent/network_cni_config_dir",
        "/etc/mesos/cni",
    );
    fs::remove_file(plugins.join("host-local")).unwrap();
    finds("agent", &["plugin-missing"]);
}

/// A library that needs a version of another library which the host does not have.
#[test]
fn a_library_that_would_not_load_is_found() {
    if !testkit::root("check::library") {
        return;
    }
    let lan = Lan::new();
    let dir = lan.dir.path();
    write(dir, "stub.c", "int stub(void) { return 1; }\n");
    write(dir, "stub.map", "STUB_2 { global: stub; };\n");
    write(
        dir,
        "module.c",
        "int stub(void); int f(void) { return stub(); }\n",
    );
    let gcc = |arguments: &str| {
        let mut gcc = Command::new("gcc");
        let gcc = gcc.current_dir(dir).args(["-shared", "-fPIC"]);
        assert!(
            gcc.args(arguments.split_whitespace())
                .status()
                .unwrap()
                .success()
        );
    };
    gcc("-Wl,--version-script=stub.map -o libstub.so stub.c");
    gcc("-o module.so module.c -L. -lstub");
    let module = dir.join("module.so").display().to_string();
    let arguments = ["check", "host", "--module", &module];
    assert_codes(&on(&lan.host), &arguments, &["library-old"]);
}
