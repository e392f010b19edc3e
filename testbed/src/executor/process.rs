//! Processes that `CommandInfo` describes.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

/// Pause between two looks at a process.
const PAUSE: Duration = Duration::from_millis(20);

/// Returns the variables of a `CommandInfo`, as names and values.
pub fn variables(command: &Value) -> impl Iterator<Item = (&str, &str)> {
    let variables = command["environment"]["variables"].as_array();
    variables.into_iter().flatten().filter_map(|variable| {
        Some((
            variable["name"].as_str()?,
            variable["value"].as_str().unwrap_or_default(),
        ))
    })
}

/// Returns the arguments of a `CommandInfo`.
pub fn arguments(command: &Value) -> impl Iterator<Item = &str> {
    let arguments = command["arguments"].as_array();
    arguments.into_iter().flatten().filter_map(Value::as_str)
}

/// Returns true if a shell runs the value of a `CommandInfo`, which is the default.
pub fn is_shell(command: &Value) -> bool {
    command["shell"].as_bool().unwrap_or(true)
}

/// Makes a command of a `CommandInfo`, as leader of a process group of its own.
///
/// # Errors
/// It has no value.
pub fn command(info: &Value) -> Result<Command> {
    let value = info["value"].as_str().context("a command without value")?;
    let mut command;
    if is_shell(info) {
        command = Command::new("/bin/sh");
        command.args(["-c", value]);
    } else {
        command = Command::new(value);
        let mut arguments = arguments(info);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments);
    }
    command.envs(variables(info)).process_group(0);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Sends SIGTERM to a group, and SIGKILL to what is left of it after the grace period.
pub fn end_group(leader: u32, grace: Duration) {
    let group = Pid::from_raw(leader.cast_signed());
    let end = Instant::now() + grace;
    let mut signal = Some(Signal::SIGTERM);
    while killpg(group, signal) != Err(Errno::ESRCH) {
        signal = None;
        if Instant::now() >= end {
            let _ = killpg(group, Signal::SIGKILL); // fails if the group has ended just now
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Runs a `CommandInfo` to its end.
///
/// # Errors
/// It cannot be started, fails, or takes longer than `limit` and is killed.
pub fn run(info: &Value, limit: Duration) -> Result<()> {
    let mut command = command(info)?;
    command.stdout(Stdio::null()).stderr(Stdio::null());
    wait(command.spawn().context("starting a command")?, limit)
}

/// Waits for the success of a leader of a process group, which is killed after `limit`.
///
/// # Errors
/// It fails, or takes longer.
pub fn wait(mut child: Child, limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait().context("waiting for a command")? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{status}"),
            None if Instant::now() >= end => break,
            None => thread::sleep(PAUSE),
        }
    }
    end_group(child.id(), Duration::ZERO);
    child.wait().context("waiting for a command")?;
    bail!("no end within {limit:?}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_shell_or_an_argument_vector_is_run() {
        let variables = json!({ "variables": [{ "name": "WORD", "value": "two words" }] });
        let shell = json!({ "value": "test \"$WORD\" = 'two words'", "environment": variables });
        run(&shell, LIMIT).unwrap();
        let vector = |last: &str| {
            json!({
                "shell": false, "value": "sh", "environment": variables,
                "arguments": ["sh", "-c", "test \"$WORD\" = \"$0\"", last],
            })
        };
        run(&vector("two words"), LIMIT).unwrap();
        assert!(run(&vector("two"), LIMIT).is_err());
        assert!(run(&json!({ "shell": true }), LIMIT).is_err());
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let start = Instant::now();
        let hangs = json!({ "value": "trap '' TERM; while :; do sleep 1; done" });
        let error = run(&hangs, Duration::from_millis(200)).unwrap_err();
        assert!(format!("{error:#}").contains("no end within"), "{error:#}");
        assert!(start.elapsed() < LIMIT);
    }

    #[test]
    fn the_grace_period_lets_a_group_end_by_itself() {
        let dir = std::env::temp_dir().join(format!("grace-{}", std::process::id()));
        let script = "trap 'echo ended > $FILE; exit' TERM; echo ready > $FILE; while :; do sleep 0.05; done";
        let info = json!({
            "value": script,
            "environment": { "variables": [{ "name": "FILE", "value": dir.display().to_string() }] },
        });
        let mut child = command(&info).unwrap().spawn().unwrap();
        let read = || std::fs::read_to_string(&dir).unwrap_or_default();
        crate::wait::until(
            "the trap",
            LIMIT,
            || Ok((read() == "ready\n").then_some(())),
        )
        .unwrap();
        let leader = child.id();
        let ending = thread::spawn(move || end_group(leader, LIMIT));
        child.wait().unwrap();
        ending.join().unwrap();
        assert_eq!(read(), "ended\n");
        std::fs::remove_file(&dir).unwrap();
    }
}
