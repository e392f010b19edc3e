//! Running the firewall's tools: found where they are, given arguments and input
//! without a shell between, and never waited for longer than [`PATIENCE`].

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a tool may take. They take milliseconds, and wait for each other's
/// lock (`-w`), which a broken one may hold for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where root's tools are, even if the process was started without them in its
/// path.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];

/// A tool that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    path: PathBuf,
    name: &'static str,
}

impl Tool {
    /// Looks for a tool.
    pub(super) fn find(name: &'static str) -> Option<Tool> {
        let path = env::var_os("PATH").unwrap_or_default();
        let directories = env::split_paths(&path).chain(DIRECTORIES.map(PathBuf::from));
        let path = directories
            .map(|directory| directory.join(name))
            .find(|path| is_executable(path))?;
        Some(Tool { path, name })
    }

    /// Runs it; gives what it prints. The error is a sentence.
    pub(super) fn run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let output = self
            .start(arguments)
            .and_then(|child| finish(child, input.to_owned(), PATIENCE));
        let Output {
            status,
            stdout,
            stderr,
        } = output.map_err(|error| format!("{}: {error}", self.name))?;
        if status.success() {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        // Tools explain themselves at length; the reason comes first.
        let said = String::from_utf8_lossy(&stderr);
        let said: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .take(2)
            .collect();
        Err(format!(
            "{}: {}",
            self.name,
            if said.is_empty() {
                status.to_string()
            } else {
                said.join(" ")
            }
        ))
    }

    fn start(&self, arguments: &[&str]) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        // What they say is compared, and told to people who may not share the
        // host's language.
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

/// What became of a process.
struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Gives a process its input and waits for its end, but not for ever.
fn finish(mut child: Child, input: String, patience: Duration) -> io::Result<Output> {
    let (sender, receiver) = channel();
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read to the end says why on its own account.
        thread::Builder::new().spawn(move || _ = stdin.write_all(input.as_bytes()))?;
    }
    read(child.stdout.take(), sender.clone(), false)?;
    read(child.stderr.take(), sender, true)?;
    let deadline = Instant::now() + patience;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok((false, text)) => stdout = text,
            Ok((true, text)) => stderr = text,
            Err(_) => {
                child.kill()?;
                child.wait()?;
                let sentence = format!(
                    "did not finish within {} seconds and was stopped",
                    patience.as_secs_f64()
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

/// Reads a pipe to its end, on a thread of its own.
fn read(
    pipe: Option<impl Read + Send + 'static>,
    sender: Sender<(bool, Vec<u8>)>,
    tag: bool,
) -> io::Result<()> {
    thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        // Nobody listens any more if it took too long.
        let _ = sender.send((tag, bytes));
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
    fn gives_input_and_takes_output_of_any_length() {
        let input = "line\n".repeat(100_000);
        assert_eq!(tool("cat").run(&[], &input), Ok(input));
        // One that does not read what it is given.
        assert_eq!(
            tool("true").run(&[], &"line\n".repeat(100_000)),
            Ok(String::new())
        );
    }

    #[test]
    fn what_fails_says_why() {
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
    fn what_hangs_is_stopped() {
        let start = Instant::now();
        let child = tool("sleep").start(&["1000"]).unwrap();
        let id = child.id();
        let error = finish(child, String::new(), Duration::from_millis(50))
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "did not finish within 0.05 seconds and was stopped"
        );
        assert!(start.elapsed() < PATIENCE);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }
}
