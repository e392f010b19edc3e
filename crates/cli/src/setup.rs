//! `mesos-overlay setup`: a guided first installation. Prints the files that a host needs, or writes them.

mod answers;
mod content;
mod elsewhere;
mod files;
mod managers;

use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use overlay_core::config::zk;
use schemars::JsonSchema;
use serde::Serialize;

use crate::finding::Finding;
use crate::finding::kinds::configuration;
use crate::output::page::{DIM, GOOD, Page, WARNING, styled};
use crate::output::{Failure, OutputOptions, Report, finish};
use answers::Answers;
use files::{Place, State};

/// Prints or writes the files of a first installation on this host.
///
/// The files are those of docs/install.md: the configurations of the modules, the lists of modules,
/// the flags of Mesos, and files that keep network managers away from the overlays' devices.
/// Without --write they are only printed. What is there already is never changed: the same content
/// is left, and for other content the command says what to add, and exits with 1.
///
/// On a terminal, what no option says is asked, unless --yes is given.
#[derive(Debug, clap::Args)]
#[command(
    about = "Prints or writes the files of a first installation",
    verbatim_doc_comment,
    after_long_help = EXAMPLES
)]
pub struct Options {
    /// Role of this host.
    #[arg(long, value_name = "ROLE", value_enum)]
    role: Option<Role>,
    /// Write the files.
    #[arg(long)]
    write: bool,
    /// Ask nothing; what no option says gets its default.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    places: PlaceOptions,
    #[command(flatten)]
    output: OutputOptions,
}

const EXAMPLES: &str = "\
Examples:
  mesos-overlay setup
      Asks, and prints the files of this host
  mesos-overlay setup --role master --zk zk://10.0.0.1:2181/mesos --quorum 1 --write
      A master of one, with the usual network dcos
  mesos-overlay setup --role agent --zk zk://10.0.0.1:2181/mesos --docker --write
      An agent with Docker networks
  mesos-overlay setup --role master --overlay web=10.64.0.0/16/24 --overlay db=10.65.0.0/16/26 --yes
      Two networks; each agent gets a /24 of one and a /26 of the other
  mesos-overlay setup --role agent --root /mnt/image --write
      The files of an image of an agent";

/// Networks of the cluster.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Networks")]
struct NetworkOptions {
    /// Network with its range and the prefix length of each agent's subnet. Repeatable; a name with
    /// ranges of both families is one network. [default: dcos=9.0.0.0/8/24]
    #[arg(long, value_name = "NAME=SUBNET/PREFIX")]
    overlay: Vec<String>,
    /// Range of the addresses of the tunnels' ends. [default: 44.128.0.0/20]
    #[arg(long, value_name = "SUBNET")]
    vtep_subnet: Option<String>,
    /// IPv6 range of the addresses of the tunnels' ends. [default: fd01:a::/64 if a network has IPv6]
    #[arg(long, value_name = "SUBNET")]
    vtep_subnet6: Option<String>,
    /// Give the first network the IPv6 range fd01:b::/64, and agents a /80 of it.
    #[arg(long)]
    ipv6: bool,
    /// ZooKeeper of the masters, zk://host:port[,host:port]…/path. Without this option: the file
    /// /etc/mesos/zk, or none.
    #[arg(long, value_name = "URL")]
    zk: Option<String>,
    /// Address of the only master, host:port, for agents of a cluster without ZooKeeper.
    #[arg(long, value_name = "MASTER", conflicts_with = "zk")]
    master: Option<String>,
    /// Number of masters that form a majority. Without this option: the file /etc/mesos-master/quorum.
    #[arg(long, value_name = "NUMBER")]
    quorum: Option<u32>,
    /// Make every network a Docker network, too.
    #[arg(long)]
    docker: bool,
}

/// Places of files.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Places")]
struct PlaceOptions {
    /// Library of the modules.
    #[arg(long, value_name = "FILE", default_value = content::MODULE)]
    module: PathBuf,
    /// Directory of the modules' configurations.
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/mesos/overlay")]
    config_dir: PathBuf,
    /// Directory of the CNI configurations that the module writes and Mesos reads.
    #[arg(long, value_name = "DIRECTORY", default_value = "/etc/mesos/cni")]
    cni_dir: PathBuf,
    /// Directories of CNI plugins, with ":" between them.
    #[arg(long, value_name = "DIRECTORIES", default_value = content::PLUGINS)]
    plugins_dir: String,
    /// Directory of the masters' replicated log.
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/mesos")]
    log_dir: PathBuf,
    /// How Mesos gets its flags: "packages" as files in /etc/mesos-master and /etc/mesos-agent, "plain"
    /// on its command line, which is then printed.
    #[arg(long, value_name = "LAYOUT", value_enum, default_value_t)]
    layout: Layout,
    /// Directory that stands for /, for an image of a host.
    #[arg(long, value_name = "DIRECTORY", default_value = "/")]
    root: PathBuf,
}

/// Role of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Role {
    /// Master.
    Master,
    /// Agent.
    Agent,
    /// Master whose process has the agent module as well, so that the master reaches containers.
    AgentMaster,
    /// Master and agent on one host.
    Both,
}

impl Role {
    fn has_master(self) -> bool {
        self != Role::Agent
    }

    fn has_agent(self) -> bool {
        matches!(self, Role::Agent | Role::Both)
    }
}

/// Way in which Mesos gets its flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Layout {
    /// Files in /etc/mesos-master and /etc/mesos-agent.
    #[default]
    Packages,
    /// Command line.
    Plain,
}

/// File of the installation.
#[derive(Clone, Debug, Serialize, JsonSchema)]
struct SetupFile {
    /// Path.
    file: String,
    /// State, or what was done.
    state: State,
    /// Content; absent of a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// Result of the command.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SetupReport {
    /// Role of the host.
    role: Role,
    /// Files and directories.
    files: Vec<SetupFile>,
    /// Steps that are left: commands and sentences.
    next: Vec<String>,
    #[serde(skip)]
    findings: Vec<Finding>,
}

impl Report for SetupReport {
    const COMMAND: &'static str = "setup";

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        for (number, file) in self.files.iter().enumerate() {
            let (style, word) = match file.state {
                State::Written => (GOOD, "written"),
                State::Missing => (DIM, "to be written"),
                State::There => (GOOD, "is there already"),
                State::Differs => (WARNING, "is there with other content"),
            };
            if number > 0 {
                page.line("")?;
            }
            page.line(format_args!("{} ({})", file.file, styled(style, word)))?;
            let is_shown = matches!(file.state, State::Missing | State::Differs);
            for line in file
                .content
                .iter()
                .filter(|_| is_shown)
                .flat_map(|text| text.lines())
            {
                page.line(format_args!("    {line}"))?;
            }
        }
        page.heading("Then")?;
        for (number, step) in self.next.iter().enumerate() {
            page.line(format_args!("{}. {step}", number + 1))?;
        }
        Ok(())
    }
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    finish(options.output, set_up(options))
}

fn set_up(options: &Options) -> Result<SetupReport, Failure> {
    check_paths(&options.places)?;
    let root = &options.places.root;
    let answers = Answers::find(options)?;
    let plan = content::plan(&answers, &options.places)?;
    // Nothing is written if something cannot be read.
    let states = plan.places.iter().map(|place| place.state(root));
    let states = states.collect::<Result<Vec<State>, Failure>>()?;
    let mut report = SetupReport {
        role: answers.role,
        files: Vec::new(),
        next: content::next_steps(&answers, options),
        findings: plan.findings,
    };
    let password = answers
        .zk
        .as_deref()
        .filter(|url| zk::redacted(url) != *url);
    if password.is_some() && !options.write {
        report.next.insert(0, KEEP_PASSWORD.to_owned());
    }
    for (place, mut state) in plan.places.iter().zip(states) {
        if state == State::Missing && options.write {
            match write(place, options, &answers) {
                Ok(()) => state = State::Written,
                Err(Failure(sentence)) => report.findings.push(not_written(place, sentence)),
            }
        }
        if state == State::Differs {
            let message = "is there already with other content, and is left as it is";
            let finding = configuration::FILE_IN_PLACE.finding(message, place.remedy(root));
            report.findings.push(finding.about(place.path.display()));
        }
        let content = place.content().map(|text| match password {
            Some(url) if options.write => without_password(text, url),
            _ => text.to_owned(),
        });
        report.files.push(SetupFile {
            file: place.path.display().to_string(),
            state,
            content,
        });
    }
    Ok(report)
}

/// Step where the output has a password.
const KEEP_PASSWORD: &str = "keep this output to yourself, as the password of ZooKeeper is in it; or write the URL to /etc/mesos/zk, which only root may read then, and leave out --zk";

/// Checks that paths are absolute and lead nowhere else.
fn check_paths(places: &PlaceOptions) -> Result<(), Failure> {
    let is_plain = |path: &Path| {
        let mut parts = path.components();
        path.is_absolute() && parts.all(|part| part != Component::ParentDir)
    };
    for (option, path) in [
        ("--module", &places.module),
        ("--config-dir", &places.config_dir),
        ("--cni-dir", &places.cni_dir),
        ("--log-dir", &places.log_dir),
    ] {
        if !is_plain(path) {
            let path = path.display();
            let sentence = format!("{option} {path}: give an absolute path without \"..\"");
            return Err(sentence.into());
        }
    }
    Ok(())
}

/// Writes a file. A flag of an agent is noted before it is written, so that it can be switched off
/// whatever happens in between.
fn write(place: &Place, options: &Options, answers: &Answers) -> Result<(), Failure> {
    if answers.role.has_agent() && options.places.layout == Layout::Packages {
        content::note_switched_on(place, &options.places)?;
    }
    place.write(&options.places.root)
}

fn not_written(place: &Place, sentence: String) -> Finding {
    let remedy = "mend what the message names, and run the command again: what is there stays";
    let finding = configuration::FILE_NOT_WRITTEN.finding(sentence, remedy);
    finding.about(place.path.display())
}

/// Returns the content of a file without the password in a URL.
fn without_password(text: &str, url: &str) -> String {
    // As it is in JSON.
    let written = serde_json::to_string(url).unwrap_or_default();
    text.replace(written.trim_matches('"'), &zk::redacted(url))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn set_up(root: &Path, arguments: &str) -> Result<SetupReport, Failure> {
        let root = root.display();
        let line = format!("setup --yes --root {root} {arguments}");
        super::set_up(&Line::parse_from(line.split_whitespace()).options)
    }

    #[test]
    fn paths_are_absolute() {
        let root = tempfile::tempdir().unwrap();
        for path in ["--config-dir etc/x", "--cni-dir /etc/../x"] {
            let line = format!("--role agent --master 10.0.0.1:5050 {path}");
            let Failure(sentence) = set_up(root.path(), &line).unwrap_err();
            assert!(sentence.contains("absolute path"), "{sentence}");
        }
    }

    #[test]
    fn passwords_are_written_and_not_shown() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let line = "--role agent --zk zk://me:secret@a:2181/mesos";
        let printed = set_up(root, line).unwrap();
        assert!(printed.next[0].contains("password"), "{:?}", printed.next);
        let written = set_up(root, &format!("{line} --write")).unwrap();
        let json = serde_json::to_string(&written).unwrap();
        assert!(!json.contains("secret"), "{json}");
        let file = std::fs::read_to_string(root.join("etc/mesos/overlay/agent.json")).unwrap();
        assert!(file.contains("zk://me:secret@a:2181/mesos"), "{file}");
    }

    /// A run that fails halfway has noted what it wrote, and one after it appends to that.
    #[test]
    fn flags_are_noted_even_if_others_cannot_be_written() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        std::fs::create_dir_all(root.join("etc/mesos-slave")).unwrap();
        // A file where a directory is to be made.
        std::fs::write(root.join("etc/cni"), "").unwrap();
        let line = "--role agent --master 10.0.0.1:5050 --cni-dir /etc/cni --write";
        let noted = || std::fs::read_to_string(root.join("etc/mesos/overlay/switched-on")).unwrap();
        std::fs::write(root.join("etc/mesos-slave/modules"), "file:///x\n").unwrap();
        let report = set_up(root, line).unwrap();
        let codes: Vec<&str> = report.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["file-not-written", "file-in-place"]);
        assert!(!noted().contains("modules"), "{}", noted());
        assert!(noted().contains("isolation\nnetwork/cni\n"), "{}", noted());
        std::fs::remove_file(root.join("etc/mesos-slave/modules")).unwrap();
        let _ = set_up(root, line).unwrap();
        assert!(noted().ends_with("modules\n"), "{}", noted());
        assert!(!root.join("etc/mesos-agent").exists());
    }
}
