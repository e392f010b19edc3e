//! Flags that Mesos gets already, but not by the file of the flag: from `/etc/default`, or by the flag
//! that stands for it.

use std::fs;
use std::path::{Path, PathBuf};

use overlay_host::files::{self, Links};

use super::files::{Place, State};
use crate::finding::Finding;
use crate::finding::kinds::configuration;
use crate::output::Failure;
use crate::this_host::CONFIG_LIMIT;
use crate::this_host::defaults::{self, Setting};
use crate::this_host::modules::{self, ModuleKind};

/// Origin of a flag.
#[derive(Debug, PartialEq, Eq)]
pub enum Flag {
    /// Nothing gives it to Mesos but the file.
    OfFile,
    /// Something else gives it the value that is needed.
    Suits,
    /// Something else gives it another value, beside which a file must not be written.
    Differs(Finding),
}

/// Finds out whether Mesos gets a flag elsewhere than by its file. `root` stands for `/`.
///
/// # Errors
/// The file of the flag cannot be read.
pub fn find(place: &Place, kind: ModuleKind, root: &Path) -> Result<Flag, Failure> {
    if place.state(root)? != State::Missing {
        return Ok(Flag::OfFile);
    }
    let name = place.path.file_name().unwrap_or_default();
    let name = name.to_string_lossy().into_owned();
    let variables = match kind {
        ModuleKind::Master => defaults::OF_MASTERS,
        ModuleKind::Agent => defaults::OF_AGENTS,
    };
    if name == "modules"
        && let Some(setting) = modules_dir(place, root, variables)
    {
        return Ok(beside_directory(place, &setting, kind, root));
    }
    let Some(setting) = defaults::flag(root, variables, &name) else {
        return Ok(Flag::OfFile);
    };
    let file = setting.value.strip_prefix("file://");
    let has_module = |file: &str| has_module(&image(root, file), kind);
    if place.is_same(&setting.value) || (name == "modules" && file.is_some_and(has_module)) {
        return Ok(Flag::Suits);
    }
    let message = format!(
        "{} is set there, and the file {} would give Mesos the flag twice",
        setting.name,
        place.path.display()
    );
    let remedy = format!("{} (in the value of {})", place.remedy, setting.name);
    let finding = configuration::FILE_IN_PLACE.finding(message, remedy);
    Ok(Flag::Differs(finding.about(setting.file)))
}

/// Returns the setting of `--modules_dir`, by a file beside that of `--modules`, or by a variable.
fn modules_dir(place: &Place, root: &Path, variables: &[&str]) -> Option<Setting> {
    const NAME: &str = "modules_dir";
    let file = place.path.with_file_name(NAME);
    let path = image(root, &file.display().to_string());
    match files::read_text(&path, Links::Follow, CONFIG_LIMIT) {
        Ok(text) => Some(Setting {
            file: file.display().to_string(),
            name: NAME.to_owned(),
            value: text.trim().to_owned(),
        }),
        Err(_) => defaults::flag(root, variables, NAME),
    }
}

/// Returns what is left to do about `--modules` where Mesos has `--modules_dir`.
fn beside_directory(place: &Place, setting: &Setting, kind: ModuleKind, root: &Path) -> Flag {
    let directory = setting.value.strip_prefix("file://");
    let directory = directory.unwrap_or(&setting.value);
    let entries = fs::read_dir(image(root, directory));
    let mut entries = entries.into_iter().flatten().flatten();
    if entries.any(|entry| has_module(&entry.path(), kind)) {
        return Flag::Suits;
    }
    let list = place.content().unwrap_or_default().trim();
    let list = list.strip_prefix("file://").unwrap_or(list);
    let message = "Mesos has --modules_dir by this file, which excludes --modules";
    let remedy = format!("link {list} in the directory {directory}");
    let finding = configuration::FILE_IN_PLACE.finding(message, remedy);
    Flag::Differs(finding.about(&setting.file))
}

/// Returns true if a file is a list of modules that has one of ours.
fn has_module(file: &Path, kind: ModuleKind) -> bool {
    let text = files::read_text(file, Links::Follow, CONFIG_LIMIT);
    text.is_ok_and(|text| modules::config_of(&text, kind).is_some())
}

fn image(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::super::files::Kind;
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn place(path: &str, kind: Kind) -> Place {
        Place {
            path: path.into(),
            kind,
            mode: 0o644,
            remedy: "append ,network/cni".to_owned(),
        }
    }

    #[test]
    fn a_variable_takes_the_place_of_a_file() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let parts = vec!["network/cni".to_owned()];
        let list = Kind::List("posix/cpu,network/cni\n".into(), ',', parts);
        let isolation = place("/etc/mesos-agent/isolation", list);
        let find = || super::find(&isolation, ModuleKind::Agent, root).unwrap();
        assert_eq!(find(), Flag::OfFile);
        write(root, "etc/default/mesos-agent", "ISOLATION=cgroups/all\n");
        let Flag::Differs(finding) = find() else {
            panic!("the flag would be there twice");
        };
        assert_eq!(finding.code, "file-in-place");
        assert_eq!(finding.subject.as_deref(), Some("/etc/default/mesos-agent"));
        assert!(
            finding.remedy.contains("append ,network/cni"),
            "{finding:?}"
        );
        let both = "ISOLATION=cgroups/all,network/cni\n";
        write(root, "etc/default/mesos-agent", both);
        assert_eq!(find(), Flag::Suits);
    }

    #[test]
    fn a_directory_of_lists_excludes_the_flag_of_one() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let flag = Kind::Flag("file:///etc/mesos/overlay/modules-agent.json\n".into());
        let modules = place("/etc/mesos-slave/modules", flag);
        let find = || super::find(&modules, ModuleKind::Agent, root).unwrap();
        write(root, "etc/mesos-slave/modules_dir", "/etc/lists\n");
        let Flag::Differs(finding) = find() else {
            panic!("both flags would be there");
        };
        let remedy = "link /etc/mesos/overlay/modules-agent.json in the directory /etc/lists";
        assert_eq!(finding.remedy, remedy);
        let list = r#"{"libraries": [{"modules": [{"name": "com_mesosphere_mesos_OverlayAgentManager",
            "parameters": [{"key": "agent_config", "value": "/x"}]}]}]}"#;
        write(root, "etc/lists/overlay.json", list);
        assert_eq!(find(), Flag::Suits);
    }
}
