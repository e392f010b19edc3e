//! Lists of modules: their form, the library, and the configurations that they name.

use std::path::{Path, PathBuf};

use overlay_core::config::nearest;
use overlay_host::files::{self, Links};
use serde_json::Value;

use super::{FileKind, Given};
use crate::check::host::unusable_library;
use crate::finding::Finding;
use crate::finding::kinds::configuration;
use crate::this_host::CONFIG_LIMIT;
use crate::this_host::modules::ModuleKind;
use crate::this_host::processes::Process;

/// Both modules.
const MODULES: [ModuleKind; 2] = [ModuleKind::Master, ModuleKind::Agent];
/// Part of the names of our modules, also of misspelt ones.
const PART: &str = "verlay";
/// Part of the names of our library, and of the C++ modules'.
const LIBRARIES: [&str; 2] = ["libmesos_overlay", "liboverlay"];

/// Result of the examination of a list.
#[derive(Debug, Default)]
pub struct List {
    /// Modules in a few words.
    pub content: String,
    /// Findings.
    pub findings: Vec<Finding>,
    /// Configurations of our modules.
    pub configurations: Vec<Given>,
}

/// Examines a list of modules. `root` stands for `/` in its paths.
pub fn examine(file: &str, text: &str, root: &Path) -> List {
    let mut list = List::default();
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            list.wrong(
                file,
                format!("not JSON: {error}"),
                "correct the file there or just before",
            );
            return list;
        }
    };
    let Some(libraries) = value["libraries"].as_array() else {
        let remedy = "write {\"libraries\": [{\"file\": …, \"modules\": […]}]}";
        list.wrong(file, "it has no list \"libraries\"".to_owned(), remedy);
        return list;
    };
    let mut names: Vec<String> = Vec::new();
    for (index, library) in libraries.iter().enumerate() {
        let at = format!("libraries[{index}]");
        let modules = library["modules"].as_array().cloned().unwrap_or_default();
        let mut is_ours = false;
        for (number, module) in modules.iter().enumerate() {
            let at = format!("{at}.modules[{number}]");
            if let Some(name) = list.module(file, &at, module, root) {
                if names.contains(&name) {
                    list.wrong(
                        file,
                        format!("{at}: {name} is there twice"),
                        "remove one of them",
                    );
                }
                names.push(name);
                is_ours = true;
            }
        }
        if is_ours {
            list.library(file, &at, library, root);
        }
    }
    if names.is_empty() && list.findings.is_empty() {
        let message = "it has no overlay module".to_owned();
        let remedy = format!("add {} or {}", MODULES[0].name(), MODULES[1].name());
        list.wrong(file, message, &remedy);
    }
    list.content = names.join(", ").replace("com_mesosphere_mesos_", "");
    list
}

impl List {
    fn wrong(&mut self, file: &str, message: String, remedy: &str) {
        let finding = configuration::MODULES_INVALID.finding(message, remedy);
        self.findings.push(finding.about(file));
    }

    /// Examines the library of our modules. Mesos looks for one with a name in the directories of the loader.
    fn library(&mut self, file: &str, at: &str, library: &Value, root: &Path) {
        let Some(path) = library["file"].as_str() else {
            if library["name"].is_string() {
                return;
            }
            let remedy = "give the path of libmesos_overlay.so";
            return self.wrong(file, format!("{at}.file: missing"), remedy);
        };
        let path = below(root, path);
        if super::only_for_others(&path) {
            return;
        }
        if let Some(sentence) = unusable_library(&path) {
            let remedy = "install the library of the release there, or correct the path";
            let message = format!("{at}.file: {sentence}");
            let finding = configuration::LIBRARY_MISSING.finding(message, remedy);
            self.findings.push(finding.about(file));
        }
    }

    /// Examines a module, and returns its name if it is one of ours.
    fn module(&mut self, file: &str, at: &str, module: &Value, root: &Path) -> Option<String> {
        let name = module["name"].as_str().unwrap_or_default();
        let Some(kind) = MODULES.into_iter().find(|kind| kind.name() == name) else {
            let names = MODULES.map(ModuleKind::name);
            // Modules of others are none of our business.
            if name.contains(PART) {
                let near = nearest(name, names.into_iter()).unwrap_or(names[1]);
                let message = format!("{at}.name: there is no module \"{name}\"");
                self.wrong(file, message, &format!("write \"{near}\" if that is meant"));
            }
            return None;
        };
        let parameters = module["parameters"].as_array().cloned().unwrap_or_default();
        let mut path = None;
        for (number, parameter) in parameters.iter().enumerate() {
            let key = parameter["key"].as_str().unwrap_or_default();
            if key != kind.parameter() {
                let message =
                    format!("{at}.parameters[{number}].key: {name} has no parameter \"{key}\"");
                self.wrong(file, message, &format!("write \"{}\"", kind.parameter()));
            } else if let Some(value) = parameter["value"].as_str() {
                path = Some(value.to_owned());
            }
        }
        match path.filter(|path| !path.is_empty()) {
            Some(path) => self.configurations.push(Given {
                path: below(root, &path),
                kind: Some(match kind {
                    ModuleKind::Master => FileKind::Master,
                    ModuleKind::Agent if path.contains("agent-master") => FileKind::AgentMaster,
                    ModuleKind::Agent => FileKind::Agent,
                }),
            }),
            None => {
                let message = format!("{at}.parameters: {} is missing", kind.parameter());
                self.wrong(file, message, "give the path of the JSON configuration");
            }
        }
        Some(name.to_owned())
    }
}

/// Returns a path in an image of a host.
fn below(root: &Path, path: &str) -> PathBuf {
    match root == Path::new("/") || root.as_os_str().is_empty() {
        true => PathBuf::from(path),
        false => root.join(path.trim_start_matches('/')),
    }
}

/// Returns true if a file is a list that has a library or module of ours.
pub fn is_ours(path: &Path) -> bool {
    let text = files::read_text(path, Links::Follow, CONFIG_LIMIT).unwrap_or_default();
    MODULES.iter().any(|kind| text.contains(kind.name()))
        || LIBRARIES.iter().any(|library| text.contains(library))
}

/// Returns the libraries of our modules that a process of Mesos loads.
pub fn libraries(process: &Process) -> Vec<PathBuf> {
    let lists = process.module_texts().into_iter();
    let values = lists.filter_map(|text| serde_json::from_str::<Value>(&text).ok());
    values
        .flat_map(|value| value["libraries"].as_array().cloned().unwrap_or_default())
        .filter(|library| {
            let modules = library["modules"].as_array().cloned().unwrap_or_default();
            modules
                .iter()
                .any(|module| MODULES.iter().any(|kind| module["name"] == kind.name()))
        })
        .filter_map(|library| library["file"].as_str().map(PathBuf::from))
        .collect()
}
