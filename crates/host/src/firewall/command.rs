//! Runs the firewall's command-line tools, without a shell and for at most [`TIMEOUT`].

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit of one call. A call takes milliseconds, but waits for the lock of iptables
/// (`-w`), which a hanging process may hold forever.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Directories of root's tools, searched even if they are not in the `PATH` of the process.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];

/// An installed tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    path: PathBuf,
    name: &'static str,
}

impl Tool {
    /// Looks for a tool in the `PATH` and in [`DIRECTORIES`].
    pub(super) fn find(name: &'static str) -> Option<Tool> {
        let path = env::var_os("PATH").unwrap_or_default();
        let directories = env::split_paths(&path).chain(DIRECTORIES.map(PathBuf::from));
        let path = directories
            .map(|directory| directory.join(name))
            .find(|path| is_executable(path))?;
        Some(Tool { path, name })
    }

    /// Runs the tool and returns its standard output. The error is a sentence.
    pub(super) fn run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let output = self
            .start(arguments)
            .and_then(|child| finish(child, input.to_owned(), TIMEOUT));
        let Output {
            status,
            stdout,
            stderr,
        } = output.map_err(|error| format!("{}: {error}", self.name))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        // The reason comes first; a long usage text may follow.
        let message = String::from_utf8_lossy(&stderr);
        let message: Vec<&str> = message
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .take(2)
            .collect();
        Err(format!(
            "{}: {}",
            self.name,
            if message.is_empty() {
                status.to_string()
            } else {
                message.join(" ")
            }
        ))
    }

    fn start(&self, arguments: &[&str]) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        // The output is parsed and reported, so it must not depend on the host's language.
        command.args(arguments).env("LC_ALL", "C");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Result of a process.
struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Writes the input of a process and waits for its end, for at most `timeout`.
fn finish(mut child: Child, input: String, timeout: Duration) -> io::Result<Output> {
    let (sender, receiver) = channel();
    if let Some(mut stdin) = child.stdin.take() {
        // A process that stops reading reports the reason itself.
        thread::Builder::new().spawn(move || _ = stdin.write_all(input.as_bytes()))?;
    }
    read(child.stdout.take(), sender.clone(), Source::Stdout)?;
    read(child.stderr.take(), sender, Source::Stderr)?;
    let deadline = Instant::now() + timeout;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((Source::Stdout, text)) => stdout = text,
            Ok((Source::Stderr, text)) => stderr = text,
            Err(_) => {
                child.kill()?;
                child.wait()?;
                let sentence = format!(
                    "did not finish within {} seconds and was killed",
                    timeout.as_secs_f64()
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, sentence));
            }
        }
    }
    Ok(Output {
        status: child.wait()?,
        stdout,
        stderr,
    })
}

/// Output pipe of a process.
#[derive(Clone, Copy)]
enum Source {
    Stdout,
    Stderr,
}

/// Reads a pipe to its end on a separate thread.
fn read(
    pipe: Option<impl Read + Send + 'static>,
    sender: Sender<(Source, Vec<u8>)>,
    source: Source,
) -> io::Result<()> {
    thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        // After the timeout there is no receiver any more.
        let _ = sender.send((source, bytes));
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &'static str) -> Tool {
        Tool::find(name).unwrap()
    }

    #[test]
    fn input_and_output_may_have_any_length() {
        let input = "line\n".repeat(100_000);
        assert_eq!(tool("cat").run(&[], &input), Ok(input));
        // A process that does not read its input.
        assert_eq!(
            tool("true").run(&[], &"line\n".repeat(100_000)),
            Ok(String::new())
        );
    }

    #[test]
    fn failure_is_reported_with_its_reason() {
        let error = tool("ls").run(&["/no/such/directory"], "").unwrap_err();
        assert!(
            error.starts_with("ls: ") && error.contains("No such file"),
            "{error}"
        );
        assert_eq!(
            tool("false").run(&[], ""),
            Err("false: exit status: 1".to_owned())
        );
    }

    #[test]
    fn hanging_tool_is_killed() {
        let start = Instant::now();
        let child = tool("sleep").start(&["1000"]).unwrap();
        let id = child.id();
        let error = finish(child, String::new(), Duration::from_millis(50))
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "did not finish within 0.05 seconds and was killed"
        );
        assert!(start.elapsed() < TIMEOUT);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
