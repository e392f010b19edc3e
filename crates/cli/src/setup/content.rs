//! Content of the files of an installation.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use overlay_core::config::{agent, master};
use overlay_core::host_api::names::{DOCKER_BRIDGE_PREFIX, MESOS_BRIDGE_PREFIX, parse_bridge_name};
use overlay_host::survey;
use serde::Serialize;

use super::answers::Answers;
use super::files::{Kind, Place, State};
use super::{Layout, Options, PlaceOptions, Role};
use crate::output::Failure;
use crate::this_host::modules::ModuleKind;

/// Library of the modules, as packages have it.
pub const MODULE: &str = "/usr/lib/mesos/modules/libmesos_overlay.so";
/// Directories of CNI plugins, of packages and of Mesos.
pub const PLUGINS: &str =
    "/usr/lib/cni:/usr/libexec/cni:/usr/libexec/mesos:/usr/local/libexec/mesos";

/// First three bytes of the VTEPs' MAC addresses. DC/OS's.
const OUI: &str = "70:B3:D5:00:00:00";
/// Isolation of an agent that had none.
const ISOLATION: &str = "posix/cpu,posix/mem,network/cni";
/// Part of the isolation that containers on overlays need.
const CNI: &str = "network/cni";
/// Worker threads of a master with both modules.
const WORKER_THREADS: &str = "LIBPROCESS_NUM_WORKER_THREADS=10 # mesos-overlay\n";

/// File for systemd-networkd, without its comments.
const NETWORKD: &str = include_str!("../../../../packaging/network/10-mesos-overlay.network");
/// File for NetworkManager.
const NETWORK_MANAGER: &str = include_str!("../../../../packaging/network/10-mesos-overlay.conf");
/// File of docs/install.md that notes which flags are new, for switching off.
const SWITCHED_ON: &str = "switched-on";

/// Returns the files and directories that a host needs.
///
/// # Errors
/// The answers make a configuration with mistakes. The error has all of them.
pub fn places(answers: &Answers, options: &PlaceOptions) -> Result<Vec<Place>, Failure> {
    let dir = &options.config_dir;
    let mut places = Vec::new();
    if answers.role.has_master() {
        let text = master_json(answers, options);
        master::parse("master.json", &text).map_err(|error| error.to_string())?;
        places.push(configuration(dir.join("master.json"), text));
        let mut modules = vec![(ModuleKind::Master, dir.join("master.json"))];
        if answers.role == Role::AgentMaster {
            let text = agent_json(answers, options, false)?;
            places.push(configuration(dir.join("agent-master.json"), text));
            modules.push((ModuleKind::Agent, dir.join("agent-master.json")));
        }
        places.push(list(dir.join("modules-master.json"), options, &modules));
        if options.layout == Layout::Packages {
            places.push(modules_flag(
                "/etc/mesos-master",
                &dir.join("modules-master.json"),
            ));
            if answers.role == Role::AgentMaster && answers.zk.is_some() {
                places.push(Place {
                    path: "/etc/default/mesos-master".into(),
                    kind: Kind::Variables(WORKER_THREADS.to_owned()),
                    mode: 0o644,
                    remedy: "append this line to the file, on a line of its own".to_owned(),
                });
            }
        }
    }
    if answers.role.has_agent() {
        let text = agent_json(answers, options, true)?;
        places.push(configuration(dir.join("agent.json"), text));
        let modules = [(ModuleKind::Agent, dir.join("agent.json"))];
        places.push(list(dir.join("modules-agent.json"), options, &modules));
        places.push(Place {
            path: options.cni_dir.clone(),
            kind: Kind::Directory,
            mode: 0o755,
            remedy: String::new(),
        });
        if options.layout == Layout::Packages {
            places.extend(flags(options));
        }
    }
    if answers.role != Role::Master {
        places.extend(network_managers(answers, options)?);
    }
    Ok(places)
}

fn pretty(value: &impl Serialize) -> String {
    // Structures of texts and numbers always serialize.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// Returns a configuration. One with a password is only for root.
fn configuration(path: PathBuf, text: String) -> Place {
    let has_password = text.contains("zk://") && text.contains('@');
    Place {
        mode: if has_password { 0o600 } else { 0o644 },
        remedy: "compare both, and change the file yourself where it differs".to_owned(),
        path,
        kind: Kind::Json(text),
    }
}

/// `master.json`.
#[derive(Serialize)]
struct MasterFile<'a> {
    replicated_log_dir: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    zk: Option<Zk<'a>>,
    network: Network<'a>,
}

#[derive(Serialize)]
struct Zk<'a> {
    url: &'a str,
    quorum: u32,
}

#[derive(Serialize)]
struct Network<'a> {
    vtep_subnet: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vtep_subnet6: Option<&'a str>,
    vtep_mac_oui: &'static str,
    overlays: Vec<OverlayEntry<'a>>,
}

#[derive(Serialize)]
struct OverlayEntry<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<IpNet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet6: Option<IpNet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix6: Option<u8>,
}

fn master_json(answers: &Answers, options: &PlaceOptions) -> String {
    let overlays = answers.overlays.iter().map(|overlay| OverlayEntry {
        name: &overlay.name,
        subnet: overlay.v4.map(|(net, _)| net),
        prefix: overlay.v4.map(|(_, prefix)| prefix),
        subnet6: overlay.v6.map(|(net, _)| net),
        prefix6: overlay.v6.map(|(_, prefix)| prefix),
    });
    let zk = answers.zk.as_deref().zip(answers.quorum);
    pretty(&MasterFile {
        replicated_log_dir: &options.log_dir,
        zk: zk.map(|(url, quorum)| Zk { url, quorum }),
        network: Network {
            vtep_subnet: &answers.vtep_subnet,
            vtep_subnet6: answers.vtep_subnet6.as_deref(),
            vtep_mac_oui: OUI,
            overlays: overlays.collect(),
        },
    })
}

/// `agent.json` and `agent-master.json`.
#[derive(Serialize)]
struct AgentFile<'a> {
    cni_dir: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    master: Option<&'a str>,
    network_config: Bridges,
}

#[derive(Serialize)]
struct Bridges {
    mesos_bridge: bool,
    docker_bridge: bool,
}

/// Returns the configuration of an agent module, with bridges or without.
fn agent_json(
    answers: &Answers,
    options: &PlaceOptions,
    has_bridges: bool,
) -> Result<String, Failure> {
    let text = pretty(&AgentFile {
        cni_dir: &options.cni_dir,
        master: answers.master.as_deref(),
        network_config: Bridges {
            mesos_bridge: has_bridges,
            docker_bridge: has_bridges && answers.docker,
        },
    });
    agent::parse("agent.json", &text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// List of modules.
#[derive(Serialize)]
struct List<'a> {
    libraries: [Library<'a>; 1],
}

#[derive(Serialize)]
struct Library<'a> {
    file: &'a Path,
    modules: Vec<Module<'a>>,
}

#[derive(Serialize)]
struct Module<'a> {
    name: &'static str,
    parameters: [Parameter<'a>; 1],
}

#[derive(Serialize)]
struct Parameter<'a> {
    key: &'static str,
    value: &'a Path,
}

/// Returns a list of modules.
fn list(path: PathBuf, options: &PlaceOptions, modules: &[(ModuleKind, PathBuf)]) -> Place {
    let modules = modules.iter().map(|(kind, config)| Module {
        name: kind.name(),
        parameters: [Parameter {
            key: kind.parameter(),
            value: config,
        }],
    });
    let library = Library {
        file: &options.module,
        modules: modules.collect(),
    };
    let text = pretty(&List {
        libraries: [library],
    });
    Place {
        remedy: "add the entry of \"libraries\" to the file".to_owned(),
        ..configuration(path, text)
    }
}

fn modules_flag(directory: &str, list: &Path) -> Place {
    flag(
        directory,
        "modules",
        format!("file://{}", list.display()),
        format!(
            "add the entry of \"libraries\" in {} to the file that this flag names",
            list.display()
        ),
    )
}

fn flag(directory: &str, name: &str, value: String, remedy: String) -> Place {
    Place {
        path: Path::new(directory).join(name),
        kind: Kind::Flag(value + "\n"),
        mode: 0o644,
        remedy,
    }
}

/// Returns the flags of an agent, each a file.
fn flags(options: &PlaceOptions) -> Vec<Place> {
    const DIRECTORY: &str = "/etc/mesos-agent";
    let list =
        |name: &str, text: &str, separator: char, parts: Vec<String>, remedy: String| Place {
            path: Path::new(DIRECTORY).join(name),
            kind: Kind::List(format!("{text}\n"), separator, parts),
            mode: 0o644,
            remedy,
        };
    let cni_dir = options.cni_dir.display();
    let plugins: Vec<String> = options.plugins_dir.split(':').map(str::to_owned).collect();
    vec![
        modules_flag(DIRECTORY, &options.config_dir.join("modules-agent.json")),
        flag(
            DIRECTORY,
            "network_cni_config_dir",
            cni_dir.to_string(),
            "write its directory into agent.json as cni_dir (--cni-dir)".to_owned(),
        ),
        list(
            "network_cni_plugins_dir",
            &options.plugins_dir,
            ':',
            plugins,
            "append the directories of bridge, host-local and mesos-cni-port-mapper that it lacks, with : between them".to_owned(),
        ),
        list(
            "isolation",
            ISOLATION,
            ',',
            vec![CNI.to_owned()],
            format!("append ,{CNI}"),
        ),
    ]
}

/// Returns the files that keep network managers away, where packages have not put them.
fn network_managers(answers: &Answers, options: &PlaceOptions) -> Result<Vec<Place>, Failure> {
    let names = names_one_by_one(answers, options);
    let networkd = match &names {
        Some(names) => NETWORKD.replace("vtep* m-* d-*", &names.join(" ")),
        None => NETWORKD.to_owned(),
    };
    let manager = match &names {
        Some(names) => {
            let names: Vec<String> = names
                .iter()
                .map(|name| format!("interface-name:{name}"))
                .collect();
            let all = "interface-name:vtep*;interface-name:m-*;interface-name:d-*";
            NETWORK_MANAGER.replace(all, &names.join(";"))
        }
        None => NETWORK_MANAGER.to_owned(),
    };
    let mut places = Vec::new();
    for (packaged, own, text) in [
        (
            "usr/lib/systemd/network/10-mesos-overlay.network",
            "/etc/systemd/network/10-mesos-overlay.network",
            networkd,
        ),
        (
            "usr/lib/NetworkManager/conf.d/10-mesos-overlay.conf",
            "/etc/NetworkManager/conf.d/10-mesos-overlay.conf",
            manager,
        ),
    ] {
        let place = Place {
            path: own.into(),
            kind: Kind::Text(text),
            mode: 0o644,
            remedy: "compare both: the names of the overlays' devices must be in it".to_owned(),
        };
        let is_packaged = options.root.join(packaged).exists();
        if !(is_packaged && names.is_none() && place.state(&options.root)? == State::Missing) {
            places.push(place);
        }
    }
    Ok(places)
}

/// Returns the names of the overlays' devices if this host has other bridges with such names, which must
/// stay managed.
fn names_one_by_one(answers: &Answers, options: &PlaceOptions) -> Option<Vec<String>> {
    if options.root != Path::new("/") || answers.overlays.is_empty() {
        return None;
    }
    let mut names = vec!["vtep1024".to_owned()];
    for overlay in &answers.overlays {
        names.extend(
            [MESOS_BRIDGE_PREFIX, DOCKER_BRIDGE_PREFIX]
                .map(|prefix| format!("{prefix}{}", overlay.name)),
        );
    }
    let devices = survey::devices().unwrap_or_default();
    let mut bridges = devices.iter().filter(|device| device.kind == "bridge");
    let has_other = bridges
        .any(|bridge| parse_bridge_name(&bridge.name).is_some() && !names.contains(&bridge.name));
    has_other.then_some(names)
}

/// Notes which flags were new, for switching off as docs/install.md has it.
///
/// # Errors
/// The file cannot be written.
pub fn note_switched_on(written: &[&Place], options: &PlaceOptions) -> Result<(), Failure> {
    let agent = Path::new("/etc/mesos-agent");
    let names = written
        .iter()
        .filter(|place| place.path.parent() == Some(agent));
    let mut lines: Vec<String> = names
        .filter_map(|place| Some(place.path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    if lines.iter().any(|name| name == "isolation") {
        lines.push(CNI.to_owned());
    }
    let place = Place {
        path: options.config_dir.join(SWITCHED_ON),
        kind: Kind::Text(lines.join("\n") + "\n"),
        mode: 0o644,
        remedy: String::new(),
    };
    match lines.is_empty() || place.state(&options.root)? != State::Missing {
        true => Ok(()),
        false => place.write(&options.root),
    }
}

/// Returns what is left to do, in order.
pub fn next_steps(answers: &Answers, options: &Options) -> Vec<String> {
    let places = &options.places;
    let mut steps = Vec::new();
    let relative = places.module.strip_prefix("/").unwrap_or(&places.module);
    if !places.root.join(relative).exists() {
        steps.push(format!(
            "copy libmesos_overlay.so to {}",
            places.module.display()
        ));
    }
    let dir = places.config_dir.display();
    if places.layout == Layout::Plain {
        if answers.role.has_master() {
            steps.push(format!(
                "give mesos-master --modules=file://{dir}/modules-master.json"
            ));
        }
        if answers.role.has_agent() {
            steps.push(format!(
                "give mesos-agent --modules=file://{dir}/modules-agent.json --isolation={ISOLATION} --network_cni_config_dir={} --network_cni_plugins_dir={}",
                places.cni_dir.display(),
                places.plugins_dir
            ));
        }
        if answers.role == Role::AgentMaster && answers.zk.is_some() {
            let variable = WORKER_THREADS.split(' ').next().unwrap_or_default();
            steps.push(format!("set {variable} in the environment of mesos-master"));
        }
    }
    if answers.role != Role::Master {
        steps.push("allow UDP port 64000 between agents; on hosts with firewalld, trust the devices (docs/firewall.md)".to_owned());
        steps.push("mesos-overlay check host".to_owned());
    }
    if answers.role.has_master() {
        steps.push(
            restart("mesos-master", places.layout) + ", standby masters first, one at a time",
        );
    }
    if answers.role.has_agent() {
        steps.push(restart("mesos-agent", places.layout));
    }
    steps.push("mesos-overlay status".to_owned());
    steps
}

fn restart(unit: &str, layout: Layout) -> String {
    match layout {
        Layout::Packages => format!("systemctl restart {unit}"),
        Layout::Plain => format!("restart {unit}"),
    }
}
