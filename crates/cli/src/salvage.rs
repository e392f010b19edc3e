//! `mesos-overlay salvage`: copies a replica of the replicated log without the end of a damaged
//! journal.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

mod journal;
#[cfg(test)]
mod tests;

use journal::Journal;

/// Copies the replica of a master's replicated log, without the end of a damaged journal.
///
/// A disk that was full or failed can leave a part of a record in the journal, the newest of a
/// replica's files, and more records behind it. LevelDB then reports "corruption" and the
/// overlay master does not serve. The copy ends before the first record that cannot be read.
/// Everything that was written before is in the copy, and nothing of what was written later.
///
/// Use this only if there is neither another master with a replica nor a backup. Stop the Mesos
/// master first: a replica that a process has open is refused. The original is not changed.
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
    let lock = lock(replica)?;
    let mut files = read_all(replica)?;
    drop(lock);
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

/// Takes LevelDB's own lock of the replica, so that no other process opens it until the file is
/// closed. `None`: no process can have it open for writing.
fn lock(replica: &Path) -> Result<Option<fs::File>, String> {
    let path = replica.join("LOCK");
    let failed = |error: std::io::Error| format!("{}: cannot be locked: {error}", path.display());
    let file = match fs::OpenOptions::new().write(true).open(&path) {
        Ok(file) => file,
        // LevelDB makes the file before it does anything else.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
        Ok(_) => Ok(Some(file)),
        Err(Errno::EACCES | Errno::EAGAIN) => Err(format!(
            "another process has the replica {} open; stop the Mesos master",
            replica.display()
        )),
        Err(error) => Err(failed(error.into())),
    }
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

/// Writes the files to a new directory, which is removed if that fails.
fn write_all(replica: &Path, copy: &Path, files: &[File]) -> Result<(), String> {
    fs::create_dir(copy).map_err(|error| unwritten(copy, &error))?;
    fill(replica, copy, files).map_err(|sentence| match fs::remove_dir_all(copy) {
        Ok(()) => sentence,
        Err(error) => format!(
            "{sentence}; remove the incomplete copy {} ({error})",
            copy.display()
        ),
    })
}

/// Writes the files, which belong to the owner of the original, to the disk.
fn fill(replica: &Path, copy: &Path, files: &[File]) -> Result<(), String> {
    let owner = fs::metadata(replica).map_err(|error| unwritten(replica, &error))?;
    let own = |path: &Path| chown(path, Some(owner.uid()), Some(owner.gid()));
    fs::set_permissions(copy, owner.permissions())
        .and_then(|()| own(copy))
        .map_err(|error| unwritten(copy, &error))?;
    for file in files {
        let path = copy.join(&file.name);
        let write = || {
            let mut written = fs::File::create_new(&path)?;
            written.write_all(&file.content)?;
            own(&path)?;
            written.sync_all()
        };
        write().map_err(|error| unwritten(&path, &error))?;
    }
    // The names of the files, too.
    fs::File::open(copy)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| unwritten(copy, &error))
}

fn unwritten(path: &Path, error: &std::io::Error) -> String {
    format!("{}: cannot be written: {error}", path.display())
}
