//! Lists of modules, as Mesos's `--modules` and the files of `--modules_dir` have them.

use std::path::PathBuf;

use serde_json::Value;

/// Module of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// `overlay-master`.
    Master,
    /// `overlay-agent`.
    Agent,
}

impl ModuleKind {
    /// Returns the name of the module for Mesos.
    pub fn name(self) -> &'static str {
        match self {
            ModuleKind::Master => "com_mesosphere_mesos_OverlayMasterManager",
            ModuleKind::Agent => "com_mesosphere_mesos_OverlayAgentManager",
        }
    }

    /// Returns the module's parameter that names its configuration file.
    pub fn parameter(self) -> &'static str {
        match self {
            ModuleKind::Master => "master_config",
            ModuleKind::Agent => "agent_config",
        }
    }
}

/// Returns the path of a module's configuration, if the list of modules `text` has the module.
pub fn config_of(text: &str, kind: ModuleKind) -> Option<PathBuf> {
    let list: Value = serde_json::from_str(text).ok()?;
    let libraries = list["libraries"].as_array()?;
    let modules = libraries
        .iter()
        .filter_map(|library| library["modules"].as_array())
        .flatten();
    let module = modules
        .into_iter()
        .find(|module| module["name"] == kind.name())?;
    let mut parameters = module["parameters"].as_array()?.iter();
    let parameter = parameters.find(|parameter| parameter["key"] == kind.parameter())?;
    parameter["value"].as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_each_module_is_found() {
        let text = r#"{"libraries": [{"file": "/x.so"}, {"file": "/lib.so", "modules": [
            {"name": "com_mesosphere_mesos_OverlayMasterManager",
             "parameters": [{"key": "master_config", "value": "/etc/m.json"}]},
            {"name": "com_mesosphere_mesos_OverlayAgentManager",
             "parameters": [{"key": "agent_config", "value": "/etc/a.json"}]}]}]}"#;
        assert_eq!(
            config_of(text, ModuleKind::Master),
            Some("/etc/m.json".into())
        );
        assert_eq!(
            config_of(text, ModuleKind::Agent),
            Some("/etc/a.json".into())
        );
        assert_eq!(config_of("{}", ModuleKind::Agent), None);
        assert_eq!(config_of("no JSON", ModuleKind::Agent), None);
    }
}
