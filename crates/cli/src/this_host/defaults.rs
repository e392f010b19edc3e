//! Files of `/etc/default`, in which Mesos's packages have variables for the environment of Mesos.

use std::path::Path;

use overlay_host::files::{self, Links};

/// Size limit of a file, in bytes.
const MAX_SIZE: u64 = 64 << 10;
/// Flag that packages also take from a variable with its own name.
const BARE: &str = "isolation";

/// Files for masters, the most important one last.
pub const OF_MASTERS: &[&str] = &["etc/default/mesos", "etc/default/mesos-master"];
/// Files for agents, the most important ones last.
pub const OF_AGENTS: &[&str] = &[
    "etc/default/mesos",
    "etc/default/mesos-agent",
    "etc/default/mesos-slave",
];

/// Variable that a file sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Path of the file on the host.
    pub file: String,
    /// Name of the variable.
    pub name: String,
    /// Value, without quotation marks.
    pub value: String,
}

/// Returns the last setting of one of these variables. `root` stands for `/`.
pub fn variable(root: &Path, files: &[&str], names: &[&str]) -> Option<Setting> {
    let mut found = files.iter().rev().filter_map(|file| {
        let text = files::read_text(&root.join(file), Links::Follow, MAX_SIZE).ok()?;
        let mut settings = text.lines().rev().filter_map(setting);
        let (name, value) = settings.find(|(name, _)| names.contains(name))?;
        Some(Setting {
            file: format!("/{file}"),
            name: name.to_owned(),
            value: value.to_owned(),
        })
    });
    found.next()
}

/// Returns the variable that gives Mesos a flag, such as `MESOS_MODULES`. `root` stands for `/`.
pub fn flag(root: &Path, files: &[&str], flag: &str) -> Option<Setting> {
    let bare = flag.to_uppercase();
    let name = format!("MESOS_{bare}");
    match flag == BARE {
        true => variable(root, files, &[&name, &bare]),
        false => variable(root, files, &[&name]),
    }
}

/// Returns name and value of a line that sets a variable.
fn setting(line: &str) -> Option<(&str, &str)> {
    let line = line.trim().trim_start_matches("export ").trim_start();
    let (line, _) = line.split_once(" #").unwrap_or((line, ""));
    let (name, value) = line.split_once('=')?;
    Some((name, value.trim().trim_matches(['"', '\''])))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_last_setting_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("etc/default")).unwrap();
        let write = |file: &str, text: &str| fs::write(root.join(file), text).unwrap();
        write(
            "etc/default/mesos",
            "#ISOLATION=x\nexport MESOS_MODULES=a\n",
        );
        assert_eq!(flag(root, OF_AGENTS, "isolation"), None);
        write(
            "etc/default/mesos-slave",
            "ISOLATION=posix/cpu\n ISOLATION=\"a,b\" # own\nMODULES=b\n",
        );
        let found = flag(root, OF_AGENTS, "isolation").unwrap();
        assert_eq!(found.file, "/etc/default/mesos-slave");
        assert_eq!(
            (found.name.as_str(), found.value.as_str()),
            ("ISOLATION", "a,b")
        );
        assert_eq!(flag(root, OF_MASTERS, "isolation"), None);
        assert_eq!(flag(root, OF_AGENTS, "modules").unwrap().value, "a");
    }
}
