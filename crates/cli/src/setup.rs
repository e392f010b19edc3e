//! `mesos-overlay setup`: a guided first installation. Prints the files that a host needs, or writes them.

mod answers;
mod content;
mod files;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

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
    /// What is there, or was done.
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
    /// What is left to do: commands and sentences.
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
    let answers = Answers::find(options)?;
    let places = content::places(&answers, &options.places)?;
    let mut report = SetupReport {
        role: answers.role,
        files: Vec::new(),
        next: content::next_steps(&answers, options),
        findings: Vec::new(),
    };
    let mut written: Vec<&Place> = Vec::new();
    for place in &places {
        let mut state = place.state(&options.places.root)?;
        if state == State::Missing && options.write {
            place.write(&options.places.root)?;
            state = State::Written;
            written.push(place);
        }
        if state == State::Differs {
            let message = "is there already with other content, and is left as it is";
            let finding =
                configuration::FILE_IN_PLACE.finding(message, place.remedy(&options.places.root));
            report.findings.push(finding.about(place.path.display()));
        }
        report.files.push(SetupFile {
            file: place.path.display().to_string(),
            state,
            content: place.content().map(str::to_owned),
        });
    }
    if answers.role.has_agent() && options.places.layout == Layout::Packages {
        content::note_switched_on(&written, &options.places)?;
    }
    Ok(report)
}
