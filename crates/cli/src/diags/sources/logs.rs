//! Lines of the modules in Mesos's logs.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;

use super::{Collector, part};
use crate::diags::bundle::{Content, Form};
use crate::diags::command::{self, Output};
use crate::diags::time;
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
            let content =
                end_of(&file).map(|(end, cut)| lines(&String::from_utf8_lossy(&end), cut));
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
            // If not all can be read, the newest lines are what matters.
            "--reverse",
            "--output=short-iso-precise",
            &since,
        ];
        let units: Vec<String> = UNITS.iter().map(|unit| format!("--unit={unit}")).collect();
        arguments.extend(units.iter().map(String::as_str));
        let output = self.tools.run("journalctl", &arguments, LIMIT, READ);
        let content = output.and_then(of_journal);
        let what = "lines of the modules in the journal";
        self.add("logs/journal.txt", what, Form::Text, content);
    }
}

/// Returns the modules' lines of a journal that has the newest lines first. The error is a sentence.
fn of_journal(output: Output) -> Result<Content, String> {
    let cut = match (output.is_killed, output.is_cut) {
        (true, _) if output.text.is_empty() => return Err(command::late("journalctl", LIMIT)),
        (true, _) => Some(command::late("journalctl", LIMIT) + ": only the newest lines"),
        (_, true) => Some(format!("only the last {} MB were searched", READ >> 20)),
        _ if !output.is_success => {
            return Err(output.errors.lines().next().unwrap_or_default().to_owned());
        }
        _ => None,
    };
    let text = String::from_utf8_lossy(&output.text);
    // The last line may have been cut.
    let end = cut
        .as_ref()
        .map_or(text.len(), |_| text.rfind('\n').unwrap_or(0));
    let reversed: Vec<&str> = text[..end].lines().rev().collect();
    Ok(lines(&reversed.join("\n"), cut))
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

/// Returns the end of a regular file, and what was left out before it.
fn end_of(file: &Path) -> io::Result<(Vec<u8>, Option<String>)> {
    // A FIFO in the place of a log would make an opening wait.
    let mut options = File::options();
    let options = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let mut file = options.open(file)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let begin = metadata.len().saturating_sub(READ);
    file.seek(SeekFrom::Start(begin))?;
    let mut end = Vec::new();
    file.take(READ).read_to_end(&mut end)?;
    let cut = (begin > 0).then(|| format!("only the last {} MB were searched", READ >> 20));
    Ok((end, cut))
}

/// Returns the lines of the modules, the last ones if there are many. `cut` is what the text lacks.
fn lines(text: &str, cut: Option<String>) -> Content {
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
    let more = (number < lines.len()).then(|| format!("only the last {} MB of lines", KEPT >> 20));
    let cut: Vec<String> = cut.into_iter().chain(more).collect();
    Content {
        bytes: kept
            .iter()
            .flat_map(|line| [line.as_bytes(), b"\n"].concat())
            .collect(),
        cut: (!cut.is_empty()).then(|| cut.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a journal of one line per number, the newest first.
    fn journal(numbers: std::ops::Range<u32>) -> Output {
        let lines = numbers
            .rev()
            .map(|number| format!("t overlay-agent: {number}\n"));
        Output {
            text: lines.collect::<String>().into_bytes(),
            is_success: true,
            ..Output::default()
        }
    }

    #[test]
    fn a_journal_that_is_not_complete_lacks_the_oldest_lines() {
        let content = of_journal(journal(1..4)).unwrap();
        let all = "t overlay-agent: 1\nt overlay-agent: 2\nt overlay-agent: 3\n";
        assert_eq!(
            (content.bytes.as_slice(), content.cut),
            (all.as_bytes(), None)
        );
        let mut output = journal(1..4);
        output.text.truncate(output.text.len() - 3);
        (output.is_killed, output.is_success) = (true, false);
        let content = of_journal(output).unwrap();
        assert_eq!(content.bytes, &all.as_bytes()[19..]);
        assert!(content.cut.unwrap().contains("did not end within"));
        let nothing = Output {
            is_killed: true,
            ..Output::default()
        };
        assert!(
            of_journal(nothing)
                .unwrap_err()
                .contains("did not end within")
        );
        let refused = Output {
            errors: "no rights\n".to_owned(),
            ..Output::default()
        };
        assert_eq!(of_journal(refused).unwrap_err(), "no rights");
    }

    #[test]
    fn a_journal_over_the_limit_has_its_newest_lines() {
        let count = u32::try_from(KEPT / 20).unwrap();
        let mut output = journal(0..count);
        output.is_cut = true;
        let content = of_journal(output).unwrap();
        assert!(
            content
                .bytes
                .ends_with(format!(": {}\n", count - 1).as_bytes())
        );
        let cut = content.cut.unwrap();
        assert!(cut.contains("searched; only the last"), "{cut}");
    }

    #[test]
    fn a_fifo_in_the_place_of_a_log_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("log");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(end_of(&fifo).unwrap_err().to_string().contains("regular"));
    }
}
