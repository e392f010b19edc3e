//! Examination of single files: kind, mistakes, warnings, and the files that they name.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use overlay_core::config::{AgentConfig, ConfigError, MasterConfig, agent, master};
use overlay_host::files::{self, Links};
use serde_json::Value;

use super::{FileKind, FileRow, Given, Surroundings, keys, modules};
use crate::finding::Finding;
use crate::finding::kinds::configuration;
use crate::output::page::count;
use crate::this_host::CONFIG_LIMIT;

/// Largest number of files, with those that lists of modules name.
const MAX_FILES: usize = 100;

/// Configurations without mistakes.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Of masters: file and configuration.
    pub masters: Vec<(String, MasterConfig)>,
    /// Of agents.
    pub agents: Vec<AgentFile>,
    /// Settings of Mesos.
    pub surroundings: Surroundings,
}

/// File of an agent without mistakes.
#[derive(Debug)]
pub struct AgentFile {
    /// Path.
    pub file: String,
    /// [`FileKind::Agent`] or [`FileKind::AgentMaster`].
    pub kind: FileKind,
    /// Configuration.
    pub config: AgentConfig,
}

/// Result of the examination of single files.
#[derive(Debug, Default)]
pub struct Examination {
    /// Files.
    pub rows: Vec<FileRow>,
    /// Findings about single files.
    pub findings: Vec<Finding>,
    /// Configurations without mistakes.
    pub parsed: Parsed,
}

/// Examines files and those that they name.
pub fn examine(given: Vec<Given>, surroundings: &Surroundings) -> Examination {
    let mut examination = Examination {
        parsed: Parsed {
            surroundings: surroundings.clone(),
            ..Parsed::default()
        },
        ..Examination::default()
    };
    let mut queue = VecDeque::from(given);
    let mut known: Vec<PathBuf> = Vec::new();
    while let Some(file) = queue.pop_front() {
        if known.contains(&file.path) || known.len() == MAX_FILES {
            continue;
        }
        known.push(file.path.clone());
        queue.extend(examination.add(&file));
    }
    examination
}

impl Examination {
    /// Examines a file, and returns the files that it names.
    fn add(&mut self, given: &Given) -> Vec<Given> {
        let file = given.path.display().to_string();
        let unreadable = |error: std::io::Error| {
            let message = format!("cannot be read: {error}");
            configuration::UNREADABLE
                .finding(message, "correct the path, or what the message names")
                .about(&file)
        };
        let text = match files::read_text(&given.path, Links::Follow, CONFIG_LIMIT) {
            Ok(text) => text,
            Err(_) if super::only_for_others(&given.path) => {
                self.row(&file, given.kind, "only root may read it".to_owned());
                return Vec::new();
            }
            Err(error) => {
                self.findings.push(unreadable(error));
                self.row(&file, given.kind, String::new());
                return Vec::new();
            }
        };
        let kind = given.kind.or_else(|| kind(&given.path, &text));
        match kind {
            Some(FileKind::Master) => self.master(&file, &text),
            Some(kind @ (FileKind::Agent | FileKind::AgentMaster)) => {
                self.agent(&file, kind, &text)
            }
            Some(FileKind::Modules) => {
                let list = modules::examine(&file, &text, &self.parsed.surroundings.root);
                self.row(&file, kind, list.content);
                self.findings.extend(list.findings);
                return list.configurations;
            }
            None => {
                let message = match serde_json::from_str::<Value>(&text) {
                    Ok(_) => "it is not known what kind of configuration this is".to_owned(),
                    Err(error) => format!("not JSON: {error}"),
                };
                let remedy = "correct the file, or say what it is with --kind";
                self.findings
                    .push(configuration::INVALID.finding(message, remedy).about(&file));
                self.row(&file, None, String::new());
            }
        }
        Vec::new()
    }

    fn row(&mut self, file: &str, kind: Option<FileKind>, content: String) {
        self.rows.push(FileRow {
            file: file.to_owned(),
            kind,
            errors: 0,
            warnings: 0,
            content,
        });
    }

    fn master(&mut self, file: &str, text: &str) {
        match master::parse(file, text) {
            Ok(parsed) => {
                self.findings.extend(doubts(file, &parsed.warnings));
                let mut config = parsed.config;
                self.findings
                    .extend(keys::read(file, &mut config.authentication));
                let overlays = count(config.network.overlays.len(), "overlay");
                let names: Vec<&str> = config
                    .network
                    .overlays
                    .iter()
                    .map(|overlay| overlay.name())
                    .collect();
                self.row(
                    file,
                    Some(FileKind::Master),
                    format!("{overlays}: {}", names.join(", ")),
                );
                self.parsed.masters.push((file.to_owned(), config));
            }
            Err(error) => {
                self.findings.extend(mistakes(file, &error));
                self.row(file, Some(FileKind::Master), String::new());
            }
        }
    }

    fn agent(&mut self, file: &str, kind: FileKind, text: &str) {
        match agent::parse(file, text) {
            Ok(parsed) => {
                self.findings.extend(doubts(file, &parsed.warnings));
                let mut config = parsed.config;
                self.findings
                    .extend(keys::read(file, &mut config.authentication));
                let bridges = match (config.network.mesos_bridge, config.network.docker_bridge) {
                    (true, true) => "bridges of Mesos and Docker",
                    (true, false) => "bridges of Mesos",
                    (false, true) => "bridges of Docker",
                    (false, false) => "no bridges",
                };
                self.row(file, Some(kind), bridges.to_owned());
                self.parsed.agents.push(AgentFile {
                    file: file.to_owned(),
                    kind,
                    config,
                });
            }
            Err(error) => {
                self.findings.extend(mistakes(file, &error));
                self.row(file, Some(kind), String::new());
            }
        }
    }
}

/// Returns the kind of a file by its keys, or else by its name.
fn kind(path: &Path, text: &str) -> Option<FileKind> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let value: Option<Value> = serde_json::from_str(text).ok();
    let has = |key: &str| value.as_ref().is_some_and(|value| value.get(key).is_some());
    let agent = match name.contains("agent-master") {
        true => FileKind::AgentMaster,
        false => FileKind::Agent,
    };
    if has("libraries") {
        return Some(FileKind::Modules);
    }
    match (
        has("network") || has("replicated_log_dir"),
        has("cni_dir") || has("network_config"),
    ) {
        (true, false) => return Some(FileKind::Master),
        (false, true) => return Some(agent),
        _ => {}
    }
    [
        ("modules", FileKind::Modules),
        ("agent", agent),
        ("master", FileKind::Master),
    ]
    .into_iter()
    .find_map(|(part, kind)| name.contains(part).then_some(kind))
}

/// Returns a finding for each mistake.
fn mistakes(file: &str, error: &ConfigError) -> Vec<Finding> {
    let mistakes = error.mistakes().iter();
    mistakes
        .map(|mistake| {
            let colon = if mistake.field.is_empty() { "" } else { ": " };
            let message = format!("{}{colon}{}", mistake.field, mistake.problem);
            configuration::INVALID
                .finding(message, &mistake.remedy)
                .about(file)
        })
        .collect()
}

/// Returns a finding for each warning.
fn doubts(file: &str, warnings: &[String]) -> Vec<Finding> {
    let start = format!("{file}: ");
    let texts = warnings
        .iter()
        .map(|line| line.strip_prefix(&start).unwrap_or(line));
    texts
        .map(|text| {
            let (message, remedy) = text
                .split_once("; ")
                .unwrap_or((text, "correct it, or leave it if it is meant"));
            configuration::DOUBTFUL.finding(message, remedy).about(file)
        })
        .collect()
}
