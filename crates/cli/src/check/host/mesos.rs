//! Mesos on this host: its flags against the module's configuration.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use overlay_host::survey::exposed_cni_dir;

use super::Check;
use super::scene::{Scene, environment_unknown};
use crate::check::config;
use crate::finding::Finding;
use crate::finding::kinds::{cluster, configuration, host};
use crate::this_host::modules::ModuleKind;
use crate::this_host::processes::Process;

const PLUGINS: &str = "CNI plugins";
const ISOLATION: &str = "isolation";
const CNI_DIR: &str = "CNI directory";
const ZOOKEEPER: &str = "ZooKeeper";
const LEADER: &str = "leading master";
const WORKERS: &str = "worker threads";
const ADDRESS: &str = "address";
const CONFIGURATION: &str = "configuration";

/// Plugins of the package `containernetworking-plugins`.
const STANDARD: [&str; 2] = ["bridge", "host-local"];
/// Plugin of Mesos.
const PORT_MAPPER: &str = "mesos-cni-port-mapper";
/// Directories in which packages put plugins.
const USUAL_DIRECTORIES: [&str; 4] = [
    "/usr/lib/cni",
    "/usr/libexec/cni",
    "/usr/libexec/mesos",
    "/usr/local/libexec/mesos",
];
/// Isolation of an agent without the flag.
const DEFAULT_ISOLATION: &str = "posix/cpu,posix/mem";
const CNI: &str = "network/cni";
/// Remedy where a master's module cannot see ZooKeeper.
const UNSEEN_REMEDY: &str =
    "set MESOS_ZK and MESOS_QUORUM in the environment of every master, or zk in master.json";
/// Variable with the number of worker threads.
const WORKER_THREADS: &str = "LIBPROCESS_NUM_WORKER_THREADS";
/// Least number of worker threads that libprocess has by default.
const LEAST_WORKERS: usize = 8;

/// Returns the reason why this host runs no Mesos containers on overlays; `None`: it does.
fn without_mesos_containers(scene: &Scene) -> Option<String> {
    if let Some(reason) = scene.without_containers() {
        return Some(reason);
    }
    let (file, config) = scene.agent.as_ref()?;
    let is_off = !config.network.mesos_bridge;
    is_off.then(|| format!("mesos_bridge is false in {}", file.display()))
}

/// Place of plugins: directories, their origin, and the plugins that must be there.
struct PluginPlace {
    directories: Vec<PathBuf>,
    origin: String,
    plugins: Vec<&'static str>,
}

/// Returns the place of plugins: the directories of Mesos, or before an installation the usual ones. The error
/// is a check that cannot go on.
fn plugin_place(scene: &Scene) -> Result<PluginPlace, Check> {
    let unknown = scene.agent_flags_unknown();
    if unknown.is_some() && scene.mesos.mesos_agent().is_none() {
        return Ok(PluginPlace {
            directories: USUAL_DIRECTORIES.map(PathBuf::from).to_vec(),
            origin: "are in the usual directories".to_owned(),
            plugins: STANDARD.to_vec(),
        });
    }
    if let Some(reason) = unknown {
        return Err(Check::skipped(PLUGINS, reason));
    }
    let Some((flag, origin)) = scene.agent_flag("network_cni_plugins_dir") else {
        let message = "Mesos has no --network_cni_plugins_dir, so that it finds no plugins";
        let remedy = format!(
            "set --network_cni_plugins_dir={}",
            USUAL_DIRECTORIES.join(":")
        );
        let finding = host::PLUGIN_MISSING.finding(message, remedy);
        return Err(Check::made(PLUGINS, "Mesos looks for none", vec![finding]));
    };
    let directories = flag.split(':').filter(|part| !part.is_empty());
    Ok(PluginPlace {
        directories: directories.map(PathBuf::from).collect(),
        origin: format!("are found by the flag of {origin}"),
        plugins: STANDARD.into_iter().chain([PORT_MAPPER]).collect(),
    })
}

/// Looks for the plugins.
pub fn plugins(scene: &Scene) -> Check {
    if let Some(reason) = without_mesos_containers(scene) {
        return Check::skipped(PLUGINS, reason);
    }
    let place = match plugin_place(scene) {
        Ok(place) => place,
        Err(check) => return check,
    };
    let directories = place.directories.iter();
    let listed = directories.map(|directory| directory.display().to_string());
    let listed = listed.collect::<Vec<_>>().join(":");
    let is_missing = |plugin: &&&str| {
        let mut directories = place.directories.iter();
        !directories.any(|directory| is_executable(&directory.join(plugin)))
    };
    let missing = place.plugins.iter().filter(is_missing);
    let findings: Vec<Finding> = missing
        .map(|plugin| {
            let message = format!("the CNI plugin {plugin} is not in {listed}, or may not be executed");
            let remedy = match *plugin {
                PORT_MAPPER => "append libexec/mesos below Mesos's prefix to --network_cni_plugins_dir",
                _ => "install containernetworking-plugins, or append its directory to --network_cni_plugins_dir",
            };
            host::PLUGIN_MISSING.finding(message, remedy).about(plugin)
        })
        .collect();
    let seen = match findings.is_empty() {
        true => format!("{} {}", place.plugins.join(", "), place.origin),
        false => format!("looked in {listed}"),
    };
    Check::made(PLUGINS, seen, findings)
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}

/// Looks for `network/cni` in the isolation.
pub fn isolation(scene: &Scene) -> Check {
    if let Some(reason) = without_mesos_containers(scene).or_else(|| scene.agent_flags_unknown()) {
        return Check::skipped(ISOLATION, reason);
    }
    let (value, origin) = scene
        .agent_flag("isolation")
        .unwrap_or((DEFAULT_ISOLATION.to_owned(), "Mesos's default".to_owned()));
    let findings = match value.split(',').any(|part| part.trim() == CNI) {
        true => Vec::new(),
        false => {
            let message = format!(
                "the isolation of Mesos ({value}) lacks {CNI}, without which no Mesos container joins an overlay"
            );
            vec![
                host::ISOLATION_WITHOUT_CNI
                    .finding(message, format!("append ,{CNI} to --isolation")),
            ]
        }
    };
    Check::made(ISOLATION, format!("{value} ({origin})"), findings)
}

/// Compares the directories of CNI configurations, and looks who can write to it.
pub fn cni_dir(scene: &Scene) -> Check {
    if let Some(reason) = without_mesos_containers(scene) {
        return Check::skipped(CNI_DIR, reason);
    }
    let Some((file, config)) = &scene.agent else {
        return Check::skipped(
            CNI_DIR,
            "no configuration of the agent module on this host yet",
        );
    };
    let own = &config.cni_dir;
    let mut findings: Vec<Finding> = Vec::new();
    let mut seen = own.display().to_string();
    match scene.agent_flags_unknown() {
        Some(reason) => seen = format!("{seen}; not compared with Mesos's: {reason}"),
        None => match scene.agent_flag("network_cni_config_dir") {
            Some((flag, _)) if is_same(Path::new(&flag), own) => {}
            Some((flag, origin)) => {
                let message = format!(
                    "Mesos reads CNI configurations from {flag} ({origin}), and the module writes them to {} (cni_dir in {})",
                    own.display(),
                    file.display()
                );
                let remedy = "give both the same directory";
                findings.push(host::CNI_DIR_DIFFERS.finding(message, remedy));
            }
            None => {
                let message = format!(
                    "Mesos has no --network_cni_config_dir, and the module writes CNI configurations to {} (cni_dir in {})",
                    own.display(),
                    file.display()
                );
                let remedy = format!("set --network_cni_config_dir={}", own.display());
                findings.push(host::CNI_DIR_DIFFERS.finding(message, remedy));
            }
        },
    }
    if let Some(line) = exposed_cni_dir(own) {
        let (what, remedy) = line
            .rsplit_once("; ")
            .unwrap_or((&line, "take their permissions away"));
        findings.push(
            host::CNI_DIR_EXPOSED
                .finding(what, remedy)
                .about(own.display()),
        );
    }
    Check::made(CNI_DIR, seen, findings)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// Returns the Mesos master on this host, or why it cannot be examined.
fn master(scene: &Scene) -> Result<&Process, String> {
    let master = scene.mesos.mesos_master();
    let master = master.ok_or_else(|| "no Mesos master on this host".to_owned())?;
    match environment_unknown(master) {
        Some(reason) => Err(reason),
        None => Ok(master),
    }
}

/// Looks whether the master's module meets the others where Mesos does, and with the same quorum.
pub fn zookeeper(scene: &Scene) -> Check {
    let master = match master(scene) {
        Ok(master) => master,
        Err(reason) => {
            let before = before_the_masters_start(scene);
            return before.unwrap_or_else(|| Check::skipped(ZOOKEEPER, reason));
        }
    };
    let Some(zk) = master.flag("zk") else {
        return Check::made(ZOOKEEPER, "none; this is the only master", Vec::new());
    };
    if master.module_config(ModuleKind::Master).is_none() {
        return Check::skipped(ZOOKEEPER, "the Mesos master loads no master module");
    }
    let configured = scene.master.as_ref();
    let configured = configured.and_then(|(_, config)| config.zk.as_ref());
    let shown = overlay_core::config::zk::redacted(&zk);
    if configured.is_none() && master.variable("MESOS_ZK").is_none() {
        let message = format!(
            "the Mesos master has --zk={shown} on its command line, where its module cannot see it: the module takes this master for the only one"
        );
        let finding = host::FLAGS_UNSEEN.finding(message, UNSEEN_REMEDY);
        return Check::made(ZOOKEEPER, shown, vec![finding]);
    }
    let quorum = |text: Option<String>| text.and_then(|text| text.trim().parse::<u32>().ok());
    let of_mesos = quorum(master.flag("quorum"));
    let of_module = match configured {
        Some(zk) => Some(zk.quorum),
        None => quorum(master.variable("MESOS_QUORUM").map(str::to_owned)),
    };
    let mut findings = Vec::new();
    if let (Some(mesos), Some(module)) = (of_mesos, of_module)
        && mesos != module
    {
        let message =
            format!("the quorum of Mesos is {mesos}, and that of the overlays' log is {module}");
        findings.push(configuration::QUORUM_WRONG.finding(message, config::QUORUM_REMEDY));
    } else if let Some(quorum) = of_module.or(of_mesos) {
        findings.extend(against_masters(&zk, quorum));
    }
    let seen = match of_module {
        Some(quorum) => format!("{shown}, quorum {quorum}"),
        None => shown,
    };
    Check::made(ZOOKEEPER, seen, findings)
}

/// Compares a quorum with the number of masters that are in ZooKeeper now. One that is too large for them is
/// right if others are down.
fn against_masters(zk: &str, quorum: u32) -> Option<Finding> {
    let masters = config::masters_at(zk)?;
    let number = u32::try_from(masters.len()).ok()?;
    let are = match number {
        1 => "1 master is".to_owned(),
        number => format!("{number} masters are"),
    };
    if quorum > number {
        let message = format!(
            "{are} in ZooKeeper, and the quorum is {quorum}: the replicated log can be neither read nor written"
        );
        let remedy = "start the other masters, or correct the quorum";
        return Some(cluster::NO_QUORUM.finding(message, remedy));
    }
    (quorum.saturating_mul(2) <= number).then(|| {
        let message = format!(
            "{are} in ZooKeeper, and the quorum is {quorum}, not more than half of them: two halves can write at the same time"
        );
        configuration::QUORUM_WRONG.finding(message, config::QUORUM_REMEDY)
    })
}

/// Looks, before Mesos is started, whether the master's module will see where the masters meet.
fn before_the_masters_start(scene: &Scene) -> Option<Check> {
    let (file, config) = scene.master.as_ref()?;
    let zk = scene.file_of_packages("etc/mesos/zk")?;
    if !scene.mesos.processes.is_empty() || !zk.starts_with("zk://") {
        return None;
    }
    let sees = config.zk.is_some() || scene.has_default("mesos-master", &["MESOS_ZK"]);
    let findings = match sees {
        true => Vec::new(),
        false => {
            let message = format!(
                "/etc/mesos/zk names ZooKeeper for Mesos, and nothing tells the module: neither zk in {} nor MESOS_ZK in /etc/default/mesos-master",
                file.display()
            );
            vec![host::FLAGS_UNSEEN.finding(message, UNSEEN_REMEDY)]
        }
    };
    Some(Check::made(
        ZOOKEEPER,
        overlay_core::config::zk::redacted(&zk),
        findings,
    ))
}

/// Looks whether the agent's module finds the leading master.
pub fn leading_master(scene: &Scene) -> Check {
    let Some((file, config)) = &scene.agent else {
        return Check::skipped(
            LEADER,
            "no configuration of the agent module on this host yet",
        );
    };
    let redacted = |text: &str| overlay_core::config::zk::redacted(text);
    if let Some(master) = &config.master {
        let seen = format!("{} ({})", redacted(master), file.display());
        return Check::made(LEADER, seen, Vec::new());
    }
    if let Some((process, _)) = scene.mesos.agent_module() {
        // The module would not have started without one of these.
        let variables = ["MESOS_MASTER", "MESOS_ZK"].iter();
        let found = variables
            .filter_map(|name| Some((name, process.variable(name)?)))
            .next();
        return match found {
            Some((name, value)) => {
                let seen = format!("{} ({name} of Mesos)", redacted(value));
                Check::made(LEADER, seen, Vec::new())
            }
            None => Check::skipped(LEADER, "only root may read the environment of Mesos"),
        };
    }
    if scene.agent_flags_unknown().is_some() {
        return Check::skipped(LEADER, "no Mesos agent on this host yet");
    }
    if scene.has_default("mesos-agent", &["MESOS_MASTER", "MESOS_ZK"]) {
        return Check::made(LEADER, "/etc/default has it", Vec::new());
    }
    let message = format!(
        "nothing tells the agent's module where the master is: neither master in {} nor MESOS_MASTER in /etc/default/mesos-agent",
        file.display()
    );
    let remedy = "set MESOS_MASTER in the environment of the agent, or master in agent.json, to the value of Mesos's --master";
    Check::made(
        LEADER,
        "nothing names it",
        vec![host::FLAGS_UNSEEN.finding(message, remedy)],
    )
}

/// Looks whether a master has enough worker threads for its connections to ZooKeeper.
pub fn worker_threads(scene: &Scene) -> Check {
    let master = match master(scene) {
        Ok(master) => master,
        Err(reason) => return Check::skipped(WORKERS, reason),
    };
    if master.flag("zk").is_none() {
        return Check::skipped(WORKERS, "the master needs no ZooKeeper");
    }
    let has = |kind| master.module_config(kind).is_some();
    let needed = match (has(ModuleKind::Master), has(ModuleKind::Agent)) {
        (true, true) => 10,
        (true, false) => 8,
        (false, _) => return Check::skipped(WORKERS, "the Mesos master loads no master module"),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let given = master
        .variable(WORKER_THREADS)
        .and_then(|text| text.trim().parse().ok());
    let workers: usize = given.unwrap_or(cores.max(LEAST_WORKERS));
    let findings = match workers < needed {
        false => Vec::new(),
        true => {
            let message = format!(
                "{workers} worker threads are too few for the connections to ZooKeeper, and Mesos can hang at its start"
            );
            let remedy =
                format!("set {WORKER_THREADS} to {needed} or more in the environment of Mesos");
            vec![
                host::WORKER_THREADS_FEW
                    .finding(message, remedy)
                    .about(WORKER_THREADS),
            ]
        }
    };
    Check::made(WORKERS, format!("{workers}, {needed} are needed"), findings)
}

/// Looks whether the agent's address is one that others reach.
pub fn address(scene: &Scene) -> Check {
    let Some((process, _)) = scene.mesos.agent_module() else {
        return Check::skipped(ADDRESS, "no Mesos with the agent module on this host yet");
    };
    if let Some(reason) = environment_unknown(process) {
        return Check::skipped(ADDRESS, reason);
    }
    let names = ["advertise_ip", "ip"].map(|name| process.flag(name));
    let variables = ["LIBPROCESS_ADVERTISE_IP", "LIBPROCESS_IP"];
    let variables = variables.map(|name| process.variable(name).map(str::to_owned));
    let given = names
        .into_iter()
        .chain(variables)
        .flatten()
        .find(|ip| ip != "0.0.0.0");
    let (address, origin): (Option<IpAddr>, _) = match &given {
        Some(ip) => (ip.trim().parse().ok(), "of the flags of Mesos".to_owned()),
        None => of_hostname(),
    };
    let Some(address) = address else {
        return Check::skipped(ADDRESS, format!("the address is not known ({origin})"));
    };
    let master = scene
        .mesos
        .mesos_agent()
        .and_then(|agent| agent.flag("master"));
    let is_test = master.is_some_and(|master| master.starts_with("127."));
    let findings = match address.is_loopback() && !is_test {
        false => Vec::new(),
        true => {
            let message = format!(
                "the address of this agent is {address} ({origin}): peers would send into their own hosts, and the master does not serve it"
            );
            let remedy =
                "give Mesos another --ip, or correct the line of the host's name in /etc/hosts";
            vec![
                host::ADDRESS_LOOPBACK
                    .finding(message, remedy)
                    .about(address),
            ]
        }
    };
    Check::made(ADDRESS, format!("{address}, {origin}"), findings)
}

/// Returns the address of the host's name, as libprocess finds it.
fn of_hostname() -> (Option<IpAddr>, String) {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let addresses = (name, 0).to_socket_addrs().into_iter().flatten();
    let mut addresses = addresses.map(|address| address.ip());
    let origin = format!("of the name of this host, {name}");
    (addresses.find(IpAddr::is_ipv4), origin)
}

/// Examines the configuration files that are in use on this host.
pub fn configuration(scene: &Scene) -> Check {
    let files = config::of_host(&scene.mesos);
    if files.is_empty() {
        return Check::skipped(
            CONFIGURATION,
            "no configuration of the modules on this host yet",
        );
    }
    let names = files.iter().map(|file| file.path.display().to_string());
    let names = names.collect::<Vec<_>>().join(", ");
    let surroundings = config::Surroundings {
        // The check of ZooKeeper compares it.
        quorum: None,
        ..config::Surroundings::of_host(&scene.mesos)
    };
    let report = config::examine(files, &surroundings);
    Check::made(CONFIGURATION, names, report.into_findings())
}
