//! Access to files in whose place somebody may put something else.
//!
//! Whoever can write to a directory can put a FIFO, a device, a directory or a symbolic link in
//! the place of a file. A FIFO makes a reader wait for ever, and a link makes a writer change
//! another file. So only regular files are read and written, no opening waits, and the size of
//! what is read has a limit. A new file appears under its name only when it is complete.

use std::fmt;
use std::fs::{self, File, FileType, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use overlay_core::util::encoding;

/// Treatment of a symbolic link in the place of a file. (Links among the directories before it
/// are followed in any case.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// Read the file that the link points to. For files that an operator names.
    Follow,
    /// Treat the link as an obstacle. For files that the module writes itself.
    Refuse,
}

/// Reason why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Something else is in its place.
    #[error("it is {0} and not a regular file")]
    NotRegular(Kind),
    /// The file has more bytes than this limit.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    /// The operating system reports an error.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> io::Error {
        match error {
            ReadError::System(error) => error,
            other => io::Error::other(other),
        }
    }
}

/// Kind of something that is not a regular file. Prints with its article.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A block or character device.
    Device,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A symbolic link.
    Link,
    /// A Unix socket.
    Socket,
}

impl Kind {
    /// Returns the kind; `None`: a regular file.
    fn of(file_type: FileType) -> Option<Kind> {
        let kinds = [
            (file_type.is_dir(), Kind::Directory),
            (file_type.is_fifo(), Kind::Fifo),
            (file_type.is_symlink(), Kind::Link),
            (file_type.is_socket(), Kind::Socket),
            (!file_type.is_file(), Kind::Device),
        ];
        kinds.into_iter().find_map(|(is, kind)| is.then_some(kind))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Device => "a device",
            Kind::Directory => "a directory",
            Kind::Fifo => "a FIFO",
            Kind::Link => "a symbolic link",
            Kind::Socket => "a socket",
        })
    }
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// There is no such file, something else is in its place, or it is larger.
pub fn read(path: &Path, links: Links, limit: u64) -> Result<Vec<u8>, ReadError> {
    let file = open(OpenOptions::new().read(true), path, links)?;
    let mut content = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)?;
    match content.len() as u64 > limit {
        true => Err(ReadError::TooLarge(limit)),
        false => Ok(content),
    }
}

/// Reads a regular file of at most `limit` bytes, whose content is UTF-8. A byte order mark is
/// left out. See [`read`].
///
/// # Errors
/// Those of [`read`], and content that is not UTF-8; the error names the encoding.
pub fn read_text(path: &Path, links: Links, limit: u64) -> io::Result<String> {
    let content = read(path, links, limit)?;
    match encoding::decode(&content) {
        Ok(text) => Ok(text.to_owned()),
        Err(what) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it {what}"),
        )),
    }
}

/// Size limit of a file that stands for a setting of the kernel, in bytes.
const SETTING: u64 = 4 << 10;

/// Reads a setting of the kernel below `/proc/sys`, without its line break.
///
/// # Errors
/// The setting does not exist, or cannot be read.
pub(crate) fn read_setting(path: &str) -> io::Result<String> {
    let text = read_text(Path::new(path), Links::Refuse, SETTING)?;
    Ok(text.trim().to_owned())
}

/// Writes a setting of the kernel below `/proc/sys`.
///
/// # Errors
/// The setting does not exist, or the kernel refuses the value.
pub(crate) fn write_setting(path: &str, value: &str) -> io::Result<()> {
    let mut file = open(
        OpenOptions::new().write(true),
        Path::new(path),
        Links::Refuse,
    )?;
    file.write_all(value.as_bytes())
}

/// Opens a regular file that exists.
fn open(options: &mut OpenOptions, path: &Path, links: Links) -> Result<File, ReadError> {
    let no_follow = match links {
        Links::Follow => 0,
        Links::Refuse => libc::O_NOFOLLOW,
    };
    // The standard library adds O_CLOEXEC.
    let options = options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | no_follow);
    let file = match options.open(path) {
        Ok(file) => file,
        // A link or a socket cannot even be opened.
        Err(error) => {
            let found = kind(path, links);
            return Err(found.map_or(ReadError::System(error), ReadError::NotRegular));
        }
    };
    match Kind::of(file.metadata()?.file_type()) {
        Some(kind) => Err(ReadError::NotRegular(kind)),
        None => Ok(file),
    }
}

/// Returns the kind of what is in the place of a file; `None`: nothing, or a regular file.
fn kind(path: &Path, links: Links) -> Option<Kind> {
    let found = match links {
        Links::Follow => fs::metadata(path),
        Links::Refuse => fs::symlink_metadata(path),
    };
    Kind::of(found.ok()?.file_type())
}

/// End of the name of a temporary file.
const TEMPORARY: &str = ".new";

/// Writes a file, and waits until it is on the disk. A reader, and a machine that loses power,
/// has either the former or the new content. A link in the place of the file is replaced, not
/// followed.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn replace(dir: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    remove_temporary(dir, name);
    // The dot and the suffix keep others from taking it for a complete file.
    let temporary = dir.join(format!(".{name}.{:016x}{TEMPORARY}", fastrand::u64(..)));
    let written = write_new(&temporary, content, mode)
        .and_then(|()| fs::rename(&temporary, dir.join(name)))
        .and_then(|()| File::open(dir)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Creates a file, and waits until it is on the disk.
fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    // O_CREAT | O_EXCL: fails if there is anything in its place, also a link to nowhere.
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Removes temporary files of interrupted attempts.
fn remove_temporary(dir: &Path, name: &str) {
    let prefix = format!(".{name}.");
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let entry = entry.file_name();
        let name = entry.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(TEMPORARY) {
            let _ = fs::remove_file(dir.join(&entry));
        }
    }
}

/// Returns a warning if others than root and the user of this process can put files into a
/// directory, or replace the directory. `key` is the setting that names it, and `danger` what
/// they could do, in words that complete "they can …".
pub(crate) fn exposure(key: &str, dir: &Path, danger: &str) -> Option<String> {
    let dir = fs::canonicalize(dir).ok()?;
    let (place, reason, remedy) = dir.ancestors().find_map(|place| {
        let (reason, remedy) = exposed_place(place, place == dir)?;
        Some((place, reason, remedy))
    })?;
    let place = place.display();
    Some(format!(
        "{key} {}: {place} {reason}, and they can {danger}; {remedy} {place}",
        dir.display()
    ))
}

/// Returns why others can change what is in a directory, and the command that ends that.
fn exposed_place(place: &Path, is_last: bool) -> Option<(String, &'static str)> {
    use std::os::unix::fs::MetadataExt;
    let found = fs::metadata(place).ok()?;
    let own = nix::unistd::geteuid().as_raw();
    // In a user namespace the owner of the machine's directories has no number of its own.
    if ![0, own, UNKNOWN_USER].contains(&found.uid()) {
        let reason = format!("belongs to the user with id {}", found.uid());
        return Some((reason, "chown root"));
    }
    // With the sticky bit only the owner of a subdirectory can replace it.
    if !is_last && found.mode() & libc::S_ISVTX != 0 {
        return None;
    }
    let by_group = found.mode() & libc::S_IWGRP != 0 && found.gid() != 0;
    let by_all = found.mode() & libc::S_IWOTH != 0;
    let writers = match (by_all, by_group) {
        (true, _) => "all users".to_owned(),
        (false, true) => format!("the group with id {}", found.gid()),
        (false, false) => return None,
    };
    Some((format!("can be written by {writers}"), "chmod go-w"))
}

/// Number of a user that has none in this user namespace.
const UNKNOWN_USER: u32 = 65534;

/// Returns the path of a file as a sentence names it, with what is in its place.
pub(crate) fn obstacle(path: &Path, kind: Kind) -> String {
    format!(
        "{} is {kind} and not a regular file; remove it",
        path.display()
    )
}

#[cfg(test)]
mod tests;
