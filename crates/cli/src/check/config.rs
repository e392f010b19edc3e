//! `mesos-overlay check config`: mistakes and contradictions of configuration files.

mod file;
mod keys;
mod modules;
mod stored;
mod together;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use overlay_host::files::{self, Links};
use schemars::JsonSchema;
use serde::Serialize;

use crate::connection::{ConnectionOptions, candidates};
use crate::finding::{Finding, Severity};
use crate::output::page::{ERROR, GOOD, Page, WARNING, count, styled};
use crate::output::progress::Progress;
use crate::output::{Failure, OutputOptions, Report, finish};
use crate::this_host::modules::ModuleKind;
use crate::this_host::processes::{Process, Role};
use crate::this_host::{AGENT_CONFIGS, CONFIG_LIMIT, MASTER_CONFIGS, ThisHost};
use file::Examination;

pub use modules::libraries;

/// Remedy of all findings about quorums.
pub const QUORUM_REMEDY: &str = "set zk.quorum or MESOS_QUORUM, and Mesos's --quorum, to the majority of the number of masters (2 of 3) on all masters";

/// Lists of modules in packages, where Mesos does not run.
const MODULES_FILES: [&str; 2] = [
    "/etc/mesos/overlay/modules-master.json",
    "/etc/mesos/overlay/modules-agent.json",
];

/// Files of the flag `--modules` of Mesos.
const FLAG_FILES: [&str; 3] = [
    "etc/mesos-master/modules",
    "etc/mesos-agent/modules",
    "etc/mesos-slave/modules",
];

/// Checks configuration files: master.json, agent.json, agent-master.json and lists of modules.
///
/// All mistakes of each file are shown, and contradictions of the files among each other. The
/// configurations that a list of modules names are checked as well. Without files, those of this host
/// are: of the Mesos that runs here, or the ones in /etc/mesos/overlay. With --master, a master.json
/// is also compared with the allocations that the cluster has stored.
#[derive(Debug, clap::Args)]
#[command(
    about = "Checks configuration files, and what contradicts each other in them",
    verbatim_doc_comment,
    after_long_help = EXAMPLES
)]
pub struct Options {
    /// Files to check. Without them: those of this host.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Kind of all files. Without this option each file's content tells its kind.
    #[arg(long, value_name = "KIND", value_enum, requires = "files")]
    kind: Option<FileKind>,
    /// Directory that stands for / in the paths within lists of modules, for an image of a host.
    #[arg(long, value_name = "DIRECTORY", default_value = "/")]
    root: PathBuf,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

const EXAMPLES: &str = "\
Examples:
  mesos-overlay check config
      The files of this host
  mesos-overlay check config master.json agent.json
      Two files, and what contradicts each other in them
  mesos-overlay check config /etc/mesos/overlay/modules-agent.json
      A list of modules, and the configuration that it names
  mesos-overlay check config --master 10.0.0.1:5050 master.json
      Compares also whether a master that starts with this file would serve with the stored allocations";

/// Kind of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// Configuration of overlay-master: master.json.
    Master,
    /// Configuration of overlay-agent: agent.json.
    Agent,
    /// Configuration of overlay-agent in a Mesos master: agent-master.json.
    AgentMaster,
    /// List of modules for Mesos.
    Modules,
}

impl FileKind {
    fn word(self) -> &'static str {
        match self {
            FileKind::Master => "master",
            FileKind::Agent => "agent",
            FileKind::AgentMaster => "agent in a master",
            FileKind::Modules => "modules",
        }
    }
}

/// File to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Path.
    pub path: PathBuf,
    /// Kind, if it is known.
    pub kind: Option<FileKind>,
}

/// Surroundings of the files: settings of Mesos that belong to them.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Quorum of Mesos, and its origin as a phrase.
    pub quorum: Option<(u32, String)>,
    /// ZooKeeper of the Mesos masters.
    pub zk: Option<String>,
    /// `--master` of the Mesos agent.
    pub master: Option<String>,
    /// Directory that stands for `/` in the files.
    pub root: PathBuf,
    /// True if nothing uses the files, so that those of masters and agents need not fit together.
    pub is_unused: bool,
}

impl Surroundings {
    /// Returns the settings of the Mesos that runs on this host.
    pub fn of_host(host: &ThisHost) -> Surroundings {
        let master = host.mesos_master();
        let quorum = master.and_then(|master| {
            let quorum = master.flag("quorum")?.trim().parse().ok()?;
            Some((quorum, format!("the Mesos master (pid {})", master.pid)))
        });
        Surroundings {
            quorum,
            zk: master.and_then(|master| master.flag("zk")),
            master: host.mesos_agent().and_then(|agent| agent.flag("master")),
            root: "/".into(),
            is_unused: !is_in_use(host),
        }
    }
}

/// File that was checked.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct FileRow {
    /// Path.
    file: String,
    /// Kind; absent if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<FileKind>,
    /// Number of errors that are about this file.
    errors: usize,
    /// Number of warnings that are about this file.
    warnings: usize,
    /// Content in a few words.
    #[serde(skip_serializing_if = "String::is_empty")]
    content: String,
}

/// Result of the command.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ConfigReport {
    /// Files that were checked.
    files: Vec<FileRow>,
    #[serde(skip)]
    findings: Vec<Finding>,
}

impl ConfigReport {
    /// Returns what is wrong.
    pub fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}

impl Report for ConfigReport {
    const COMMAND: &'static str = "check config";

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        let rows = self.files.iter().map(|row| {
            let result = match (row.errors, row.warnings) {
                (0, 0) => styled(GOOD, "ok"),
                (0, warnings) => styled(WARNING, count(warnings, "warning")),
                (errors, _) => styled(ERROR, count(errors, "error")),
            };
            let kind = row.kind.map_or("", FileKind::word);
            vec![
                row.file.clone(),
                kind.to_owned(),
                result,
                row.content.clone(),
            ]
        });
        page.table(&["FILE", "KIND", "RESULT", "CONTENT"], &[], rows)
    }
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    finish(options.output, report(options))
}

fn report(options: &Options) -> Result<ConfigReport, Failure> {
    let host = ThisHost::look();
    let (files, mut surroundings) = match options.files.is_empty() {
        true => (of_host(&host), Surroundings::of_host(&host)),
        false => (given(options), Surroundings::default()),
    };
    surroundings.root.clone_from(&options.root);
    if files.is_empty() {
        let sentence = "this host has no configuration of the overlay modules: no Mesos loads one, and /etc/mesos/overlay has none; name the files to check";
        return Err(sentence.into());
    }
    let examination = file::examine(files, &surroundings);
    let stored = match options.connection.master {
        Some(_) => {
            let _progress = Progress::new("asking the master for its allocations", 0);
            stored::compare(&examination, &options.connection, &host)?
        }
        None => Vec::new(),
    };
    Ok(finished(examination, stored))
}

/// Examines files, and what contradicts each other in them.
pub fn examine(files: Vec<Given>, surroundings: &Surroundings) -> ConfigReport {
    finished(file::examine(files, surroundings), Vec::new())
}

fn finished(examination: Examination, more: Vec<Finding>) -> ConfigReport {
    let mut findings = examination.findings;
    findings.extend(together::contradictions(&examination.parsed));
    findings.extend(more);
    findings.sort_by_key(|finding| finding.severity);
    let mut files = examination.rows;
    for row in &mut files {
        let about = |severity| {
            let about = findings
                .iter()
                .filter(|finding| finding.severity == severity);
            about
                .filter(|finding| finding.subject.as_deref() == Some(&row.file))
                .count()
        };
        (row.errors, row.warnings) = (about(Severity::Error), about(Severity::Warning));
    }
    ConfigReport { files, findings }
}

fn given(options: &Options) -> Vec<Given> {
    let files = options.files.iter().map(|path| Given {
        path: path.clone(),
        kind: options.kind,
    });
    files.collect()
}

/// Returns the files of this host: those that the Mesos processes load. Before Mesos runs they are those
/// that its flags name, or else the packages', which nothing may ever load together.
pub fn of_host(host: &ThisHost) -> Vec<Given> {
    let mut files: Vec<Given> = host.processes.iter().flat_map(of_process).collect();
    if host.processes.is_empty() {
        files = named_by_flags(Path::new("/"));
        if files.is_empty() {
            files = usual();
        }
    }
    let mut known: Vec<Given> = Vec::new();
    for file in files {
        if !known.iter().any(|known| known.path == file.path) {
            known.push(file);
        }
    }
    known
}

/// Returns true if files of this host are in use, or will be: Mesos runs, or its flags name lists of
/// modules.
fn is_in_use(host: &ThisHost) -> bool {
    !host.processes.is_empty() || !named_by_flags(Path::new("/")).is_empty()
}

/// Returns the lists of modules that files of flags name. `root` stands for `/`.
fn named_by_flags(root: &Path) -> Vec<Given> {
    let lists = FLAG_FILES.iter().filter_map(|file| {
        let text = files::read_text(&root.join(file), Links::Follow, CONFIG_LIMIT).ok()?;
        let path = text.trim();
        let path = PathBuf::from(path.strip_prefix("file://").unwrap_or(path));
        (path.is_absolute() && modules::is_ours(&path)).then_some(Given {
            path,
            kind: Some(FileKind::Modules),
        })
    });
    lists.collect()
}

/// Returns the files of packages.
fn usual() -> Vec<Given> {
    let lists = MODULES_FILES.iter().map(|file| (file, FileKind::Modules));
    let masters = MASTER_CONFIGS.iter().map(|file| (file, FileKind::Master));
    let agents = AGENT_CONFIGS.iter().map(|file| (file, FileKind::Agent));
    let usual = lists.chain(masters).chain(agents);
    let usual = usual.map(|(path, kind)| Given {
        path: path.into(),
        kind: Some(kind),
    });
    usual.filter(|file| file.path.exists()).collect()
}

/// Returns true if this user may not open a file, which is no mistake: configurations with passwords
/// are only for root.
pub fn only_for_others(path: &Path) -> bool {
    let is_denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    !nix::unistd::geteuid().is_root() && File::open(path).err().is_some_and(is_denied)
}

/// Returns the files that a process of Mesos loads. A list of modules counts if it has ours.
fn of_process(process: &Process) -> Vec<Given> {
    let lists = process.module_files().into_iter();
    let lists = lists
        .filter(|path| modules::is_ours(path))
        .map(|path| Given {
            path,
            kind: Some(FileKind::Modules),
        });
    let of_kind = |kind: ModuleKind| Some((process.module_config(kind)?, kind));
    let configs = [ModuleKind::Master, ModuleKind::Agent]
        .into_iter()
        .filter_map(of_kind);
    let configs = configs.map(|(path, kind)| Given {
        path,
        kind: Some(match (kind, process.role) {
            (ModuleKind::Master, _) => FileKind::Master,
            (ModuleKind::Agent, Role::Agent) => FileKind::Agent,
            (ModuleKind::Agent, Role::Master) => FileKind::AgentMaster,
        }),
    });
    lists.chain(configs).collect()
}

/// Returns the addresses of the masters that are in ZooKeeper now; `None`: they cannot be told.
pub fn masters_at(zk: &str) -> Option<Vec<String>> {
    let options = ConnectionOptions {
        master: Some(zk.to_owned()),
        agent_config: None,
        principal: None,
        secret_file: None,
        https: false,
        ca_file: None,
        timeout: 5,
    };
    let place = candidates::find(&options, &ThisHost::default()).ok()?;
    Some(place.masters)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn flags_of_mesos_name_lists_of_modules() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(named_by_flags(root), []);
        let list = root.join("list.json");
        fs::write(&list, r#"{"file": "libmesos_overlay.so"}"#).unwrap();
        fs::create_dir_all(root.join("etc/mesos-slave")).unwrap();
        let flag = format!("file://{}\n", list.display());
        fs::write(root.join("etc/mesos-slave/modules"), flag).unwrap();
        let given = Given {
            path: list.clone(),
            kind: Some(FileKind::Modules),
        };
        assert_eq!(named_by_flags(root), [given]);
        // Of others.
        fs::write(&list, "{}").unwrap();
        assert_eq!(named_by_flags(root), []);
    }

    /// Packages put the files of masters and agents on all hosts.
    #[test]
    fn files_that_nothing_uses_need_not_fit_together() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            Given { path, kind: None }
        };
        let files = vec![
            write(
                "master.json",
                r#"{"replicated_log_dir": "/x", "network": {"vtep_subnet": "44.128.0.0/20",
                "vtep_mac_oui": "70:B3:D5:00:00:00",
                "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}]}}"#,
            ),
            write(
                "agent.json",
                r#"{"cni_dir": "/y", "master": "9.1.2.3:5050"}"#,
            ),
        ];
        for (is_unused, expected) in [(false, 1), (true, 0)] {
            let surroundings = Surroundings {
                is_unused,
                ..Surroundings::default()
            };
            let findings = examine(files.clone(), &surroundings).into_findings();
            assert_eq!(findings.len(), expected, "{findings:?}");
        }
    }
}
