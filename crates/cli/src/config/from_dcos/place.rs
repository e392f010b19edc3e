//! Writes files below a directory, and changes nothing that is there.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use overlay_host::files::{self, Links};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::files::RoleFile;
use crate::output::Failure;
use crate::this_host::CONFIG_LIMIT;

/// State of a file below the directory of `--write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The file was not there, and is now.
    Written,
    /// The file is there with the same settings.
    Unchanged,
    /// The file is there with other settings, and stays.
    Different,
    /// The file is not there, and was not written, because another one is different.
    NotWritten,
}

/// Writes files unless one of them is there with other settings. Returns their paths and states.
///
/// # Errors
/// A file cannot be read or written. The error names the files that were written before.
pub fn write(directory: &Path, files: &[RoleFile]) -> Result<Vec<(PathBuf, State)>, Failure> {
    if !directory.is_dir() {
        return Err(format!("--write: {} is no directory", directory.display()).into());
    }
    let mut states = Vec::new();
    for file in files {
        let path = below(directory, &file.path);
        let state = look(&path, &file.content)?;
        states.push((path, state));
    }
    let is_blocked = states.iter().any(|(_, state)| *state == State::Different);
    let mut written = Vec::new();
    for (file, (path, state)) in files.iter().zip(&mut states) {
        if *state == State::NotWritten && !is_blocked {
            if let Err(error) = create(path, &file.content) {
                return Err(not_written(path, &error, &written).into());
            }
            *state = State::Written;
            written.push(path.display().to_string());
        }
    }
    Ok(states)
}

/// Returns an absolute path below a directory.
pub fn below(directory: &Path, path: &str) -> PathBuf {
    directory.join(path.trim_start_matches('/'))
}

/// Returns the message about a file that cannot be written.
fn not_written(path: &Path, error: &io::Error, written: &[String]) -> String {
    let message = format!("cannot write {}: {error}", path.display());
    match written {
        [] => message,
        written => format!("{message}; already written: {}", written.join(", ")),
    }
}

/// Returns the state of a file before anything is written.
fn look(path: &Path, content: &Value) -> Result<State, Failure> {
    if let Err(error) = fs::symlink_metadata(path)
        && error.kind() == io::ErrorKind::NotFound
    {
        return Ok(State::NotWritten);
    }
    let text = files::read_text(path, Links::Follow, CONFIG_LIMIT)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let is_same = serde_json::from_str::<Value>(&text).is_ok_and(|there| there == *content);
    Ok(if is_same {
        State::Unchanged
    } else {
        State::Different
    })
}

/// Creates a file, which appears with all of its content, and in the place of no other.
fn create(path: &Path, content: &Value) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    if let Err(error) = fill(&temporary, content) {
        // A file of this name that was there before is not this program's.
        if error.kind() != io::ErrorKind::AlreadyExists {
            let _ = fs::remove_file(&temporary);
        }
        return Err(error);
    }
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked
}

fn fill(path: &Path, content: &Value) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    file.write_all(text(content).as_bytes())?;
    file.sync_all()
}

/// Returns the text of a file.
pub fn text(content: &Value) -> String {
    format!("{content:#}\n")
}
