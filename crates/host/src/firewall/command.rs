//! Runs the firewall's command-line tools, without a shell and for at most [`TIMEOUT`].
//!
//! The tools run as root. So they are looked for in fixed directories, and get nothing of the
//! Mesos agent: no variables, no file descriptors, not its working directory, not its terminal.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::progress;

/// Time limit of one call. A call takes milliseconds, but waits for the lock of iptables
/// (`-w`), which a hanging process may hold forever.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Directories that only root can write. The last one is for tools that an administrator has
/// built.
const DIRECTORIES: [&str; 5] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin"];

/// Environment of the tools. Their output is parsed and reported, so it must not depend on the
/// host's language.
///
/// Nothing is inherited: not `LD_PRELOAD` and `LD_LIBRARY_PATH`, which are for Mesos's libraries,
/// not secrets, and no variable of the tools themselves. Of these `XTABLES_LIBDIR` and
/// `IPTABLES_LIB_DIR` name a directory whose libraries iptables loads, and `XTABLES_LOCKFILE` a
/// lock that would protect against nobody, since the other programs of the host use the default.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LANG", "C"),
    ("LC_ALL", "C"),
];

/// Limit of the standard output in bytes. A host with ten thousand services has some megabytes
/// of rules.
const OUTPUT_LIMIT: usize = 64 << 20;

/// Limit of the error output in bytes; the rest is dropped.
const ERROR_LIMIT: usize = 64 << 10;

/// An installed tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    path: PathBuf,
    name: &'static str,
}

impl Tool {
    /// Looks for a tool in [`DIRECTORIES`].
    pub(super) fn find(name: &'static str) -> Option<Tool> {
        let path = DIRECTORIES
            .into_iter()
            .map(|directory| Path::new(directory).join(name))
            .find(|path| is_executable(path))?;
        Some(Tool { path, name })
    }

    /// Runs the tool and returns its standard output. The error is a sentence.
    pub(super) fn run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        progress::step_with_timeout(format!("run {}", self.name), TIMEOUT);
        let output = self
            .start(arguments, input)
            .and_then(|child| finish(child, input, TIMEOUT));
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

    fn start(&self, arguments: &[&str], input: &str) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command
            .args(arguments)
            .env_clear()
            .envs(ENVIRONMENT)
            .current_dir("/")
            // A signal from the terminal of a Mesos agent must not end a tool half-way.
            .process_group(0)
            .stdin(match input {
                "" => Stdio::null(),
                _ => Stdio::piped(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let descriptors = Descriptors::of_process();
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { command.pre_exec(move || descriptors.close_on_exec()) };
        command.spawn()
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// File descriptors that a new process must not inherit. (Mesos and the libraries in it do not
/// mark all of theirs.)
enum Descriptors {
    /// All but standard input and outputs.
    All,
    /// These ones. Kernels before 5.11 cannot mark all at once.
    Listed(Vec<RawFd>),
}

impl Descriptors {
    fn of_process() -> Descriptors {
        // No descriptor has this number, so that the call only tells if the kernel knows it.
        match mark_range(u32::MAX) {
            Ok(()) => Descriptors::All,
            Err(_) => Descriptors::listed(),
        }
    }

    fn listed() -> Descriptors {
        let entries = fs::read_dir("/proc/self/fd").into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name());
        let numbers = names.filter_map(|name| name.to_str()?.parse().ok());
        Descriptors::Listed(numbers.filter(|number: &RawFd| *number > 2).collect())
    }

    /// Has them closed when the calling process executes a program. Makes only system calls.
    fn close_on_exec(&self) -> io::Result<()> {
        match self {
            Descriptors::All => mark_range(3)?,
            Descriptors::Listed(numbers) => {
                for number in numbers {
                    // SAFETY: only a flag of the descriptor changes, in a process of its own. One
                    // that was closed meanwhile is an error without consequence.
                    unsafe { libc::fcntl(*number, libc::F_SETFD, libc::FD_CLOEXEC) };
                }
            }
        }
        Ok(())
    }
}

/// Marks all descriptors from this one on to be closed when a program is executed.
fn mark_range(first: u32) -> io::Result<()> {
    // Through `syscall`, because the C library has a function for it only since glibc 2.34.
    // SAFETY: only flags of descriptors change.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

/// Result of a process.
struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Writes the input of a process and waits for its end, for at most `timeout`.
fn finish(mut child: Child, input: &str, timeout: Duration) -> io::Result<Output> {
    let deadline = Instant::now() + timeout;
    let output = exchange(&mut child, input.as_bytes(), deadline)
        .and_then(|output| Ok((output, wait(&mut child, deadline)?)));
    match output {
        Ok(([stdout, stderr], status)) => Ok(Output {
            status,
            stdout: stdout.content,
            stderr: stderr.content,
        }),
        Err(error) => {
            // Programs that the tool has started are in its group.
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            child.kill()?;
            child.wait()?;
            match error.kind() {
                io::ErrorKind::TimedOut => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "did not finish within {} seconds and was killed",
                        timeout.as_secs_f64()
                    ),
                )),
                _ => Err(error),
            }
        }
    }
}

/// Output pipe of a process.
struct Pipe {
    /// `None` after its end.
    file: Option<File>,
    content: Vec<u8>,
    limit: usize,
    is_truncated: bool,
}

impl Pipe {
    fn new(file: Option<impl Into<OwnedFd>>, limit: usize) -> Pipe {
        Pipe {
            file: file.map(|file| File::from(file.into())),
            content: Vec::new(),
            limit,
            is_truncated: false,
        }
    }

    /// Reads what is there. Does not wait if something is.
    fn receive(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut buffer = [0; 64 << 10];
        match file.read(&mut buffer) {
            Ok(0) => self.file = None,
            Ok(length) => {
                let kept = length.min(self.limit - self.content.len());
                self.content.extend_from_slice(&buffer[..kept]);
                self.is_truncated |= kept < length;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Writes the input of a process and reads its outputs until their end.
fn exchange(child: &mut Child, input: &[u8], deadline: Instant) -> io::Result<[Pipe; 2]> {
    let mut stdin = child.stdin.take().map(OwnedFd::from).map(File::from);
    if let Some(stdin) = &stdin {
        fcntl(stdin, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let mut input = input;
    let mut outputs = [
        Pipe::new(child.stdout.take(), OUTPUT_LIMIT),
        Pipe::new(child.stderr.take(), ERROR_LIMIT),
    ];
    while outputs.iter().any(|pipe| pipe.file.is_some()) {
        let [writes, reads_stdout, reads_stderr] = ready(stdin.as_ref(), &outputs, deadline)?;
        if writes {
            input = send(&mut stdin, input)?;
        }
        for (pipe, reads) in outputs.iter_mut().zip([reads_stdout, reads_stderr]) {
            if reads {
                pipe.receive()?;
            }
        }
        if outputs[0].is_truncated {
            let sentence = format!("printed more than {OUTPUT_LIMIT} bytes and was killed");
            return Err(io::Error::other(sentence));
        }
    }
    Ok(outputs)
}

/// Writes as much of the input as the pipe takes, and returns the rest. Closes the pipe at the
/// end, or if the process does not read. (Such a process reports the reason itself.)
fn send<'a>(stdin: &mut Option<File>, input: &'a [u8]) -> io::Result<&'a [u8]> {
    let written = stdin.as_mut().map_or(Ok(0), |file| file.write(input));
    let rest = match written {
        Ok(length) => &input[length..],
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => &[],
        Err(error)
            if [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted].contains(&error.kind()) =>
        {
            input
        }
        Err(error) => return Err(error),
    };
    if rest.is_empty() {
        *stdin = None;
    }
    Ok(rest)
}

/// Waits until something can be written or read, and returns what: input, output, error output.
fn ready(stdin: Option<&File>, outputs: &[Pipe; 2], deadline: Instant) -> io::Result<[bool; 3]> {
    let files = [stdin, outputs[0].file.as_ref(), outputs[1].file.as_ref()];
    let interests = [PollFlags::POLLOUT, PollFlags::POLLIN, PollFlags::POLLIN];
    let mut sources: Vec<PollFd> = files
        .iter()
        .zip(interests)
        .filter_map(|(file, interest)| Some(PollFd::new((*file)?.as_fd(), interest)))
        .collect();
    let timeout = deadline.saturating_duration_since(Instant::now());
    // Rounded up, so that the end of the time is not waited for in a busy loop.
    let timeout = timeout.as_micros().div_ceil(1000);
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    match poll(&mut sources, timeout) {
        Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok([false; 3]),
        Err(error) => return Err(error.into()),
    }
    let mut events = sources.iter().map(|source| source.any() != Some(false));
    Ok(files.map(|file| file.is_some() && events.next() == Some(true)))
}

/// Waits for the end of a process that has closed its outputs.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_micros(200));
    }
}

#[cfg(test)]
mod tests;
