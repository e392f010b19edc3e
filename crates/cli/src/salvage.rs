//! `mesos-overlay salvage`: copies a replica of the replicated log without the end of a damaged
//! journal.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod journal;

use journal::Journal;

/// Copies the replica of a master's replicated log, without the end of a damaged journal.
///
/// A disk that was full or failed can leave a part of a record in the journal, the newest of a
/// replica's files, and more records behind it. LevelDB then reports "corruption" and the
/// overlay master does not serve. The copy ends before the first record that cannot be read.
/// It has everything that was written before, and nothing of what was written later.
///
/// Use this only if there is neither another master with a replica nor a backup. Stop the Mesos
/// master first. The original is not changed.
///
/// Exit status:
///   0  the copy was made
///   1  the copy cannot be made, or all journals are whole and the damage is elsewhere
///   2  wrong usage
#[derive(Debug, clap::Args)]
#[command(
    about = "Copies a replica of the replicated log without the end of a damaged journal",
    verbatim_doc_comment
)]
pub struct Options {
    /// Directory of the replica: <replicated_log_dir>/overlay_replicated_log.
    #[arg(value_name = "REPLICA")]
    replica: PathBuf,
    /// Directory of the copy. It must not exist.
    #[arg(value_name = "COPY")]
    copy: PathBuf,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    match salvage(&options.replica, &options.copy) {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// A file of a replica.
struct File {
    name: OsString,
    content: Vec<u8>,
}

/// Makes the copy. Returns what was done, a line for each file that was shortened.
fn salvage(replica: &Path, copy: &Path) -> Result<Vec<String>, String> {
    let mut files = read_all(replica)?;
    let mut lines = cut(&mut files);
    if lines.is_empty() {
        return Err(format!(
            "the journals in {} are whole: the damage is in another file, and nothing can be done \
             about that. Restore a backup, or start with an empty log: docs/operations.md",
            replica.display()
        ));
    }
    write_all(replica, copy, &files)?;
    lines.push(format!("made the copy {}", copy.display()));
    Ok(lines)
}

/// Shortens the first journal that is damaged, and empties the later ones. Returns a line for each.
fn cut(files: &mut [File]) -> Vec<String> {
    let mut lines = Vec::new();
    // Their names are numbers of six digits or more.
    files.sort_by_key(|file| (file.name.len(), file.name.clone()));
    for file in files.iter_mut().filter(|file| is_journal(&file.name)) {
        let whole = if lines.is_empty() {
            Journal::new(&file.content).whole()
        } else {
            0
        };
        let (name, size) = (file.name.display(), file.content.len());
        if whole < size {
            lines.push(format!("{name}: kept {whole} of {size} bytes"));
            file.content.truncate(whole);
        }
    }
    lines
}

fn is_journal(name: &OsString) -> bool {
    let name = Path::new(name);
    let is_number = |stem: &str| stem.bytes().all(|byte| byte.is_ascii_digit());
    name.extension().is_some_and(|extension| extension == "log")
        && name
            .file_stem()
            .and_then(|stem| stem.to_str())
            .is_some_and(is_number)
}

fn read_all(replica: &Path) -> Result<Vec<File>, String> {
    let failed = |path: &Path, error: &std::io::Error| {
        format!("{}: cannot be read: {error}", path.display())
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(replica).map_err(|error| failed(replica, &error))? {
        let entry = entry.map_err(|error| failed(replica, &error))?;
        let path = entry.path();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && entry.file_name() != "LOCK" {
            files.push(File {
                name: entry.file_name(),
                content: fs::read(&path).map_err(|error| failed(&path, &error))?,
            });
        }
    }
    if files.iter().any(|file| file.name == "CURRENT") {
        return Ok(files);
    }
    Err(format!(
        "{} is not the directory of a replica: it has no file CURRENT",
        replica.display()
    ))
}

/// Writes the files, which belong to the owner of the original.
fn write_all(replica: &Path, copy: &Path, files: &[File]) -> Result<(), String> {
    let failed = |path: &Path, error: std::io::Error| {
        format!("{}: cannot be written: {error}", path.display())
    };
    let owner = fs::metadata(replica).map_err(|error| failed(replica, error))?;
    let own = |path: &Path| {
        chown(path, Some(owner.uid()), Some(owner.gid())).map_err(|error| failed(path, error))
    };
    fs::create_dir(copy).map_err(|error| failed(copy, error))?;
    fs::set_permissions(copy, owner.permissions()).map_err(|error| failed(copy, error))?;
    own(copy)?;
    for file in files {
        let path = copy.join(&file.name);
        fs::write(&path, &file.content).map_err(|error| failed(&path, error))?;
        own(&path)?;
    }
    Ok(())
}
