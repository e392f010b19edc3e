//! Sources of what the archive has.

mod cluster;
mod host;
mod logs;
mod mesos;
mod network;

use std::path::{Path, PathBuf};
use std::time::Duration;

use overlay_host::files::{self, Links};

use super::bundle::{Bundle, Content, FILE_LIMIT, Form, Wanted};
use super::command::Tools;
use crate::connection::ConnectionOptions;
use crate::output::progress::Progress;
use crate::this_host::modules::ModuleKind;
use crate::this_host::processes::Process;
use crate::this_host::{AGENT_CONFIGS, MASTER_CONFIGS, ThisHost};

/// Time limit of a tool.
const LIMIT: Duration = Duration::from_secs(10);
/// Time limit of all tools together.
pub const TOOLS_LIMIT: Duration = Duration::from_secs(180);
/// Tools without secrets under keys of their own, whose older versions print text for some objects
/// in spite of `-j`.
const TEXT_TOOLS: [&str; 2] = ["ip", "bridge"];

/// Mesos on this host.
#[derive(Clone, Debug)]
pub struct Mesos {
    /// Processes.
    pub host: ThisHost,
    /// Configuration files of the modules.
    pub configs: Vec<PathBuf>,
}

impl Mesos {
    /// Looks for Mesos and the configurations of the modules.
    pub fn look(options: &ConnectionOptions) -> Mesos {
        let host = ThisHost::look();
        let kinds = [ModuleKind::Master, ModuleKind::Agent];
        let of = |process: &Process| kinds.map(|kind| process.module_config(kind));
        let mut configs: Vec<PathBuf> = host.processes.iter().flat_map(of).flatten().collect();
        configs.extend(options.agent_config.clone());
        let usual = MASTER_CONFIGS
            .iter()
            .chain(&AGENT_CONFIGS)
            .map(PathBuf::from);
        configs.extend(usual.filter(|file| file.exists()));
        configs.sort();
        configs.dedup();
        Mesos { host, configs }
    }

    /// Returns the values of a key in the configurations of the modules.
    fn values(&self, key: &str) -> Vec<String> {
        let texts = self.configs.iter().filter_map(|file| text(file).ok());
        let values = texts.filter_map(|text| {
            let config: serde_json::Value = serde_json::from_str(&text).ok()?;
            config[key].as_str().map(str::to_owned)
        });
        let mut values: Vec<String> = values.collect();
        values.sort();
        values.dedup();
        values
    }
}

/// Collector of the archive's files.
pub struct Collector<'a> {
    /// Archive.
    pub bundle: &'a mut Bundle,
    /// Mesos on this host.
    pub mesos: &'a Mesos,
    /// Where the cluster is.
    pub connection: &'a ConnectionOptions,
    /// Age of the oldest lines of logs, in seconds; `None`: no logs.
    pub since: Option<u64>,
    /// Tools of the host.
    pub tools: Tools,
    /// Line that says what is being collected.
    pub progress: &'a Progress,
}

impl Collector<'_> {
    /// Collects everything.
    pub fn collect(&mut self) {
        self.cluster();
        self.mesos();
        self.network();
        self.host();
        if self.since.is_some() {
            self.logs();
        }
    }

    fn add(&mut self, name: &str, what: &str, form: Form, content: Result<Content, String>) {
        let wanted = Wanted {
            name: name.to_owned(),
            what: what.to_owned(),
            form,
        };
        self.bundle.add(wanted, content);
    }

    /// Adds the output of a tool.
    fn tool(&mut self, name: &str, command: &[&str]) {
        let what = command.join(" ");
        self.progress.say(&what);
        let content = self.run(command);
        let can_be_text = command.iter().take(1).all(|tool| TEXT_TOOLS.contains(tool));
        let is_text = can_be_text && content.as_ref().is_ok_and(|content| !is_json(content));
        let form = match name.ends_with(".json") && !is_text {
            true => Form::Json,
            false => Form::Text,
        };
        self.add(name, &what, form, content);
    }

    /// Adds a file of the host.
    fn file(&mut self, name: &str, path: &Path, form: Form) {
        let content = text(path).map(Content::from);
        self.add(name, &path.display().to_string(), form, content);
    }

    /// Returns the output of a tool. The error is a sentence.
    fn run(&mut self, command: &[&str]) -> Result<Content, String> {
        let (name, arguments) = command.split_first().ok_or("there is no command")?;
        let output = self.tools.run(name, arguments, LIMIT, FILE_LIMIT)?;
        let output = output.ended(name, LIMIT)?;
        let error = output.errors.lines().next().unwrap_or_default();
        if !output.is_success && output.text.is_empty() {
            return Err(format!("{name} failed: {error}"));
        }
        Ok(Content {
            bytes: output.text,
            cut: output
                .is_cut
                .then(|| format!("only the first {} MB", FILE_LIMIT >> 20)),
        })
    }
}

fn is_json(content: &Content) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(&content.bytes).is_ok()
}

/// Returns the content of a regular file. The error is a sentence.
fn text(path: &Path) -> Result<String, String> {
    let content = files::read(path, Links::Follow, FILE_LIMIT);
    let content = content.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// Returns a name as a part of a path in the archive.
fn part(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let plain = name.chars().map(|c| if is_plain(c) { c } else { '_' });
    let plain: String = plain.take(100).collect();
    match plain.trim_start_matches('.') {
        "" => "_".to_owned(),
        plain => plain.to_owned(),
    }
}
