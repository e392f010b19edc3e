//! The thread that makes the host match, and keeps it so.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use overlay_core::host_api::desired::Desired;
use overlay_core::util::throttle::Throttle;
use overlay_core::{HostReport, Time};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::panics::catch;
use crate::reconcile::Meaning;
use crate::reconciler::Passes;
use crate::schedule::{Due, Pace};

/// A thread that takes a [`Desired`], compares it with the host and carries out
/// the difference; and does so again whenever somebody else changes the host. It
/// works in the network namespace of the thread that spawned it.
///
/// Dropping it waits for the pass that is under way; after that `wake` is not
/// called any more.
pub struct Executor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What an executor did since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Passes over the whole host, ordered or not.
    pub passes: u64,
    /// Those that nobody ordered and that had something to do.
    pub repairs: u64,
    /// Operations of those.
    pub repair_operations: u64,
}

/// The largest MTU of packets that fit into the underlay once they have their VXLAN
/// headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fitting {
    /// No pass was over the host yet.
    #[default]
    Unmeasured,
    /// The device that carries the tunnels cannot be found.
    Unknown,
    /// So many bytes.
    Bytes(u32),
}

struct Shared {
    state: Mutex<State>,
    /// What was measured last, for whoever has to fit something into it.
    fitting: watch::Sender<Fitting>,
    /// Readable when there is something new in `state`.
    changed: EventFd,
}

#[derive(Default)]
struct State {
    waiting: Option<(u64, Arc<Desired>)>,
    done: Option<HostReport>,
    counters: Counters,
    stop: bool,
}

/// What the thread can do to the host.
pub(super) trait Hands {
    /// Compares everything, and makes the host like `desired`.
    fn pass(&mut self, desired: &Desired) -> HostReport;

    /// Does only what takes the host, which was made like `from` as far as the kernel
    /// permitted and of which nothing was heard since, to `to`. `None`: that needs a pass.
    fn change_peers(&mut self, from: &Desired, to: &Desired) -> Option<HostReport>;

    /// Whether something is not as desired of what is quickly read.
    fn look(&mut self, desired: &Desired) -> bool;

    /// Waits until `wakeup` is readable, something happened to the host, or the
    /// time is over. `deaf`: what happens to the host can wait.
    fn wait(
        &mut self,
        wakeup: BorrowedFd<'_>,
        timeout: Duration,
        deaf: bool,
    ) -> io::Result<Meaning>;

    /// Whether changes of the host are told at all.
    fn is_blind(&self) -> bool;

    /// What fits into the underlay, as of the last pass.
    fn fitting(&self) -> Fitting;
}

impl Executor {
    /// Starts the thread. `wake` is called from it whenever there is a report to
    /// [`poll`](Executor::poll); it must not block on whoever drops the executor.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(wake: impl Fn() + Send + 'static) -> io::Result<Executor> {
        Executor::spawn_with(Passes::new, wake)
    }

    /// The same with other hands. They are made on the thread.
    fn spawn_with<H: Hands>(
        hands: impl FnOnce() -> H + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Executor> {
        let changed = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let (fitting, _) = watch::channel(Fitting::default());
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            fitting,
            changed,
        });
        let thread = std::thread::Builder::new()
            .name("overlay-host".into())
            .spawn({
                let shared = shared.clone();
                move || Work::new(hands(), &shared, &wake).run()
            })?;
        Ok(Executor {
            shared,
            thread: Some(thread),
        })
    }

    /// Wants the host to be like `desired`. Returns at once; a newer one replaces
    /// one that still waits, which then gets no report.
    pub fn apply(&self, generation: u64, desired: Arc<Desired>) {
        self.shared.state.lock().waiting = Some((generation, desired));
        self.shared.wake();
    }

    /// The report of the last finished pass, once. After the first report of a
    /// generation there are more of it: whenever a repair ends otherwise than the
    /// pass before.
    pub fn poll(&self) -> Option<HostReport> {
        self.shared.state.lock().done.take()
    }

    /// What fits into the underlay, and news of it. It is known after the first pass.
    pub fn fitting(&self) -> watch::Receiver<Fitting> {
        self.shared.fitting.subscribe()
    }

    /// What it did so far.
    pub fn counters(&self) -> Counters {
        self.shared.state.lock().counters
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.shared.state.lock().stop = true;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked, other than in `wake`.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        // It can only fail if it is readable 2^64 times already.
        let _ = self.changed.write(1);
    }
}

/// The thread's side.
struct Work<'a, H> {
    hands: H,
    shared: &'a Shared,
    wake: &'a dyn Fn(),
    pace: Pace,
    origin: Instant,
    throttle: Throttle,
    /// What the host is to be like, and how the last pass ended.
    kept: Option<(Arc<Desired>, HostReport)>,
}

impl<'a, H: Hands> Work<'a, H> {
    fn new(hands: H, shared: &'a Shared, wake: &'a dyn Fn()) -> Work<'a, H> {
        let mut pace = Pace::new(fastrand::u64(..));
        pace.set_blind(hands.is_blind());
        let origin = Instant::now();
        Work {
            hands,
            shared,
            wake,
            pace,
            origin,
            throttle: Throttle::default(),
            kept: None,
        }
    }

    fn now(&self) -> Time {
        Time(self.origin.elapsed())
    }

    fn run(mut self) {
        loop {
            let (stop, waiting) = {
                let mut state = self.shared.state.lock();
                let _ = self.shared.changed.read();
                (state.stop, state.waiting.take())
            };
            match waiting {
                _ if stop => return,
                Some((generation, desired)) => self.apply(generation, desired),
                None => self.keep(),
            }
        }
    }

    /// Does what was ordered.
    fn apply(&mut self, generation: u64, desired: Arc<Desired>) {
        let report = self
            .change_peers(&desired)
            .unwrap_or_else(|| self.pass(&desired));
        let report = HostReport {
            generation,
            ..report
        };
        self.report(&report);
        self.kept = Some((desired, report));
    }

    /// The short way, for the change that comes most often in a large cluster: some
    /// peers more or less. It goes only from a host that was right, and of which the
    /// kernel has told nothing else since; and the next pass compares everything.
    fn change_peers(&mut self, desired: &Desired) -> Option<HostReport> {
        let (before, report) = self.kept.as_ref()?;
        if !report.overlays.is_empty() || !report.draining.is_empty() || self.pace.is_alarmed() {
            return None;
        }
        let (hands, changed) = (&mut self.hands, self.shared.changed.as_fd());
        // Whatever the fault is: the pass that follows reports it.
        catch(|| match hands.wait(changed, Duration::ZERO, false) {
            Ok(Meaning::Nothing) => hands.change_peers(before, desired),
            _ => None,
        })
        .ok()?
    }

    /// Waits for news, and keeps the host as it was made.
    fn keep(&mut self) {
        let timeout = match self.kept {
            Some(_) => self.pace.next().since(self.now()),
            None => Duration::MAX,
        };
        let deaf = self.kept.is_none() || self.pace.is_alarmed();
        let (hands, changed) = (&mut self.hands, self.shared.changed.as_fd());
        let meaning = catch(|| hands.wait(changed, timeout, deaf));
        let meaning = match meaning {
            Ok(Ok(meaning)) => meaning,
            failed => {
                let reason = match failed {
                    Err(panic) => format!("a fault in this module: {panic}"),
                    Ok(result) => result.map_or_else(|error| error.to_string(), |_| String::new()),
                };
                if self.throttle.allow(self.now(), "wait").is_some() {
                    log::error!("cannot wait for changes of the host: {reason}");
                }
                // Not in a circle.
                std::thread::sleep(Duration::from_millis(100));
                Meaning::Pass
            }
        };
        let now = self.now();
        self.pace.noticed(now, meaning);
        let Some((desired, report)) = self.kept.take() else {
            return;
        };
        let report = match self.pace.due(now) {
            Due::Nothing => report,
            Due::Repair | Due::Compare => self.repair(&desired, report),
            Due::Look if self.look(&desired) => self.repair(&desired, report),
            Due::Look => {
                self.pace.looked(self.now());
                report
            }
        };
        self.kept = Some((desired, report));
    }

    fn look(&mut self, desired: &Desired) -> bool {
        let hands = &mut self.hands;
        // Whatever the fault is: a pass reports it.
        catch(|| hands.look(desired)).unwrap_or(true)
    }

    /// Makes the host right again. Reports only if it ends otherwise than before:
    /// nobody asked.
    fn repair(&mut self, desired: &Desired, before: HostReport) -> HostReport {
        let start = Instant::now();
        let report = HostReport {
            generation: before.generation,
            ..self.pass(desired)
        };
        if report.operations > 0 {
            self.count(|counters| {
                counters.repairs += 1;
                counters.repair_operations += report.operations as u64;
            });
            let line = || {
                let (operations, took) = (report.operations, start.elapsed());
                format!(
                    "somebody changed this host; it took {operations} operations in {took:.0?} to repair it"
                )
            };
            if let Some(line) = self.throttle.line(self.now(), "repair", line) {
                log::warn!("{line}");
            }
        }
        if !report.says_the_same_as(&before) {
            self.report(&report);
        }
        report
    }

    fn pass(&mut self, desired: &Desired) -> HostReport {
        let (start, hands) = (Instant::now(), &mut self.hands);
        let report = guarded(desired, || hands.pass(desired));
        let now = self.now();
        self.pace.passed(now, start.elapsed());
        let fitting = match self.hands.fitting() {
            // The first pass did not come so far.
            Fitting::Unmeasured => Fitting::Unknown,
            fitting => fitting,
        };
        self.shared
            .fitting
            .send_if_modified(|before| std::mem::replace(before, fitting) != fitting);
        self.count(|counters| counters.passes += 1);
        report
    }

    fn count(&self, add: impl FnOnce(&mut Counters)) {
        add(&mut self.shared.state.lock().counters);
    }

    fn report(&self, report: &HostReport) {
        self.shared.state.lock().done = Some(report.clone());
        (self.wake)();
    }
}

/// Runs a pass; a panic becomes a report, and the thread lives on.
fn guarded(desired: &Desired, pass: impl FnOnce() -> HostReport) -> HostReport {
    // A pass leaves nothing half-done in memory that the next one would see: it
    // reads everything anew.
    catch(pass).unwrap_or_else(|panic| {
        let sentence = format!("configuring the host failed by a fault in this module: {panic}");
        log::error!("{sentence}");
        HostReport::hopeless(desired, sentence)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;
    use crate::kernel::watch::Watch;
    use crate::reconcile::Watched;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Hands that only do what they are told, and hear what the test says.
    struct Told<P> {
        pass: P,
        news: Watch,
    }

    impl<P: FnMut(&Desired) -> HostReport> Hands for Told<P> {
        fn pass(&mut self, desired: &Desired) -> HostReport {
            (self.pass)(desired)
        }

        fn change_peers(&mut self, _: &Desired, _: &Desired) -> Option<HostReport> {
            None
        }

        fn look(&mut self, _: &Desired) -> bool {
            false
        }

        fn wait(
            &mut self,
            wakeup: BorrowedFd<'_>,
            timeout: Duration,
            deaf: bool,
        ) -> io::Result<Meaning> {
            self.news.wait(wakeup, timeout, &Watched::default(), deaf)
        }

        fn is_blind(&self) -> bool {
            false
        }

        fn fitting(&self) -> Fitting {
            Fitting::Unmeasured
        }
    }

    fn executor(
        pass: impl FnMut(&Desired) -> HostReport + Send + 'static,
    ) -> (Executor, Receiver<()>) {
        let (wake, woken) = channel();
        let hands = || Told {
            pass,
            news: Watch::silent(),
        };
        (
            Executor::spawn_with(hands, move || wake.send(()).unwrap()).unwrap(),
            woken,
        )
    }

    #[test]
    fn reports_what_became_of_a_generation_once() {
        let (executor, woken) = executor(|_| HostReport {
            operations: 7,
            ..HostReport::default()
        });
        assert_eq!(executor.poll(), None);
        executor.apply(3, Arc::default());
        woken.recv_timeout(PATIENCE).unwrap();
        assert_eq!(
            executor.poll(),
            Some(HostReport {
                generation: 3,
                operations: 7,
                ..HostReport::default()
            })
        );
        assert_eq!(executor.poll(), None);
    }

    #[test]
    fn a_newer_one_replaces_the_one_that_waits() {
        let (go, gate) = channel::<()>();
        let (executor, woken) = executor(move |_| {
            gate.recv_timeout(PATIENCE).unwrap();
            HostReport::default()
        });
        let mut done = Vec::new();
        executor.apply(1, Arc::default());
        // The first one is under way as soon as it does not wait any more.
        while executor.shared.state.lock().waiting.is_some() {
            std::thread::yield_now();
        }
        for generation in 2..=4 {
            executor.apply(generation, Arc::default());
        }
        for _ in 0..2 {
            go.send(()).unwrap();
            woken.recv_timeout(PATIENCE).unwrap();
            done.extend(executor.poll().map(|report| report.generation));
        }
        assert_eq!(done, [1, 4]);
    }

    #[test]
    fn survives_a_panic_and_reports_it() {
        let mut passes = 0;
        let line = line!() + 3;
        let (executor, woken) = executor(move |_| {
            passes += 1;
            assert!(passes > 1, "on purpose");
            HostReport::default()
        });
        let overlays = [("dcos".to_owned(), Default::default())].into();
        executor.apply(
            1,
            Arc::new(Desired {
                overlays,
                ..Desired::default()
            }),
        );
        woken.recv_timeout(PATIENCE).unwrap();
        let report = executor.poll().unwrap();
        assert_eq!(report.generation, 1);
        let [sentence] = &report.host[..] else {
            panic!("{report:?}")
        };
        let place = format!(
            "configuring the host failed by a fault in this module: panicked at {}:{line}:",
            file!()
        );
        assert!(
            sentence.starts_with(&place) && sentence.ends_with(": on purpose"),
            "{sentence}"
        );
        assert_eq!(report.overlays["dcos"], report.host[0]);
        executor.apply(2, Arc::default());
        woken.recv_timeout(PATIENCE).unwrap();
        assert!(executor.poll().unwrap().is_ok());
    }

    #[test]
    fn dropping_waits_for_the_pass_under_way() {
        let (began, beginning) = channel();
        let (go, gate) = channel::<()>();
        let (executor, woken) = executor(move |_| {
            began.send(()).unwrap();
            gate.recv_timeout(PATIENCE).unwrap();
            HostReport::default()
        });
        executor.apply(1, Arc::default());
        beginning.recv_timeout(PATIENCE).unwrap();
        let dropping = std::thread::spawn(move || drop(executor));
        go.send(()).unwrap();
        dropping.join().unwrap();
        // One wake for the pass; then the sender is gone with the thread.
        woken.recv_timeout(PATIENCE).unwrap();
        assert!(
            woken
                .recv_timeout(PATIENCE)
                .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Disconnected)
        );
    }

    /// What a test makes of the host, and of what happened to it.
    #[derive(Default)]
    struct Script {
        /// What `wait` hears, in order.
        news: VecDeque<Result<Meaning, ()>>,
        /// What was done, in order.
        done: Vec<&'static str>,
        report: HostReport,
        few: Option<HostReport>,
        look: Option<bool>,
        fitting: Fitting,
        /// Of the last wait: how long, and whether for orders only.
        waits: Vec<(Duration, bool)>,
    }

    /// Hands that do what the script says, and write down what they did.
    struct Scripted {
        script: Arc<Mutex<Script>>,
        quiet: Watch,
        blind: bool,
    }

    impl Hands for Scripted {
        fn pass(&mut self, _: &Desired) -> HostReport {
            let mut script = self.script.lock();
            script.done.push("pass");
            script.report.clone()
        }

        fn change_peers(&mut self, _: &Desired, _: &Desired) -> Option<HostReport> {
            let mut script = self.script.lock();
            script.done.push("few");
            script.few.clone()
        }

        fn look(&mut self, _: &Desired) -> bool {
            let mut script = self.script.lock();
            script.done.push("look");
            script.look.expect("on purpose")
        }

        fn wait(
            &mut self,
            wakeup: BorrowedFd<'_>,
            timeout: Duration,
            deaf: bool,
        ) -> io::Result<Meaning> {
            let news = {
                let mut script = self.script.lock();
                script.waits.push((timeout, deaf));
                if deaf { None } else { script.news.pop_front() }
            };
            match news {
                Some(news) => news.map_err(|()| io::Error::other("on purpose")),
                None => self.quiet.wait(wakeup, timeout, &Watched::default(), deaf),
            }
        }

        fn is_blind(&self) -> bool {
            self.blind
        }

        fn fitting(&self) -> Fitting {
            self.script.lock().fitting
        }
    }

    /// An executor with a script, and the script.
    struct Stage {
        executor: Executor,
        woken: Receiver<()>,
        script: Arc<Mutex<Script>>,
    }

    impl Stage {
        fn new(blind: bool) -> Stage {
            let (wake, woken) = channel();
            let script = Arc::new(Mutex::new(Script {
                look: Some(false),
                ..Script::default()
            }));
            let hands = {
                let script = script.clone();
                move || Scripted {
                    script,
                    quiet: Watch::silent(),
                    blind,
                }
            };
            let executor = Executor::spawn_with(hands, move || wake.send(()).unwrap()).unwrap();
            Stage {
                executor,
                woken,
                script,
            }
        }

        /// Wants something, and gives the report about it.
        fn apply(&self, generation: u64) -> HostReport {
            self.executor.apply(generation, Arc::default());
            self.report()
        }

        fn report(&self) -> HostReport {
            self.woken.recv_timeout(PATIENCE).expect("no report");
            self.executor.poll().unwrap()
        }

        /// Lets it hear something.
        fn hear(&self, news: Result<Meaning, ()>) {
            self.script.lock().news.push_back(news);
            self.executor.shared.wake();
        }

        /// Waits until it waits for news.
        fn waits(&self) {
            let deadline = Instant::now() + PATIENCE;
            while !matches!(self.script.lock().waits.last(), Some((_, false))) {
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
        }

        /// What was done since it was asked last.
        fn done(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.script.lock().done)
        }

        /// Waits until so much was done, and gives it.
        fn until(&self, what: &[&'static str]) {
            let deadline = Instant::now() + PATIENCE;
            while self.script.lock().done.len() < what.len() {
                assert!(Instant::now() < deadline, "only {:?}", self.done());
                std::thread::yield_now();
            }
            assert_eq!(self.done(), what);
        }
    }

    fn failed() -> HostReport {
        HostReport {
            host: vec!["on purpose".into()],
            ..HostReport::default()
        }
    }

    #[test]
    fn a_few_peers_take_the_short_way_from_a_host_that_is_right() {
        let stage = Stage::new(false);
        stage.script.lock().few = Some(HostReport {
            operations: 6,
            ..HostReport::default()
        });
        assert_eq!(stage.apply(1).operations, 0);
        assert_eq!(stage.done(), ["pass"], "the first time nothing is known");
        let report = HostReport {
            generation: 2,
            operations: 6,
            ..HostReport::default()
        };
        assert_eq!(stage.apply(2), report);
        assert_eq!(stage.done(), ["few"]);
        assert_eq!(stage.executor.counters().passes, 1);
        // Where it does not lead there, a pass does.
        stage.script.lock().few = None;
        assert_eq!(stage.apply(3).generation, 3);
        assert_eq!(stage.done(), ["few", "pass"]);
    }

    #[test]
    fn the_short_way_begins_at_a_host_of_which_all_is_known() {
        let overlays = [("dcos".to_owned(), "on purpose".to_owned())].into();
        for (before, short) in [
            (
                HostReport {
                    overlays,
                    ..HostReport::default()
                },
                false,
            ),
            (
                HostReport {
                    draining: vec!["on purpose".into()],
                    ..HostReport::default()
                },
                false,
            ),
            // Peers that the kernel refused; the hands know which.
            (failed(), true),
        ] {
            let stage = Stage::new(false);
            stage.script.lock().report = before.clone();
            stage.script.lock().few = Some(HostReport::default());
            stage.apply(1);
            stage.done();
            stage.apply(2);
            assert_eq!(
                stage.done(),
                if short { ["few"] } else { ["pass"] },
                "{before:?}"
            );
        }
    }

    /// What was heard since may be about anything.
    #[test]
    fn news_of_any_kind_make_a_pass_of_the_short_way() {
        for (news, done) in [
            (Ok(Meaning::Nothing), "few"),
            (Ok(Meaning::Look), "pass"),
            (Ok(Meaning::Pass), "pass"),
            (Err(()), "pass"),
        ] {
            let stage = Stage::new(false);
            stage.script.lock().few = Some(HostReport::default());
            stage.apply(1);
            stage.done();
            // It waits, and both come at once: the order is taken before the news are.
            stage.waits();
            let mut state = stage.executor.shared.state.lock();
            state.waiting = Some((2, Arc::default()));
            stage.script.lock().news.push_back(news);
            stage.executor.shared.wake();
            drop(state);
            stage.report();
            assert_eq!(stage.done(), [done], "{news:?}");
        }
    }

    /// As long as a pass is due the host is not right, whatever the last one found.
    #[test]
    fn a_pass_that_is_due_makes_one_of_the_short_way() {
        let (wake, script) = (|| {}, Arc::new(Mutex::new(Script::default())));
        let (fitting, _) = watch::channel(Fitting::default());
        let shared = Shared {
            state: Mutex::default(),
            fitting,
            changed: EventFd::new().unwrap(),
        };
        shared.wake();
        let hands = Scripted {
            script: script.clone(),
            quiet: Watch::silent(),
            blind: false,
        };
        let mut work = Work::new(hands, &shared, &wake);
        script.lock().few = Some(HostReport::default());
        work.apply(1, Arc::default());
        work.apply(2, Arc::default());
        work.pace.noticed(work.now(), Meaning::Pass);
        work.apply(3, Arc::default());
        work.apply(4, Arc::default());
        assert_eq!(script.lock().done, ["pass", "few", "pass", "few"]);
    }

    #[test]
    fn what_somebody_changed_is_repaired_and_counted_and_told_if_it_ends_otherwise() {
        let stage = Stage::new(false);
        stage.apply(7);
        stage.script.lock().report.operations = 3;
        stage.done();
        stage.hear(Ok(Meaning::Pass));
        stage.until(&["pass"]);
        let so_far = |passes, repairs, repair_operations| Counters {
            passes,
            repairs,
            repair_operations,
        };
        let counted = |counters| {
            let deadline = Instant::now() + PATIENCE;
            while stage.executor.counters() != counters {
                assert!(Instant::now() < deadline, "{:?}", stage.executor.counters());
                std::thread::yield_now();
            }
        };
        counted(so_far(2, 1, 3));
        assert_eq!(stage.executor.poll(), None, "it is as it was before");
        // Another end is told, under the same generation, and then no more.
        stage.script.lock().report = HostReport {
            operations: 2,
            ..failed()
        };
        stage.hear(Ok(Meaning::Pass));
        assert_eq!(
            stage.report(),
            HostReport {
                generation: 7,
                operations: 2,
                ..failed()
            }
        );
        counted(so_far(3, 2, 5));
        // What was right already is a pass, and no repair.
        stage.script.lock().report = failed();
        stage.done();
        stage.hear(Ok(Meaning::Pass));
        stage.until(&["pass"]);
        counted(so_far(4, 2, 5));
        stage.script.lock().report = HostReport::default();
        stage.hear(Ok(Meaning::Pass));
        assert_eq!(
            stage.report(),
            HostReport {
                generation: 7,
                ..HostReport::default()
            }
        );
        assert!(stage.woken.try_recv().is_err());
    }

    /// A look that finds something is followed by a pass, one that panics as well.
    #[test]
    fn a_look_leads_to_a_pass_only_if_it_finds_something() {
        for (found, done) in [
            (Some(false), &["look", "look"][..]),
            (Some(true), &["look", "pass"]),
            (None, &["look", "pass"]),
        ] {
            let stage = Stage::new(false);
            stage.apply(1);
            stage.script.lock().look = found;
            stage.done();
            stage.hear(Ok(Meaning::Look));
            stage.until(done);
        }
    }

    /// Who cannot wait for news may have missed some.
    #[test]
    fn a_wait_that_fails_is_followed_by_a_pass() {
        let stage = Stage::new(false);
        stage.apply(1);
        stage.done();
        stage.hear(Err(()));
        stage.until(&["pass"]);
    }

    #[test]
    fn nothing_is_heard_before_the_first_order_and_while_a_pass_is_due() {
        let stage = Stage::new(false);
        let deadline = Instant::now() + PATIENCE;
        while stage.script.lock().waits.is_empty() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert_eq!(stage.script.lock().waits[..], [(Duration::MAX, true)]);
        stage.apply(1);
        stage.hear(Ok(Meaning::Pass));
        stage.script.lock().done.clear();
        stage.until(&["pass"]);
        let waits = std::mem::take(&mut stage.script.lock().waits);
        let deaf: Vec<bool> = waits.iter().map(|(_, deaf)| *deaf).collect();
        let heard = deaf.iter().position(|deaf| !deaf).unwrap();
        assert!(
            deaf[heard..].contains(&true),
            "not deaf before the pass: {waits:?}"
        );
        assert!(
            waits[heard..]
                .iter()
                .all(|(timeout, _)| *timeout <= Duration::from_millis(1500)),
            "{waits:?}"
        );
    }

    /// A host whose events cannot be had is compared about once a second.
    #[test]
    fn a_blind_executor_compares_again_and_again() {
        let stage = Stage::new(true);
        stage.apply(1);
        stage.done();
        let deadline = Instant::now() + PATIENCE;
        while !stage.script.lock().done.contains(&"pass") {
            assert!(Instant::now() < deadline, "{:?}", stage.done());
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_fits_is_told_with_each_pass_that_finds_something_else() {
        let stage = Stage::new(false);
        let mut fitting = stage.executor.fitting();
        assert_eq!(*fitting.borrow_and_update(), Fitting::Unmeasured);
        // The first pass did not get so far, which whoever waits for it has to know.
        stage.apply(1);
        assert!(fitting.has_changed().unwrap());
        assert_eq!(*fitting.borrow_and_update(), Fitting::Unknown);
        for (n, bytes) in [(2, 1450), (3, 1350)] {
            stage.script.lock().fitting = Fitting::Bytes(bytes);
            stage.apply(n);
            assert!(fitting.has_changed().unwrap());
            assert_eq!(*fitting.borrow_and_update(), Fitting::Bytes(bytes));
        }
        stage.apply(4);
        assert!(!fitting.has_changed().unwrap(), "it is the same");
    }
}
