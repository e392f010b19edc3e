//! Lines of the modules in Mesos's logs.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Collector, part};
use crate::diags::bundle::{Content, Form};
use crate::diags::{command, time};
use crate::this_host::processes::{Process, Role};

/// Part of a log file that is read, in bytes from its end.
const READ: u64 = 64 << 20;
/// Part of its lines that is kept, in bytes from their end.
const KEPT: usize = 4 << 20;
/// Time limit of journalctl.
const LIMIT: Duration = Duration::from_secs(20);
/// Units of Mesos.
const UNITS: [&str; 6] = [
    "mesos-master",
    "mesos-agent",
    "mesos-slave",
    "dcos-mesos-master",
    "dcos-mesos-slave",
    "dcos-mesos-slave-public",
];
/// Words of the modules' lines, and of Mesos's that say why it did not start.
const WORDS: [&str; 5] = [
    "overlay-master",
    "overlay-agent",
    "mesos_overlay",
    "liboverlay",
    "Error creating Module",
];

impl Collector<'_> {
    /// Adds the modules' lines in the journal and in files.
    pub(super) fn logs(&mut self) {
        let age = self.since.unwrap_or_default();
        self.journal(age);
        let mut files = Vec::new();
        for process in &self.mesos.host.processes {
            files.extend(files_of(process));
        }
        files.sort();
        files.dedup();
        let oldest = SystemTime::now().checked_sub(Duration::from_secs(age));
        for file in files {
            let changed = fs::metadata(&file).and_then(|metadata| metadata.modified());
            if let (Ok(changed), Some(oldest)) = (changed, oldest)
                && changed < oldest
            {
                continue;
            }
            self.progress.say(&file.display().to_string());
            let name = format!("logs/{}", part(&file.display().to_string()));
            let what = format!("lines of the modules in {}", file.display());
            let content = end_of(&file).map(|end| lines(&end));
            let content = content.map_err(|error| format!("cannot read it: {error}"));
            self.add(&name, &what, Form::Text, content);
        }
    }

    fn journal(&mut self, age: u64) {
        self.progress.say("journalctl");
        let since = format!("--since=@{}", time::now().saturating_sub(age));
        let mut arguments = vec![
            "--no-pager",
            "--quiet",
            "--output=short-iso-precise",
            &since,
        ];
        let units: Vec<String> = UNITS.iter().map(|unit| format!("--unit={unit}")).collect();
        arguments.extend(units.iter().map(String::as_str));
        let output = command::run("journalctl", &arguments, LIMIT, READ);
        let content = output.and_then(|output| match output.is_success {
            true => Ok(lines(&output.text)),
            false => Err(output.errors.lines().next().unwrap_or_default().to_owned()),
        });
        let what = "lines of the modules in the journal";
        self.add("logs/journal.txt", what, Form::Text, content);
    }
}

/// Returns the log files of a process: those of `log_dir`, and the file that it writes its errors
/// into.
fn files_of(process: &Process) -> Vec<PathBuf> {
    let names: &[&str] = match process.role {
        Role::Master => &["mesos-master"],
        Role::Agent => &["mesos-agent", "mesos-slave"],
    };
    let directory = process
        .flag("log_dir")
        .or_else(|| process.variable("GLOG_log_dir").map(str::to_owned));
    let mut files = Vec::new();
    if let Some(directory) = directory {
        for name in names {
            for level in ["INFO", "WARNING", "ERROR"] {
                // A link to the newest file.
                let file = Path::new(&directory).join(format!("{name}.{level}"));
                files.extend(file.canonicalize().ok());
            }
        }
    }
    files.extend(process.flag("external_log_file").map(PathBuf::from));
    for stream in ["1", "2"] {
        let target = fs::read_link(format!("/proc/{}/fd/{stream}", process.pid));
        files.extend(target.ok().filter(|file| file.is_file()));
    }
    files
}

/// Returns the end of a file.
fn end_of(file: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(READ)))?;
    let mut end = Vec::new();
    file.take(READ).read_to_end(&mut end)?;
    Ok(end)
}

/// Returns the lines of the modules, the last ones if there are many.
fn lines(text: &[u8]) -> Content {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter(|line| {
        // Flags are in the archive already, apart from each other.
        WORDS.iter().any(|word| line.contains(word)) && !line.contains("Flags at startup")
    });
    let lines: Vec<&str> = lines.collect();
    let mut size = 0;
    let is_kept = |line: &&&str| {
        size += line.len() + 1;
        size <= KEPT
    };
    let number = lines.iter().rev().take_while(is_kept).count();
    let kept = &lines[lines.len() - number..];
    let cut = (number < lines.len()).then(|| format!("only the last {} MB of lines", KEPT >> 20));
    Content {
        bytes: kept
            .iter()
            .flat_map(|line| [line.as_bytes(), b"\n"].concat())
            .collect(),
        cut,
    }
}
