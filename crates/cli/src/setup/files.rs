//! Files of an installation: what is there, and writing what is not. Nothing that is there is changed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use overlay_host::files::{self as host_files, Links};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::output::Failure;

/// Size limit of a file that is compared, in bytes.
const MAX_SIZE: u64 = 16 << 20;

/// State of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is not there.
    Missing,
    /// It is there with the same content.
    There,
    /// It is there with other content.
    Differs,
    /// It was written now.
    Written,
}

/// Kind of content, which decides what is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Directory.
    Directory,
    /// JSON: the values are compared.
    Json(String),
    /// Value of a flag of Mesos, on one line.
    Flag(String),
    /// Flag that is a list: all of these parts are in it, with the separator between them.
    List(String, char, Vec<String>),
    /// Settings `NAME=value`, one a line: the name is set to the value. Other lines are none of our business.
    Variables(String),
    /// Text.
    Text(String),
}

/// File or directory of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Path on the host.
    pub path: PathBuf,
    /// Content.
    pub kind: Kind,
    /// Permissions.
    pub mode: u32,
    /// What to do if something else is there.
    pub remedy: String,
}

impl Place {
    /// Returns the content; `None`: a directory.
    pub fn content(&self) -> Option<&str> {
        match &self.kind {
            Kind::Directory => None,
            Kind::Json(text)
            | Kind::Flag(text)
            | Kind::List(text, ..)
            | Kind::Variables(text)
            | Kind::Text(text) => Some(text),
        }
    }

    fn below(&self, root: &Path) -> PathBuf {
        let path = self.path.strip_prefix("/").unwrap_or(&self.path);
        root.join(path)
    }

    /// Returns what is there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn state(&self, root: &Path) -> Result<State, Failure> {
        let path = self.below(root);
        if self.kind == Kind::Directory {
            return Ok(match path.is_dir() {
                true => State::There,
                false => State::Missing,
            });
        }
        let text = match host_files::read_text(&path, Links::Follow, MAX_SIZE) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Missing),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display()).into()),
        };
        Ok(match self.is_same(&text) {
            true => State::There,
            false => State::Differs,
        })
    }

    /// Returns what to do about a file with other content. Of JSON it names the keys that differ.
    pub fn remedy(&self, root: &Path) -> String {
        let keys = match &self.kind {
            Kind::Json(wanted) => {
                let path = self.below(root);
                let there = host_files::read_text(&path, Links::Follow, MAX_SIZE);
                differing_keys(&there.unwrap_or_default(), wanted)
            }
            _ => Vec::new(),
        };
        match keys.is_empty() {
            true => self.remedy.clone(),
            false => format!("{} ({} in it)", self.remedy, keys.join(", ")),
        }
    }

    fn is_same(&self, there: &str) -> bool {
        match &self.kind {
            Kind::Directory => true,
            Kind::Json(text) => {
                let value = |text: &str| serde_json::from_str::<Value>(text).ok();
                value(there).is_some() && value(there) == value(text)
            }
            Kind::Flag(text) | Kind::Text(text) => there.trim() == text.trim(),
            Kind::List(_, separator, parts) => {
                let has = |part: &String| {
                    there
                        .trim()
                        .split(*separator)
                        .any(|found| found.trim() == part)
                };
                parts.iter().all(has)
            }
            Kind::Variables(text) => text.lines().all(|wanted| {
                let (wanted, _) = wanted.split_once(" #").unwrap_or((wanted, ""));
                there.lines().any(|line| {
                    let line = line.trim().trim_start_matches("export ");
                    let (line, _) = line.split_once(" #").unwrap_or((line, ""));
                    line.trim() == wanted.trim()
                })
            }),
        }
    }

    /// Writes what is not there. Readers see the whole file or none.
    ///
    /// # Errors
    /// It cannot be written, or is there by now.
    pub fn write(&self, root: &Path) -> Result<(), Failure> {
        let path = self.below(root);
        let written = match self.content() {
            None => make_directory(&path),
            Some(text) => path
                .parent()
                .map_or(Ok(()), make_directory)
                .and_then(|()| create(&path, text, self.mode)),
        };
        written.map_err(|error| format!("cannot write {}: {error}", path.display()).into())
    }
}

/// Returns the keys of an object whose values another one lacks, or has otherwise.
fn differing_keys(there: &str, wanted: &str) -> Vec<String> {
    let object = |text: &str| match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        _ => serde_json::Map::new(),
    };
    let (there, wanted) = (object(there), object(wanted));
    let differing = wanted
        .iter()
        .filter(|(key, value)| there.get(*key) != Some(*value));
    differing.map(|(key, _)| key.clone()).collect()
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Creates a file under a temporary name, and gives it its own name unless that is taken.
fn create(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    // The dot keeps Mesos from taking it for a flag.
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    let temporary = path.with_file_name(hidden);
    let made = write_new(&temporary, text, mode)
        // A link fails if the name is taken.
        .and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    made?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(kind: Kind) -> Place {
        Place {
            path: "/etc/file".into(),
            kind,
            mode: 0o640,
            remedy: String::new(),
        }
    }

    #[test]
    fn what_is_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let file = place(Kind::Json("{\"a\": [1]}\n".into()));
        assert_eq!(file.state(root).unwrap(), State::Missing);
        file.write(root).unwrap();
        assert_eq!(file.state(root).unwrap(), State::There);
        let path = root.join("etc/file");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        fs::write(&path, "{ \"a\":[1] }").unwrap();
        assert_eq!(file.state(root).unwrap(), State::There);
        fs::write(&path, "{\"a\": 2}").unwrap();
        assert_eq!(file.state(root).unwrap(), State::Differs);
        let Failure(sentence) = file.write(root).unwrap_err();
        assert!(sentence.contains("exists"), "{sentence}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\": 2}");
        let names = fs::read_dir(root.join("etc")).unwrap();
        assert_eq!(names.count(), 1, "a temporary file is left");
    }

    #[test]
    fn lists_and_variables_may_have_more() {
        let isolation = place(Kind::List(
            "a,network/cni".into(),
            ',',
            vec!["network/cni".into()],
        ));
        for (text, same) in [
            ("cgroups/all,network/cni\n", true),
            ("network/cni,x", true),
            ("network/cnis", false),
        ] {
            assert_eq!(isolation.is_same(text), same, "{text}");
        }
        let variables = place(Kind::Variables("THREADS=10 # mesos-overlay\n".into()));
        for (text, same) in [
            ("A=1\nTHREADS=10\n", true),
            ("export THREADS=10 # own\n", true),
            ("THREADS=8\n", false),
            ("", false),
        ] {
            assert_eq!(variables.is_same(text), same, "{text}");
        }
    }
}
