//! Threads of the agent module that hang, and signals.
//!
//! A thread is made to hang by a tracer that stops it: the kernel then runs the other threads of
//! the process, and this one not.

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use nix::libc;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use testbed::node::Node;
use testbed::wait;

use crate::common::{LIMIT, all_ok, assert_alive, hosts, start, wait_state};

/// Threads of an agent module with a container engine.
const THREADS: [&str; 3] = ["overlay-engine", "overlay-host", "overlay-usage"];

/// Limit of the time until a thread that hangs is noticed: 45 s, and some patience.
const NOTICED: Duration = Duration::from_secs(120);

/// Returns the ids of our threads in a process, by name.
fn threads(process: u32) -> BTreeMap<String, u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let ids = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
    let named = ids.map(|id| {
        let name = fs::read_to_string(format!("/proc/{process}/task/{id}/comm"));
        (
            name.unwrap_or_default().trim().to_owned(),
            id.parse().unwrap(),
        )
    });
    named
        .filter(|(name, _)| name.starts_with("overlay-"))
        .collect()
}

/// Returns whether a thread waits for something to do, by the text of `/proc/<thread>/syscall`:
/// "running", or the number of the system call and its arguments.
fn is_idle(syscall: &str) -> bool {
    let mut words = syscall.split_whitespace();
    let number: i64 = words
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(-1);
    let hexadecimal = |word: &str| i32::from_str_radix(word.trim_start_matches("0x"), 16).ok();
    match number {
        libc::SYS_poll | libc::SYS_ppoll | libc::SYS_epoll_wait => true,
        libc::SYS_futex => {
            let operation = words.nth(1).and_then(hexadecimal).unwrap_or(-1);
            [libc::FUTEX_WAIT, libc::FUTEX_WAIT_BITSET]
                .contains(&(operation & libc::FUTEX_CMD_MASK))
        }
        _ => false,
    }
}

/// Stops a thread of another process while it waits: elsewhere it may hold a lock of the
/// allocator, or be about to wake a thread of Mesos.
fn stop_while_idle(thread: Pid) {
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    wait::until("the thread to be idle", LIMIT, || {
        ptrace::interrupt(thread)?;
        waitpid(thread, Some(WaitPidFlag::__WALL))?;
        let syscall = fs::read_to_string(format!("/proc/{thread}/syscall"))?;
        if is_idle(&syscall) {
            return Ok(Some(()));
        }
        ptrace::cont(thread, None)?;
        bail!("it is in: {syscall}");
    })
    .unwrap();
}

/// Stops threads until they end with their process.
fn stop(threads: Vec<u32>) -> JoinHandle<()> {
    let (stopped, all_stopped) = channel();
    let tracer = std::thread::spawn(move || {
        let threads: Vec<Pid> = threads
            .into_iter()
            .map(|thread| Pid::from_raw(thread.cast_signed()))
            .collect();
        for thread in &threads {
            stop_while_idle(*thread);
        }
        stopped.send(()).unwrap();
        for thread in threads {
            let _ = waitpid(thread, Some(WaitPidFlag::__WALL));
        }
    });
    all_stopped.recv().unwrap();
    tracer
}

/// Stops a process until it is killed.
fn freeze(node: &Node) {
    let process = Pid::from_raw(node.pid().unwrap().cast_signed());
    kill(process, Signal::SIGSTOP).unwrap();
}

/// Waits until an agent has all threads, and returns them.
fn all_threads(agent: &Node) -> BTreeMap<String, u32> {
    let process = agent.pid().unwrap();
    wait::until("the threads of the module", LIMIT, || {
        let threads = threads(process);
        let names: Vec<&str> = threads.keys().map(String::as_str).collect();
        ensure!(names == THREADS, "{names:?}");
        Ok(Some(threads))
    })
    .unwrap()
}

/// Mesos's handlers of signals run on Mesos's threads.
#[test]
fn no_signal_is_delivered_on_our_threads() {
    let Some(setup) = hosts("no_signal_is_delivered_on_our_threads", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    let process = cluster.agents[0].pid().unwrap();
    for (name, thread) in all_threads(&cluster.agents[0]) {
        let status = fs::read_to_string(format!("/proc/{process}/task/{thread}/status")).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
        for signal in [
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGPIPE,
            Signal::SIGTERM,
            Signal::SIGCHLD,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGPROF,
        ] {
            let is_blocked = mask & 1 << (signal as u32 - 1) != 0;
            assert!(is_blocked, "{signal} of {name}: {mask:x}");
        }
    }
    assert_alive(&mut cluster);
}

#[test]
fn a_reconciler_that_hangs_is_noticed_and_replaced() {
    let Some(setup) = hosts("a_reconciler_that_hangs_is_noticed_and_replaced", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    let agent = &mut cluster.agents[0];
    let hanging = all_threads(agent)["overlay-host"];
    let begin = Instant::now();
    let tracer = stop(vec![hanging]);
    let line = agent
        .wait_log("the thread overlay-host (tid", NOTICED)
        .unwrap();
    println!("noticed after {:.1?}", begin.elapsed());
    assert!(line.starts_with('E'), "{line}");
    for part in [
        &format!("(tid {hanging})"),
        "(step: ",
        "another thread takes over",
    ] {
        assert!(line.contains(part), "{part:?} is not in: {line}");
    }
    // The other thread keeps the host as desired.
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    let host = cluster.agents[0].host().unwrap();
    host.run("ip", &["link", "delete", "vtep1024"]).unwrap();
    wait::until("the device to come back", LIMIT, || {
        Ok(host
            .run("ip", &["link", "show", "vtep1024"])
            .ok()
            .map(|_| ()))
    })
    .unwrap();
    assert_alive(&mut cluster);
    cluster.agents[0].kill().unwrap();
    tracer.join().unwrap();
}

/// The agent ends as it does otherwise, though none of our threads answers.
#[test]
fn mesos_does_not_wait_for_threads_that_hang() {
    let Some(setup) = hosts("mesos_does_not_wait_for_threads_that_hang", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    // A message that arrives while libprocess ends makes it crash, so nobody sends one.
    freeze(cluster.masters().next().unwrap());
    let agent = &mut cluster.agents[0];
    let tracer = stop(all_threads(agent).into_values().collect());
    let process = Pid::from_raw(agent.pid().unwrap().cast_signed());
    let begin = Instant::now();
    // The signal with which an operator has an agent end in order.
    kill(process, Signal::SIGUSR1).unwrap();
    tracer.join().unwrap();
    let status = agent.wait_ended(LIMIT).unwrap();
    println!("{status} after {:.1?}", begin.elapsed());
    assert!(status.success(), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(20), "it waited");
    let log = agent.log();
    for thread in THREADS {
        let line = format!("not waiting any longer for the thread {thread}, which (tid ");
        assert!(log.contains(&line), "{line:?} is not in the log:\n{log}");
    }
}
