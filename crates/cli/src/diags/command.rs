//! Runs tools of the host for their output, with limits of time and size.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Directories of tools, in which only root can write. `PATH` is not used: this program runs as
/// root.
const DIRECTORIES: [&str; 6] = [
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
];
/// Environment of tools, whose output must not depend on the host's language.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"),
    ("LANG", "C"),
    ("LC_ALL", "C"),
    ("HOME", "/nonexistent"),
];
/// Size limit of standard error, in bytes.
const ERRORS: u64 = 16 << 10;
/// Interval at which a tool that has closed its output is asked for its end.
const TICK: Duration = Duration::from_millis(2);
/// Time limit of the end of a tool that was killed, and of its output.
const KILLED: Duration = Duration::from_secs(1);

/// Output of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Beginning of standard output.
    pub text: Vec<u8>,
    /// True if there was more than the limit.
    pub is_cut: bool,
    /// True if the tool did not end within its time, and was killed. The output is then what it
    /// had written.
    pub is_killed: bool,
    /// Exit status 0.
    pub is_success: bool,
    /// Beginning of standard error.
    pub errors: String,
}

impl Output {
    /// Returns the output of a tool that has ended.
    ///
    /// # Errors
    /// The tool was killed. The error is a sentence.
    pub fn ended(self, name: &str, limit: Duration) -> Result<Output, String> {
        match self.is_killed {
            true => Err(late(name, limit)),
            false => Ok(self),
        }
    }
}

/// Returns a sentence about a tool that was killed.
pub fn late(name: &str, limit: Duration) -> String {
    format!("{name} did not end within {} s", limit.as_secs())
}

/// Tools with a common time limit. A tool that has hung is not run again: what stops one command
/// of it mostly stops the others.
#[derive(Debug)]
pub struct Tools {
    end: Instant,
    hung: BTreeSet<String>,
}

impl Tools {
    /// Creates tools that all together have this time.
    pub fn new(limit: Duration) -> Tools {
        Tools {
            end: Instant::now() + limit,
            hung: BTreeSet::new(),
        }
    }

    /// Runs a tool. The error is a sentence.
    pub fn run(
        &mut self,
        name: &str,
        arguments: &[&str],
        limit: Duration,
        size: u64,
    ) -> Result<Output, String> {
        let path = find(name).ok_or_else(|| format!("{name} is not installed"))?;
        let mut command = Command::new(path);
        command.env_clear().envs(ENVIRONMENT).current_dir("/");
        command.args(arguments);
        self.run_command(name, command, limit, size)
    }

    /// Runs a command that is ready to be run.
    pub fn run_command(
        &mut self,
        name: &str,
        command: Command,
        limit: Duration,
        size: u64,
    ) -> Result<Output, String> {
        if self.hung.contains(name) {
            return Err(format!("{name} did not end in time before"));
        }
        let rest = self.end.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err("the tools together took too long".to_owned());
        }
        let output = run_command(name, command, limit.min(rest), size)?;
        if output.is_killed {
            self.hung.insert(name.to_owned());
        }
        Ok(output)
    }
}

/// Returns the path of a tool.
pub fn find(name: &str) -> Option<PathBuf> {
    let paths = DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(name));
    let is_executable = |path: &PathBuf| {
        fs::metadata(path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    paths.into_iter().find(is_executable)
}

fn run_command(
    name: &str,
    mut command: Command,
    limit: Duration,
    size: u64,
) -> Result<Output, String> {
    let cannot = |error: io::Error| format!("{name} cannot be run: {error}");
    let mut child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    let end = Instant::now() + limit;
    let text = read(child.stdout.take(), size).map_err(cannot)?;
    let errors = read(child.stderr.take(), ERRORS).map_err(cannot)?;
    let mut output = Output::default();
    if !collect(&mut child, &text, &errors, end, &mut output) {
        // The group has this program's own child only, and what that has started.
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
        output.is_killed = true;
        // A tool that waits in the kernel does not end even now, and nobody waits for it.
        let end = Instant::now() + KILLED;
        collect(&mut child, &text, &errors, end, &mut output);
    }
    Ok(output)
}

/// Reads a stream to its end in a thread. What is beyond the limit is read and dropped, so that the
/// tool can go on. Sends the beginning, and whether there was more.
fn read(
    stream: Option<impl Read + Send + 'static>,
    size: u64,
) -> io::Result<Receiver<(Vec<u8>, bool)>> {
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        let mut text = Vec::new();
        let mut is_cut = false;
        if let Some(mut stream) = stream {
            let _ = stream.by_ref().take(size).read_to_end(&mut text);
            is_cut = io::copy(&mut stream, &mut io::sink()).is_ok_and(|more| more > 0);
        }
        let _ = sender.send((text, is_cut));
    };
    thread::Builder::new().spawn(work)?;
    Ok(receiver)
}

/// Waits for the end of a tool, and takes its output. Returns false if the time is over before.
fn collect(
    child: &mut Child,
    text: &Receiver<(Vec<u8>, bool)>,
    errors: &Receiver<(Vec<u8>, bool)>,
    end: Instant,
    output: &mut Output,
) -> bool {
    let rest = || end.saturating_duration_since(Instant::now());
    // Each is sent once, and so is not there any more after a first call has taken it.
    let is_late = |error| error == RecvTimeoutError::Timeout;
    match text.recv_timeout(rest()) {
        Ok(read) => (output.text, output.is_cut) = read,
        Err(error) if is_late(error) => return false,
        Err(_) => {}
    }
    match errors.recv_timeout(rest()) {
        Ok((errors, _)) => output.errors = String::from_utf8_lossy(&errors).into_owned(),
        Err(error) if is_late(error) => return false,
        Err(_) => {}
    }
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                output.is_success = status.success();
                return true;
            }
            Ok(None) if !rest().is_zero() => thread::sleep(TICK),
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn run(name: &str, arguments: &[&str], limit: Duration, size: u64) -> Result<Output, String> {
        Tools::new(LIMIT).run(name, arguments, limit, size)
    }

    #[test]
    fn output_has_limits() {
        let output = run("seq", &["100000"], LIMIT, 10).unwrap();
        assert_eq!(output.text, b"1\n2\n3\n4\n5\n");
        assert!(output.is_cut && output.is_success);
        let output = run("sh", &["-c", "echo $HOME; echo no >&2; exit 3"], LIMIT, 100).unwrap();
        assert_eq!(output.text, b"/nonexistent\n");
        assert!(!output.is_success && output.errors == "no\n");
        assert_eq!(
            run("no-such-tool", &[], LIMIT, 1).unwrap_err(),
            "no-such-tool is not installed"
        );
    }

    #[test]
    fn a_tool_that_hangs_is_ended_with_what_it_started() {
        let begin = Instant::now();
        let short = Duration::from_millis(200);
        let script = "echo begin; sleep 600 & sleep 600";
        let hangs = run("sh", &["-c", script], short, 10).unwrap();
        assert!(hangs.is_killed && !hangs.is_success);
        assert_eq!(hangs.text, b"begin\n");
        let reason = hangs.ended("sh", short).unwrap_err();
        assert!(reason.contains("did not end within"));
        assert!(begin.elapsed() < LIMIT);
    }

    #[test]
    fn tools_that_hang_do_not_add_up() {
        let mut tools = Tools::new(LIMIT);
        let short = Duration::from_millis(50);
        assert!(tools.run("sleep", &["600"], short, 10).unwrap().is_killed);
        let again = tools.run("sleep", &["0"], LIMIT, 10).unwrap_err();
        assert_eq!(again, "sleep did not end in time before");
        assert!(tools.run("true", &[], LIMIT, 10).unwrap().is_success);
        let mut tools = Tools::new(Duration::ZERO);
        let late = tools.run("true", &[], LIMIT, 10).unwrap_err();
        assert_eq!(late, "the tools together took too long");
    }
}
