use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use nix::sys::eventfd::EventFd;

use super::*;
use crate::progress;

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    generation: u64,
    text: String,
    operations: usize,
}

impl Report for Said {
    type Desired = String;

    const TASK: &'static str = "do as told";

    fn failed(_: &String, reason: String) -> Said {
        Said {
            text: reason,
            ..Said::default()
        }
    }

    fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    fn operations(&self) -> usize {
        self.operations
    }

    fn says_the_same_as(&self, other: &Said) -> bool {
        self.text == other.text
    }
}

/// A supervised thread that publishes one text for each message of the channel.
struct Thread {
    supervisor: Supervisor<Said, EventFd>,
    say: Sender<&'static str>,
    woken: Receiver<()>,
    /// Lets threads that hang go on.
    release: Sender<()>,
    started: Arc<AtomicUsize>,
}

fn thread() -> Thread {
    thread_with(Limits::default())
}

fn thread_with(limits: Limits) -> Thread {
    let ((say, texts), (wake, woken)) = (channel::<&'static str>(), channel());
    let (release, gate) = channel::<()>();
    let (texts, gate) = (Mutex::new(texts), Mutex::new(gate));
    let started = Arc::new(AtomicUsize::new(0));
    let count = started.clone();
    let run = move |control: &mut Control<Said, EventFd>| {
        count.fetch_add(1, Ordering::Relaxed);
        loop {
            progress::wait(Some(Duration::from_millis(1)));
            match control.receive() {
                Received::Stop => return Ok(()),
                Received::Desired | Received::Nothing => {}
            }
            let text = texts.lock().recv_timeout(Duration::from_millis(1));
            match text {
                Err(_) => continue,
                Ok("end") => return Ok(()),
                Ok("hang") => {
                    progress::step("hang as told");
                    let _ = gate.lock().recv();
                }
                Ok("error") => return Err(io::Error::other("on purpose")),
                Ok(text) => assert_ne!(text, "panic"),
            }
            let report = Said {
                text: text.unwrap_or_default().to_owned(),
                operations: 2,
                ..Said::default()
            };
            control.count(&report);
            control.publish(report);
        }
    };
    let wake = move || wake.send(()).unwrap();
    let supervisor = Supervisor::spawn_with(limits, "test", poll_signal, wake, run);
    Thread {
        supervisor: supervisor.unwrap(),
        say,
        woken,
        release,
        started,
    }
}

impl Thread {
    /// Has the thread receive a desired state.
    fn apply(&self, generation: u64) {
        self.supervisor.apply(generation, Arc::default());
        while self.supervisor.shared.mailbox.lock().request.is_some() {
            std::thread::yield_now();
        }
    }

    /// Looks after the thread until there is a report.
    fn look_after(&mut self) -> Said {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.supervisor.look_after();
            if let Some(report) = self.supervisor.poll() {
                return report;
            }
            assert!(Instant::now() < deadline, "no report");
            std::thread::yield_now();
        }
    }

    fn report(&self) -> Said {
        self.woken.recv_timeout(PATIENCE).unwrap();
        self.supervisor.poll().unwrap()
    }
}

#[test]
fn publishes_the_first_report_and_then_changes() {
    let thread = thread();
    thread.apply(3);
    thread.say.send("a").unwrap();
    assert_eq!(thread.report().generation, 3);
    thread.say.send("a").unwrap();
    thread.say.send("b").unwrap();
    let report = thread.report();
    assert_eq!((report.generation, &*report.text), (3, "b"));
    assert_eq!(thread.supervisor.poll(), None);
    thread.apply(4);
    thread.say.send("b").unwrap();
    assert_eq!(thread.report().generation, 4, "nobody has read it yet");
    let counters = Counters {
        reconciliations: 4,
        repairs: 2,
        repair_operations: 4,
    };
    assert_eq!(thread.supervisor.counters(), counters);
}

#[test]
fn a_panic_of_the_loop_is_a_report_and_the_loop_goes_on() {
    let thread = thread();
    thread.apply(1);
    thread.say.send("panic").unwrap();
    let text = thread.report().text;
    let place = format!(
        "cannot do as told: internal error, panicked at {}:",
        file!()
    );
    assert!(text.starts_with(&place), "{text}");
    thread.say.send("fine").unwrap();
    assert_eq!(thread.report().text, "fine");
}

#[test]
fn publishes_nothing_before_there_is_a_desired_state() {
    let thread = thread();
    thread.say.send("a").unwrap();
    while thread.supervisor.counters().reconciliations == 0 {
        std::thread::yield_now();
    }
    thread.apply(1);
    thread.say.send("b").unwrap();
    assert_eq!(thread.report().text, "b");
}

#[test]
fn an_error_of_the_loop_is_a_report_and_the_loop_goes_on() {
    let thread = thread();
    thread.apply(1);
    thread.say.send("error").unwrap();
    assert_eq!(thread.report().text, "cannot do as told: on purpose");
    thread.say.send("fine").unwrap();
    assert_eq!(thread.report().text, "fine");
}

/// Short times, and no second replacement.
fn short() -> Limits {
    Limits {
        step: Duration::from_millis(500),
        interval: Duration::from_secs(3600),
        end: Duration::from_millis(100),
    }
}

#[test]
fn another_thread_takes_over_from_one_that_hangs() {
    let mut thread = thread_with(short());
    thread.apply(7);
    thread.say.send("hang").unwrap();
    let Said {
        generation, text, ..
    } = thread.look_after();
    assert_eq!(generation, 7);
    let (begin, end) = text.split_once("has not answered for ").unwrap();
    assert!(
        begin.starts_with("cannot do as told: the thread test (tid "),
        "{text}"
    );
    assert!(
        end.ends_with(" s (step: hang as told); another thread takes over"),
        "{text}"
    );
    thread.say.send("fine").unwrap();
    let report = thread.report();
    assert_eq!((report.generation, &*report.text), (7, "fine"));
    // Whatever the other thread still says is of no interest. It ends.
    assert_eq!(thread.supervisor.abandoned.len(), 1);
    thread.release.send(()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !thread.supervisor.abandoned.is_empty() {
        thread.supervisor.look_after();
        assert!(Instant::now() < deadline, "it goes on");
    }
    assert_eq!(thread.supervisor.poll(), None);
    assert!(thread.woken.try_recv().is_err());
}

#[test]
fn a_thread_that_ends_is_replaced() {
    let mut thread = thread_with(short());
    thread.apply(7);
    thread.say.send("end").unwrap();
    let woken = thread.woken.recv_timeout(PATIENCE);
    woken.expect("the owner learns it at once");
    let report = thread.look_after();
    let text = "cannot do as told: the thread test has ended; another thread takes over";
    assert_eq!((report.generation, &*report.text), (7, text));
    thread.say.send("fine").unwrap();
    assert_eq!(thread.report().text, "fine");
}

/// Each desired state gets a report, so that its requester tries again.
#[test]
fn while_no_thread_can_be_started_every_desired_state_fails() {
    let mut thread = thread_with(short());
    thread.apply(1);
    for text in [
        "another thread takes over",
        "another thread is started in 3",
    ] {
        thread.say.send("hang").unwrap();
        let report = thread.look_after().text;
        assert!(report.contains(text), "{report}");
    }
    thread.supervisor.look_after();
    assert_eq!(thread.supervisor.poll(), None, "it was said");
    thread.supervisor.apply(2, Arc::default());
    assert_eq!(thread.look_after().generation, 2);
}

/// A thread can come back before another one may be started.
#[test]
fn what_a_thread_says_after_it_hung_is_news() {
    let mut thread = thread_with(short());
    thread.apply(1);
    thread.say.send("hang").unwrap();
    thread.look_after();
    // The replacement hangs as well, comes back, and does it again.
    for _ in 0..2 {
        thread.say.send("hang").unwrap();
        let report = thread.look_after();
        assert!(report.text.ends_with(" s"), "not replaced: {}", report.text);
        thread.release.send(()).unwrap();
        thread.release.send(()).unwrap();
        let report = thread.report();
        assert_eq!((report.generation, &*report.text), (1, "hang"));
        thread.supervisor.look_after();
    }
}

#[test]
fn the_number_of_hanging_threads_is_bounded() {
    let mut thread = thread_with(Limits {
        step: Duration::from_secs(1),
        interval: Duration::ZERO,
        end: Duration::from_millis(100),
    });
    thread.apply(1);
    for _ in 0..MAX_HANGING {
        thread.say.send("hang").unwrap();
        assert!(thread.look_after().text.ends_with("takes over"));
    }
    thread.say.send("hang").unwrap();
    let text = thread.look_after().text;
    assert!(
        text.ends_with("4 threads hang, and no other is started before one of them ends"),
        "{text}"
    );
    for _ in 0..100 {
        let next = thread.supervisor.look_after();
        assert!(next > Duration::ZERO, "the owner would be busy");
    }
    assert_eq!(thread.started.load(Ordering::Relaxed), MAX_HANGING + 1);
    // As soon as one ends there is room for another.
    thread.release.send(()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while thread.started.load(Ordering::Relaxed) == MAX_HANGING + 1 {
        thread.supervisor.look_after();
        assert!(Instant::now() < deadline, "no other thread");
    }
}

#[test]
fn replacements_are_made_at_growing_intervals() {
    let seconds = Duration::from_secs;
    let (mut now, mut replacements) = (Instant::now(), Replacements::new(seconds(60)));
    let mut intervals = Vec::new();
    for _ in 0..8 {
        assert_eq!(replacements.wait(now), Duration::ZERO);
        replacements.on_attempt(now);
        let wait = replacements.wait(now);
        intervals.push(wait.as_secs());
        now += wait;
        replacements.on_health(now);
    }
    assert_eq!(intervals, [60, 120, 240, 480, 960, 1800, 1800, 1800]);
    now += seconds(3600);
    replacements.on_health(now);
    replacements.on_attempt(now);
    assert_eq!(replacements.wait(now), seconds(60), "it worked for an hour");
}

#[test]
fn dropping_does_not_wait_for_a_thread_that_hangs() {
    let thread = thread_with(short());
    thread.apply(1);
    thread.say.send("hang").unwrap();
    // The thread has taken it once nobody listens any more, or hangs in its step.
    let progress = thread.supervisor.shared.progress.clone();
    let deadline = Instant::now() + PATIENCE;
    while !progress.present().to_string().contains("hang as told") {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let start = Instant::now();
    drop(thread.supervisor);
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    thread.release.send(()).unwrap();
    let woken = thread.woken.recv_timeout(PATIENCE);
    assert_eq!(woken, Err(RecvTimeoutError::Disconnected), "it woke nobody");
}
