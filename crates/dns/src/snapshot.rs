//! The cluster's table on disk, for the time between a start and the first full state.
//!
//! The file is text, with a line of JSON for each entry. The first line has the version of the format
//! and the time, the next ones have the zones' serials, and the last one has the number of lines and a
//! checksum, so that a part of a file is not taken for the whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use domain::base::Serial;
use ipnet::IpNet;
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Kept};
use crate::records::Rules;
use crate::zone::{DomainName, Zones, parse_name};

/// Version of the format.
const VERSION: u32 = 1;
/// Size limit of the file, in bytes. 100,000 tasks have some 25 MB.
pub const MAX_FILE: u64 = 1 << 30;
/// Longest reason why a line is not understood, in characters.
const MAX_REASON: usize = 300;
/// Permissions of the file.
const MODE: u32 = 0o600;

/// First line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    mesos_overlay_dns: u32,
    /// Time at which the table was right, in milliseconds since 1970.
    time_ms: u64,
    /// Ranges of the overlays.
    ranges: Vec<IpNet>,
}

/// Line of a zone.
#[derive(Debug, Serialize, Deserialize)]
struct Zone {
    zone: String,
    serial: u32,
}

/// Last line.
#[derive(Debug, Serialize, Deserialize)]
struct End {
    /// Number of lines before it.
    lines: u64,
    /// CRC-32 of these lines.
    crc32: u32,
}

/// Table of an earlier process.
#[derive(Debug)]
pub struct Snapshot {
    /// The table. Its first batch has all records.
    pub cluster: Cluster,
    /// Time at which it was right.
    pub time: SystemTime,
    /// Serials of the zones, the last ones that secondaries can have.
    pub serials: Vec<(DomainName, Serial)>,
    /// Ranges of the overlays.
    pub ranges: Vec<IpNet>,
}

/// Reason why there is no table to read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file cannot be read.
    #[error("cannot read the snapshot {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The file is no snapshot, or a damaged one.
    #[error("the snapshot {} is not used: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

/// Returns the content of the file. `time` is the time at which the table is right.
pub fn encode(cluster: &Cluster, zones: &Zones, ranges: &[IpNet], time: SystemTime) -> Vec<u8> {
    let mut lines = Lines::default();
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    lines.add(&Head {
        mesos_overlay_dns: VERSION,
        time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        ranges: ranges.to_vec(),
    });
    for zone in zones.iter() {
        lines.add(&Zone {
            zone: zone.apex().to_string(),
            serial: zone.soa().serial.into_int(),
        });
    }
    let kept: Result<(), std::convert::Infallible> = cluster.keep(|kept| {
        lines.add(kept);
        Ok(())
    });
    let Ok(()) = kept;
    let end = End {
        lines: lines.count,
        crc32: crc32fast::hash(&lines.bytes),
    };
    lines.add(&end);
    lines.bytes
}

/// Writes the content to a file: whole, or not at all.
///
/// # Errors
/// The directory is not writable, or full. The file that was there before is still there.
pub fn store(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = directory.join(name);
    // A file that a killed process left. It is never followed.
    let _ = fs::remove_file(&new);
    let written = write_new(&new, content).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Reads a file. `None`: there is none.
///
/// # Errors
/// See [`SnapshotError`].
pub fn load(path: &Path, rules: &Rules) -> Result<Option<Snapshot>, SnapshotError> {
    let unreadable = |error| SnapshotError::Io {
        path: path.to_owned(),
        error,
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    let file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(unreadable)?,
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is no regular file")));
    }
    let mut content = Vec::new();
    let mut bounded = file.take(MAX_FILE + 1);
    bounded.read_to_end(&mut content).map_err(unreadable)?;
    let refused = |reason| SnapshotError::Refused {
        path: path.to_owned(),
        reason,
    };
    decode(&content, rules).map(Some).map_err(refused)
}

/// Returns the table in the content of a file.
///
/// # Errors
/// It is no snapshot, or a damaged one. The text is a sentence.
pub fn decode(content: &[u8], rules: &Rules) -> Result<Snapshot, String> {
    if content.len() as u64 > MAX_FILE {
        return Err(format!("it has more than {MAX_FILE} bytes"));
    }
    let body = checked(content)?;
    let mut lines = body.split(|byte| *byte == b'\n');
    let head: Head = parse(lines.next().unwrap_or_default(), 1)?;
    if head.mesos_overlay_dns != VERSION {
        let version = head.mesos_overlay_dns;
        return Err(format!(
            "its version is {version}, and this program reads version {VERSION}"
        ));
    }
    let mut snapshot = Snapshot {
        cluster: Cluster::new(rules.clone()),
        // Later than any clock's time it is of no use, and not wrong.
        time: SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_millis(head.time_ms))
            .ok_or("its time is none")?,
        serials: Vec::new(),
        ranges: head.ranges,
    };
    let mut has_entries = false;
    for (number, line) in (2_u64..).zip(lines) {
        if !has_entries && let Ok(Zone { zone, serial }) = serde_json::from_slice(line) {
            let apex = parse_name(&zone).map_err(|_| format!("line {number} names no zone"))?;
            snapshot.serials.push((apex, Serial(serial)));
            continue;
        }
        has_entries = true;
        let kept: Kept = parse(line, number)?;
        let restored = snapshot.cluster.restore(kept);
        restored.map_err(|reason| format!("line {number} {reason}"))?;
    }
    Ok(snapshot)
}

/// Returns the lines before the last one, if they are those that were written.
fn checked(content: &[u8]) -> Result<&[u8], String> {
    let cut = || "it is cut off or damaged".to_owned();
    let whole = content.strip_suffix(b"\n").ok_or_else(cut)?;
    let at = whole
        .iter()
        .rposition(|byte| *byte == b'\n')
        .ok_or_else(cut)?;
    let (lines, last) = content.split_at(at + 1);
    let end: End = serde_json::from_slice(last).map_err(|_| cut())?;
    let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
    match end.lines == count && end.crc32 == crc32fast::hash(lines) {
        true => Ok(&lines[..at]),
        false => Err(cut()),
    }
}

fn parse<'a, T: Deserialize<'a>>(line: &'a [u8], number: u64) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| {
        // The reason quotes the line.
        let reason = error.to_string();
        let reason: String = reason.chars().filter(|c| !c.is_control()).collect();
        format!("line {number} is not understood: {reason:.MAX_REASON$}")
    })
}

/// Lines of JSON.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    count: u64,
}

impl Lines {
    fn add(&mut self, line: &impl Serialize) {
        // Only maps with other keys than strings, and a full disk, cannot be written.
        if serde_json::to_writer(&mut self.bytes, line).is_ok() {
            self.bytes.push(b'\n');
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests;
