//! `mesos-overlay config from-dcos`: the modules' files from DC/OS's `config.yaml`.

mod checks;
mod files;
mod generator;
mod place;
mod python;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use overlay_core::config::overlay::Definition;
use overlay_host::files as host_files;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::yaml::{self, Document, Mark, Node};
use crate::finding::{Finding, kinds::configuration};
use crate::output::page::{DIM, Page, styled};
use crate::output::{Failure, OutputOptions, Report, finish};
use checks::Checked;
use files::{Layout, Role, RoleFile};
use generator::Settings;

/// Size limit of `config.yaml`, in bytes.
const LIMIT: u64 = 1 << 20;

/// Makes the modules' files from DC/OS's config.yaml.
///
/// Keys, defaults and checks are those of DC/OS's generator. Besides, everything is checked that
/// the modules check, and where both differ is said. Without --write the files are printed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mesos-overlay config from-dcos genconf/config.yaml --role master
  mesos-overlay config from-dcos config.yaml --role agent --layout clusterd --write /
  mesos-overlay config from-dcos config.yaml --role master -o json | jq '.files[0].content'")]
pub struct Options {
    /// DC/OS's config.yaml.
    #[arg(value_name = "CONFIG.YAML")]
    file: PathBuf,
    /// Role of the host that the files are for.
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Role,
    /// Places of the files.
    #[arg(long, value_enum, value_name = "LAYOUT", default_value_t)]
    layout: Layout,
    /// Write the files below this directory, such as /. Files that are there with other settings
    /// stay, and then nothing is written.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    #[command(flatten)]
    output: OutputOptions,
}

/// Files that were made from a configuration of DC/OS.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Conversion {
    /// `master`, `agent` or `agent-master`.
    role: &'static str,
    /// `dcos` or `clusterd`.
    layout: &'static str,
    /// False if `dcos_overlay_enable` is: Mesos then loads no overlay modules.
    enabled: bool,
    /// Files of the role. There are none if the modules would not start with them.
    files: Vec<ConvertedFile>,
    /// Networks of the configuration.
    networks: Vec<ConvertedNetwork>,
    /// True if DC/OS's generator takes the configuration.
    dcos_accepts: bool,
    /// Values that DC/OS's generator and this program judge differently.
    differences: Vec<Difference>,
    /// Remarks.
    notes: Vec<String>,
    #[serde(skip)]
    findings: Vec<Finding>,
}

/// File of a role.
#[derive(Debug, Serialize, JsonSchema)]
struct ConvertedFile {
    /// Absolute path; with `--write` below that directory.
    path: String,
    /// Content.
    content: Value,
    /// What `--write` did.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<place::State>,
}

/// Network of a configuration.
#[derive(Debug, Serialize, JsonSchema)]
struct ConvertedNetwork {
    /// Name.
    name: String,
    /// True if agents get subnets of it.
    enabled: bool,
    /// Ranges.
    ranges: Vec<ConvertedRange>,
}

/// Range of a network.
#[derive(Debug, Serialize, JsonSchema)]
struct ConvertedRange {
    /// Range.
    range: String,
    /// Prefix length of an agent's subnet.
    prefix: u8,
    /// Number of subnets for agents.
    agent_subnets: u128,
}

/// Value that DC/OS's generator and this program judge differently.
#[derive(Debug, Serialize, JsonSchema)]
struct Difference {
    /// Path of the value.
    key: String,
    /// True if DC/OS's generator takes it, and this program does not. False if it is the other way
    /// round.
    dcos_accepts: bool,
    /// The reason, one sentence.
    reason: String,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    finish(options.output, convert(options))
}

fn convert(options: &Options) -> Result<Conversion, Failure> {
    let name = options.file.display().to_string();
    let text = host_files::read_text(&options.file, host_files::Links::Follow, LIMIT)
        .map_err(|error| format!("cannot read {name}: {error}"))?;
    let mut conversion = convert_text(&text, &name, options.role, options.layout);
    if let Some(directory) = &options.write {
        conversion.write_files(directory)?;
        conversion.look_for_list(directory, options.layout.list_of_modules(options.role));
    }
    Ok(conversion)
}

/// Converts the text of a `config.yaml`.
fn convert_text(text: &str, name: &str, role: Role, layout: Layout) -> Conversion {
    let document = match yaml::read(text).and_then(with_keys) {
        Ok(document) => document,
        Err(mistake) => return Conversion::unreadable(role, layout, name, &mistake),
    };
    match generator::read(&document) {
        Ok(settings) => Conversion::of(&settings, &document, name, role, layout),
        Err(mistake) => Conversion::unreadable(role, layout, name, &mistake),
    }
}

/// Checks that a document is a mapping.
fn with_keys(document: Document) -> Result<Document, yaml::Mistake> {
    match document.root.data {
        yaml::Data::Map(_) => Ok(document),
        _ => Err(yaml::Mistake {
            mark: document.root.mark,
            what: format!("the file has {} instead of keys", document.root.kind()),
            remedy: "give the configuration of DC/OS",
        }),
    }
}

impl Conversion {
    fn empty(role: Role, layout: Layout) -> Conversion {
        Conversion {
            role: role.name(),
            layout: layout.name(),
            enabled: true,
            files: Vec::new(),
            networks: Vec::new(),
            dcos_accepts: false,
            differences: Vec::new(),
            notes: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Creates the result of a file that cannot be used at all.
    fn unreadable(role: Role, layout: Layout, name: &str, mistake: &yaml::Mistake) -> Conversion {
        let yaml::Mistake { mark, what, remedy } = mistake;
        let message = format!("{mark}: {what}");
        let finding = configuration::INVALID.finding(message, *remedy);
        let place = format!("{name}:{}", mark.line);
        Conversion {
            findings: vec![finding.about(place)],
            ..Conversion::empty(role, layout)
        }
    }

    fn of(
        settings: &Settings,
        document: &Document,
        name: &str,
        role: Role,
        layout: Layout,
    ) -> Conversion {
        let mut checked = checks::check(settings, document, name, layout);
        check_switch(settings, document, name, &mut checked);
        let files = match checked.mistaken.as_slice() {
            [] => files::of_role(settings, layout, role),
            _ => Vec::new(),
        };
        let overlays = checked
            .master
            .as_ref()
            .map(|master| &master.network.overlays);
        let mut conversion = Conversion {
            enabled: settings.is_enabled,
            files: files.into_iter().map(ConvertedFile::from).collect(),
            networks: overlays.into_iter().flatten().map(network).collect(),
            dcos_accepts: settings.refusals.is_empty(),
            differences: differences(settings, &checked),
            notes: notes(settings, layout, role),
            findings: checked.findings,
            ..Conversion::empty(role, layout)
        };
        conversion.notes.extend(checked.notes);
        conversion
    }

    /// Writes the files below a directory.
    fn write_files(&mut self, directory: &Path) -> Result<(), Failure> {
        let files: Vec<RoleFile> = self.files.iter().map(ConvertedFile::role_file).collect();
        let states = place::write(directory, &files)?;
        for (file, (path, state)) in self.files.iter_mut().zip(states) {
            file.path = path.display().to_string();
            file.state = Some(state);
            if state == place::State::Different {
                let message = "the file is there with other settings, and stays";
                let remedy = "compare it with the output without --write, and move it away";
                let finding = configuration::FILE_IN_PLACE.finding(message, remedy);
                self.findings.push(finding.about(&file.path));
            }
        }
        self.findings.sort_by_key(|finding| finding.severity);
        Ok(())
    }

    /// Looks for a list of modules that an installation without the modules must not have.
    fn look_for_list(&mut self, directory: &Path, list: &str) {
        let path = place::below(directory, list);
        if self.enabled || fs::symlink_metadata(&path).is_err() {
            return;
        }
        let message =
            "dcos_overlay_enable is false, but the list of modules is there, and Mesos loads them";
        let finding = configuration::FILE_IN_PLACE.finding(message, "move the list away");
        self.findings.push(finding.about(path.display()));
        self.findings.sort_by_key(|finding| finding.severity);
    }
}

impl From<RoleFile> for ConvertedFile {
    fn from(file: RoleFile) -> ConvertedFile {
        ConvertedFile {
            path: file.path,
            content: file.content,
            state: None,
        }
    }
}

impl ConvertedFile {
    fn role_file(&self) -> RoleFile {
        RoleFile {
            path: self.path.clone(),
            content: self.content.clone(),
        }
    }
}

/// Checks the key that switches the modules on.
fn check_switch(settings: &Settings, document: &Document, name: &str, checked: &mut Checked) {
    const KEY: &str = "dcos_overlay_enable";
    let Some(refusal) = settings
        .refusals
        .iter()
        .find(|refusal| refusal.field == KEY)
    else {
        return;
    };
    // A key without a value has its default.
    if node_of(document, KEY).is_some_and(|node| matches!(node.data, yaml::Data::Null)) {
        return;
    }
    let message = format!("{KEY} {}", refusal.what);
    let finding = configuration::INVALID.finding(message, "write true or false");
    let line = place_of(document, KEY).map_or(1, |mark| mark.line);
    checked
        .findings
        .insert(0, finding.about(format_args!("{name}:{line}")));
    checked.mistaken.push(KEY.to_owned());
}

fn network(overlay: &Definition) -> ConvertedNetwork {
    let config = overlay.config();
    let range = |range: overlay_core::config::Range| ConvertedRange {
        range: range.net.to_string(),
        prefix: range.prefix,
        agent_subnets: 1 << (range.prefix - range.net.prefix_len()).min(127),
    };
    ConvertedNetwork {
        name: config.name.clone(),
        enabled: config.enabled,
        ranges: config.ranges().map(range).collect(),
    }
}

/// Returns true if one of two paths of values is the other one, or that of something in it.
fn is_same(one: &str, other: &str) -> bool {
    let is_in = |inner: &str, outer: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    is_in(one, other) || is_in(other, one)
}

/// Returns what DC/OS's generator and this program judge differently.
fn differences(settings: &Settings, checked: &Checked) -> Vec<Difference> {
    let refused = settings.refusals.iter().filter(|refusal| {
        !checked
            .mistaken
            .iter()
            .any(|path| is_same(path, &refusal.field))
    });
    let refused = refused.map(|refusal| Difference {
        key: refusal.field.clone(),
        dcos_accepts: false,
        reason: format!(
            "{} {}: DC/OS's generator refuses it, and this program takes it",
            refusal.field, refusal.what
        ),
    });
    let accepted = checked.mistaken.iter().filter(|path| {
        let mut refusals = settings.refusals.iter();
        !refusals.any(|refusal| is_same(path, &refusal.field))
    });
    let accepted = accepted.map(|path| Difference {
        key: path.clone(),
        dcos_accepts: true,
        reason: format!("{path}: DC/OS's generator takes it, and the modules do not start with it"),
    });
    refused.chain(accepted).collect()
}

/// Returns remarks about the files of a role.
fn notes(settings: &Settings, layout: Layout, role: Role) -> Vec<String> {
    let mut notes = Vec::new();
    for (path, before, after) in &settings.expanded {
        notes.push(format!("{path}: {before} is written as {after}."));
    }
    if !settings.is_enabled {
        notes.push(
            "dcos_overlay_enable is false: there is no list of modules, and Mesos loads none."
                .to_owned(),
        );
    }
    let off = settings.network["overlays"]
        .as_array()
        .into_iter()
        .flatten();
    for overlay in off.filter(|overlay| overlay["enabled"] == false && overlay["subnet"].is_null())
    {
        if settings.enable_ipv6 == false {
            let name = overlay["name"].as_str().unwrap_or_default();
            notes.push(format!(
                "enable_ipv6 is false: {name} has no IPv4, and is turned off."
            ));
        }
    }
    if layout == Layout::Clusterd {
        notes.extend(clusterd_notes(role).into_iter().map(str::to_owned));
    }
    notes
}

/// Returns remarks about the way from DC/OS to another Mesos.
fn clusterd_notes(role: Role) -> Vec<&'static str> {
    match role {
        Role::Agent => vec![
            "docker_bridge is true, as in DC/OS: set it to false on hosts without Docker.",
            "Tell Mesos to load the module: docs/install.md, \"Switch on an agent\".",
        ],
        Role::Master | Role::AgentMaster => vec![
            "Agents keep their subnets if /var/lib/mesos/overlay_replicated_log is a copy of DC/OS's /var/lib/dcos/mesos/master/overlay_replicated_log.",
            "Tell Mesos to load the module: docs/install.md, \"Switch on a master\".",
        ],
    }
}

/// Returns the value at a path such as `dcos_overlay_network.overlays[0].name`.
fn node_of(document: &Document, path: &str) -> Option<Rc<Node>> {
    walk(document, path)
        .filter(|(_, is_whole)| *is_whole)
        .map(|(node, _)| node)
}

/// Returns the place of a value, or of the innermost one around it that is there.
fn place_of(document: &Document, path: &str) -> Option<Mark> {
    walk(document, path).map(|(node, _)| node.mark)
}

/// Follows a path as far as it goes. `None`: its first key is not there.
fn walk(document: &Document, path: &str) -> Option<(Rc<Node>, bool)> {
    let mut node = document.root.clone();
    for (depth, part) in path.split('.').enumerate() {
        let (key, index) = match part.split_once('[') {
            Some((key, index)) => (key, index.trim_end_matches(']').parse().ok()),
            None => (part, None),
        };
        let Some(value) = node.get(key).cloned() else {
            return (depth > 0).then_some((node, false));
        };
        node = value;
        if let (Some(index), yaml::Data::List(nodes)) = (index, &node.data) {
            match nodes.get::<usize>(index).cloned() {
                Some(entry) => node = entry,
                None => return Some((node, false)),
            }
        }
    }
    Some((node, true))
}

impl Report for Conversion {
    const COMMAND: &'static str = "config from-dcos";

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        for file in &self.files {
            match file.state {
                None => {
                    page.line(styled(DIM, format_args!("# {}", file.path)))?;
                    page.line(place::text(&file.content))?;
                }
                Some(place::State::Written) => page.line(format_args!("wrote {}", file.path))?,
                Some(place::State::Unchanged) => {
                    page.line(format_args!("{} is there already", file.path))?;
                }
                Some(_) => page.line(format_args!("did not write {}", file.path))?,
            }
        }
        let rows = self.networks.iter().flat_map(|network| {
            network.ranges.iter().map(|range| {
                let state = if network.enabled { "" } else { "disabled" };
                vec![
                    network.name.clone(),
                    range.range.clone(),
                    format!("/{}", range.prefix),
                    range.agent_subnets.to_string(),
                    state.to_owned(),
                ]
            })
        });
        page.table(
            &["NETWORK", "RANGE", "AGENT'S SUBNET", "AGENTS", ""],
            &[3],
            rows,
        )?;
        if !self.differences.is_empty() {
            page.heading("Differences from DC/OS")?;
        }
        for difference in &self.differences {
            page.line(format_args!("{}.", difference.reason))?;
        }
        if !self.notes.is_empty() {
            page.heading("Notes")?;
        }
        for note in &self.notes {
            page.line(note)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
