use nix::fcntl::FdFlag;
use nix::sys::signal::SigSet;

use super::*;

fn tool(name: &'static str) -> Tool {
    Tool::find(name).unwrap()
}

/// Runs a script of the shell.
fn script(script: &str) -> Result<String, String> {
    tool("sh").run(&["-c", script], "")
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

/// The test runner has many variables, and descriptors without the flag can be made.
#[test]
fn nothing_of_this_process_is_inherited() {
    assert!(std::env::vars().count() > ENVIRONMENT.len());
    let variables = tool("env").run(&[], "").unwrap();
    let mut variables: Vec<&str> = variables.lines().collect();
    variables.sort();
    let expected = ["LANG=C", "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
    assert_eq!(variables, expected);
    assert_eq!(script("pwd").unwrap(), "/\n");
    assert_eq!(script("readlink /proc/self/fd/0").unwrap(), "/dev/null\n");
    let (group, own) = (script("ps -o pgid= -p $$").unwrap(), nix::unistd::getpgrp());
    assert_ne!(group.trim(), own.to_string());
}

#[test]
fn no_descriptor_is_inherited_but_the_standard_ones() {
    let inheritable = nix::unistd::dup(File::open("/").unwrap()).unwrap();
    let flags = fcntl(&inheritable, FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, 0, "without FD_CLOEXEC");
    // The last one is the directory itself.
    assert_eq!(
        tool("ls").run(&["/proc/self/fd"], "").unwrap(),
        "0\n1\n2\n3\n"
    );
    // On a kernel before 5.11.
    let Descriptors::Listed(numbers) = Descriptors::listed() else {
        panic!("no list")
    };
    use std::os::fd::AsRawFd;
    assert!(numbers.contains(&inheritable.as_raw_fd()));
    assert!(numbers.iter().all(|number| *number > 2));
    let other = nix::unistd::dup(File::open("/").unwrap()).unwrap();
    let listed = Descriptors::Listed(vec![other.as_raw_fd(), 1_000_000]);
    listed.close_on_exec().unwrap();
    let flags = fcntl(&other, FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, FdFlag::FD_CLOEXEC.bits());
}

/// The threads that call tools block all signals, and a tool must end on SIGTERM.
#[test]
fn a_tool_blocks_no_signals() {
    SigSet::all().thread_block().unwrap();
    let mask = script("grep SigBlk /proc/self/status").unwrap();
    assert_eq!(mask.trim(), "SigBlk:\t0000000000000000");
}

#[test]
fn output_is_limited() {
    let error = tool("yes").run(&[], "").unwrap_err();
    assert_eq!(
        error,
        "yes: printed more than 67108864 bytes and was killed"
    );
    // The beginning of the error output is enough.
    let error = script("echo reason >&2; head -c 1000000 /dev/zero >&2; exit 1");
    assert!(error.unwrap_err().starts_with("sh: reason "));
}

/// Finishes a script in 200 ms, and asserts that it was killed.
fn killed(script: &str) {
    let start = Instant::now();
    let child = tool("sh").start(&["-c", script], "").unwrap();
    let id = child.id();
    let error = finish(child, "", Duration::from_millis(200));
    assert_eq!(
        error.map(|_| ()).unwrap_err().to_string(),
        "did not finish within 0.2 seconds and was killed"
    );
    assert!(start.elapsed() < TIMEOUT);
    assert!(!Path::new(&format!("/proc/{id}")).exists());
}

#[test]
fn hanging_tool_is_killed() {
    killed("exec sleep 1000");
    // It has closed its outputs, and goes on.
    killed("exec >&- 2>&- sleep 1000");
}

#[test]
fn what_a_hanging_tool_has_started_is_killed_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pid");
    killed(&format!("sleep 1000 & echo $! > {}; wait", file.display()));
    let id = fs::read_to_string(file).unwrap();
    let status = format!("/proc/{}/stat", id.trim());
    // Its new parent may not have read its status yet.
    let is_gone = || fs::read_to_string(&status).map_or(true, |text| text.contains(") Z "));
    let deadline = Instant::now() + TIMEOUT;
    while !is_gone() {
        assert!(Instant::now() < deadline, "it goes on");
        thread::yield_now();
    }
}

#[test]
fn tools_are_in_fixed_directories_only() {
    for directory in DIRECTORIES {
        assert!(directory.starts_with('/'), "{directory}");
    }
    assert!(Tool::find("no-such-tool").is_none());
    let found = Tool::find("cat").unwrap();
    assert!(DIRECTORIES.contains(&found.path.parent().unwrap().to_str().unwrap()));
}
