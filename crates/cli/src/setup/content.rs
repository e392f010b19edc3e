//! Content of the files of an installation.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use overlay_core::config::{agent, master};
use serde::Serialize;

use super::answers::Answers;
use super::elsewhere::{self, Flag};
use super::files::{Kind, Place, append_lines};
use super::{Layout, Options, PlaceOptions, Role, managers};
use crate::finding::Finding;
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

/// File of docs/install.md that notes which flags are new, for switching off.
const SWITCHED_ON: &str = "switched-on";

/// Files of an installation, and what keeps some of them from being written.
#[derive(Debug, Default)]
pub struct Plan {
    /// Files and directories.
    pub places: Vec<Place>,
    /// Findings.
    pub findings: Vec<Finding>,
}

impl Plan {
    /// Adds the file of a flag, unless Mesos gets the flag by another way.
    fn add_flag(&mut self, place: Place, kind: ModuleKind, root: &Path) -> Result<(), Failure> {
        match elsewhere::find(&place, kind, root)? {
            Flag::OfFile => self.places.push(place),
            Flag::Suits => {}
            Flag::Differs(finding) => self.findings.push(finding),
        }
        Ok(())
    }

    fn add_master(&mut self, answers: &Answers, options: &PlaceOptions) -> Result<(), Failure> {
        let dir = &options.config_dir;
        let text = master_json(answers, options);
        master::parse("master.json", &text).map_err(|error| error.to_string())?;
        self.places
            .push(configuration(dir.join("master.json"), text));
        let mut modules = vec![(ModuleKind::Master, dir.join("master.json"))];
        if answers.role == Role::AgentMaster {
            let text = agent_json(answers, options, false)?;
            self.places
                .push(configuration(dir.join("agent-master.json"), text));
            modules.push((ModuleKind::Agent, dir.join("agent-master.json")));
        }
        let list_file = dir.join("modules-master.json");
        self.places.push(list(list_file.clone(), options, &modules));
        if options.layout == Layout::Packages {
            let flag = modules_flag("/etc/mesos-master", &list_file);
            self.add_flag(flag, ModuleKind::Master, &options.root)?;
            if answers.role == Role::AgentMaster && answers.zk.is_some() {
                self.places.push(Place {
                    path: "/etc/default/mesos-master".into(),
                    kind: Kind::Variables(WORKER_THREADS.to_owned()),
                    mode: 0o644,
                    remedy: "append this line to the file, on a line of its own".to_owned(),
                });
            }
        }
        Ok(())
    }

    fn add_agent(&mut self, answers: &Answers, options: &PlaceOptions) -> Result<(), Failure> {
        let dir = &options.config_dir;
        let text = agent_json(answers, options, true)?;
        self.places
            .push(configuration(dir.join("agent.json"), text));
        let modules = [(ModuleKind::Agent, dir.join("agent.json"))];
        self.places
            .push(list(dir.join("modules-agent.json"), options, &modules));
        self.places.push(Place {
            path: options.cni_dir.clone(),
            kind: Kind::Directory,
            mode: 0o755,
            remedy: String::new(),
        });
        if options.layout == Layout::Packages {
            for flag in flags(options) {
                self.add_flag(flag, ModuleKind::Agent, &options.root)?;
            }
        }
        Ok(())
    }
}

/// Returns the files and directories that a host needs.
///
/// # Errors
/// The answers make a configuration with mistakes, and the error has all of them; or what is there
/// cannot be read.
pub fn plan(answers: &Answers, options: &PlaceOptions) -> Result<Plan, Failure> {
    let mut plan = Plan::default();
    if answers.role.has_master() {
        plan.add_master(answers, options)?;
    }
    if answers.role.has_agent() {
        plan.add_agent(answers, options)?;
    }
    if answers.role != Role::Master {
        let managers = managers::plan(answers, options)?;
        plan.places.extend(managers.places);
        plan.findings.extend(managers.findings);
    }
    Ok(plan)
}

/// Returns the name of the agent in the packages of Mesos on this host: older ones call it a slave.
fn agent_program(options: &PlaceOptions) -> &'static str {
    let has = |directory: &str| options.root.join(directory).is_dir();
    match has("etc/mesos-slave") && !has("etc/mesos-agent") {
        true => "mesos-slave",
        false => "mesos-agent",
    }
}

/// Returns the directory whose files are flags of agents.
fn agent_flags(options: &PlaceOptions) -> PathBuf {
    Path::new("/etc").join(agent_program(options))
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

fn modules_flag(directory: impl AsRef<Path>, list: &Path) -> Place {
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

fn flag(directory: impl AsRef<Path>, name: &str, value: String, remedy: String) -> Place {
    Place {
        path: directory.as_ref().join(name),
        kind: Kind::Flag(value + "\n"),
        mode: 0o644,
        remedy,
    }
}

/// Returns the flags of an agent, each a file.
fn flags(options: &PlaceOptions) -> Vec<Place> {
    let directory = agent_flags(options);
    let list =
        |name: &str, text: &str, separator: char, parts: Vec<String>, remedy: String| Place {
            path: directory.join(name),
            kind: Kind::List(format!("{text}\n"), separator, parts),
            mode: 0o644,
            remedy,
        };
    let cni_dir = options.cni_dir.display();
    let plugins: Vec<String> = options.plugins_dir.split(':').map(str::to_owned).collect();
    vec![
        modules_flag(&directory, &options.config_dir.join("modules-agent.json")),
        flag(
            &directory,
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

/// Notes that a flag is new, for switching off as docs/install.md has it. Other files are not noted.
///
/// # Errors
/// The note cannot be written.
pub fn note_switched_on(place: &Place, options: &PlaceOptions) -> Result<(), Failure> {
    if place.path.parent() != Some(&agent_flags(options)) {
        return Ok(());
    }
    let name = place.path.file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    let lines = match &*name {
        "isolation" => vec!["isolation", CNI],
        name => vec![name],
    };
    append_lines(&options.root, &options.config_dir.join(SWITCHED_ON), &lines)
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
        steps.push(restart(agent_program(places), places.layout));
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
