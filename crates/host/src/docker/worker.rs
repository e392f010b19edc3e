//! The thread that keeps the engine's networks as they are wanted.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use overlay_core::EngineReport;
use overlay_core::host_api::engine::EngineDesired;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::Instant;

use super::client::{Client, Event};
use super::flap_damping::Quarrel;
use super::pass;
use super::pass::Outcome;
use crate::executor::UnderlayMtu;
use crate::panics::catch_async;

/// How often the engine is looked at when nothing is heard of it, give or take a
/// quarter. It also keeps the numbers of addresses in use fresh.
const PERIOD: Duration = Duration::from_secs(10);

/// How long news of networks are gathered: removals and creations come in flocks.
const GATHER: Duration = Duration::from_millis(100);

/// The same for containers that come and go: they change numbers only.
const GATHER_ENDPOINTS: Duration = Duration::from_secs(1);

/// How long a connection for events must have lasted for its end to be news at once.
const STEADY: Duration = Duration::from_secs(1);

/// How often the place of an engine that is away is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A thread that takes an [`EngineDesired`], compares it with what the engine has,
/// and carries out the difference; and that does so again when the engine says that
/// networks came or went, when it comes back or answers again, when another MTU fits
/// into the underlay, and every few seconds. Once nothing is wanted of it and nothing
/// of ours is left in it, the engine is not spoken to any more.
///
/// Dropping it gives up a call that is under way; after that `wake` is not called
/// any more.
pub struct Worker {
    work: Option<UnboundedSender<(u64, Arc<EngineDesired>)>>,
    report: Arc<Mutex<Option<EngineReport>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread. `wake` is called from it whenever there is a report to
    /// [`poll`](Worker::poll); it must not block on whoever drops the worker.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(wake: impl Fn() + Send + 'static) -> io::Result<Worker> {
        Worker::spawn_fitting(watch::channel(UnderlayMtu::Unknown).1, wake)
    }

    /// The same where MTUs may have to be fitted to the underlay: `fitting` tells what
    /// fits. As long as that is not measured, nothing is done that depends on it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn_fitting(
        fitting: watch::Receiver<UnderlayMtu>,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Worker> {
        let (work, waiting) = unbounded_channel();
        let report = Arc::new(Mutex::new(None));
        let told = report.clone();
        let tell = move |report| {
            *told.lock() = Some(report);
            wake();
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("overlay-engine".into())
            .spawn(move || {
                runtime.block_on(Task::new(waiting, fitting, tell).run());
            })?;
        Ok(Worker {
            work: Some(work),
            report,
            thread: Some(thread),
        })
    }

    /// Wants the engine's networks to be like `desired`. Returns at once; a newer one
    /// replaces one that still waits, which then gets no report. Each report that is
    /// another one than the last is given under the same `generation`.
    pub fn apply(&self, generation: u64, desired: Arc<EngineDesired>) {
        if let Some(work) = &self.work {
            // It fails when the thread is gone, which it is with this worker only.
            let _ = work.send((generation, desired));
        }
    }

    /// The last report, once.
    pub fn poll(&self) -> Option<EngineReport> {
        self.report.lock().take()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // The end of the channel ends the thread.
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// What the thread does.
struct Task<T> {
    waiting: UnboundedReceiver<(u64, Arc<EngineDesired>)>,
    fitting: watch::Receiver<UnderlayMtu>,
    tell: T,
    work: Option<(u64, Arc<EngineDesired>)>,
    /// What was told last, under the present generation.
    told: Option<EngineReport>,
    /// `None`: the engine is away, or there is nothing to hear.
    events: Option<Events>,
    /// Since when `events` is there.
    listening: Instant,
    /// A question to an engine that did not answer the last ones.
    question: Option<BoxFuture<'static, ()>>,
    /// How often in a row it was answered, and then the engine was silent all the same.
    deceived: u32,
    /// Which file the engine's socket was at the last pass.
    place: Option<Place>,
    /// When the next pass is due; `None`: only when there is news.
    due: Option<Instant>,
    quarrel: Quarrel,
    random: fastrand::Rng,
}

/// Tells a socket from one that another engine, or the same one started anew, has
/// put in its place.
type Place = (u64, u64, i64, i64);

/// What ends the wait for the next pass.
enum News {
    Work((u64, Arc<EngineDesired>)),
    Event(Option<Event>),
    /// An engine that did not answer does.
    Answer,
    /// Another MTU fits into the underlay.
    UnderlayMtu,
    Time,
    Stop,
}

impl<T: Fn(EngineReport)> Task<T> {
    fn new(
        waiting: UnboundedReceiver<(u64, Arc<EngineDesired>)>,
        fitting: watch::Receiver<UnderlayMtu>,
        tell: T,
    ) -> Task<T> {
        Task {
            waiting,
            fitting,
            tell,
            work: None,
            told: None,
            events: None,
            listening: Instant::now(),
            question: None,
            deceived: 0,
            place: None,
            due: None,
            quarrel: Quarrel::default(),
            random: fastrand::Rng::new(),
        }
    }

    /// Works until nobody wants anything any more.
    async fn run(mut self) {
        loop {
            let news = self.news().await;
            let answered = matches!(news, News::Answer);
            match news {
                News::Stop => return,
                News::Work(work) => self.take(work),
                News::Event(Some(Event::Network)) => self.due_in(GATHER),
                News::Event(Some(Event::Endpoint)) => self.due_in(GATHER_ENDPOINTS),
                News::Event(None) => {
                    self.events = None;
                    let steady = self.listening.elapsed() >= STEADY;
                    self.due_in(if steady { GATHER } else { STEADY });
                }
                News::Answer | News::UnderlayMtu => self.due_in(Duration::ZERO),
                News::Time => {}
            }
            let due = self.due.is_some_and(|due| due <= Instant::now()) || self.is_elsewhere();
            if due && self.is_measured() && self.pass(answered).await.is_none() {
                return;
            }
        }
    }

    fn take(&mut self, work: (u64, Arc<EngineDesired>)) {
        self.work = Some(work);
        self.told = None;
        self.due = Some(Instant::now());
    }

    fn due_in(&mut self, time: Duration) {
        let due = Instant::now() + time;
        let due = self.due.map_or(due, |before| before.min(due));
        self.due = Some(self.quarrel.rest_until().map_or(due, |rest| rest.max(due)));
    }

    async fn news(&mut self) -> News {
        let away = self.work.as_ref().filter(|_| self.events.is_none());
        // Where nothing is wanted there is no hurry.
        let look = away.map(|(_, desired)| {
            if desired.networks.is_empty() {
                PERIOD
            } else {
                LOOK
            }
        });
        // What is due and has to wait for something else does not wake anybody.
        let due = self.due.filter(|_| self.is_measured());
        let wake = [due, look.map(|look| Instant::now() + look)]
            .into_iter()
            .flatten()
            .min();
        let event = async {
            match &mut self.events {
                Some(events) => events.next().await,
                None => std::future::pending().await,
            }
        };
        let answer = async {
            match &mut self.question {
                Some(question) => question.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            work = self.waiting.recv() => work.map_or(News::Stop, News::Work),
            event = event => News::Event(event),
            () = answer => News::Answer,
            Ok(()) = self.fitting.changed() => News::UnderlayMtu,
            () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => News::Time,
        }
    }

    /// Whether everything is known that the next pass needs.
    fn is_measured(&self) -> bool {
        let fits = self
            .work
            .as_ref()
            .is_some_and(|(_, desired)| desired.fit_mtu);
        // Whoever was to measure may be gone.
        !fits
            || *self.fitting.borrow() != UnderlayMtu::Unmeasured
            || self.fitting.has_changed().is_err()
    }

    /// Whether an engine that was away may be back: its socket is another one.
    fn is_elsewhere(&self) -> bool {
        let Some((_, desired)) = self.work.as_ref().filter(|_| self.events.is_none()) else {
            return false;
        };
        let now = place(&desired.socket);
        now.is_some() && now != self.place
    }

    /// One pass with the latest work; `None`: nobody wants anything any more.
    /// `answered`: an engine that did not answer seems to be back.
    async fn pass(&mut self, answered: bool) -> Option<()> {
        // What happens from here on is heard of, also that which happens before the
        // engine is asked.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        self.question = None;
        let (generation, desired, outcome) = loop {
            let (generation, desired) = self.work.clone()?;
            let desired = Arc::new(desired.fitted(match *self.fitting.borrow_and_update() {
                UnderlayMtu::Bytes(bytes) => Some(bytes),
                UnderlayMtu::Unmeasured | UnderlayMtu::Unknown => None,
            }));
            self.place = place(&desired.socket);
            let pass = catch_async(pass::run(&desired));
            tokio::select! {
                biased;
                // A pass that is under way is of no use to anybody any more.
                work = self.waiting.recv() => self.take(work?),
                outcome = pass => {
                    let outcome = outcome.unwrap_or_else(|panic| {
                        let sentence = format!("a fault in this module: {panic}");
                        log::error!("the container engine's networks: {sentence}");
                        Outcome::hopeless(&desired, sentence)
                    });
                    break (generation, desired, outcome);
                }
            }
        };
        let mut report = EngineReport {
            generation,
            ..outcome.report
        };
        self.watch_quarrel(outcome.made, &mut report);
        // An engine that cannot be talked to is tried again when whoever wants
        // something says so, when there is another one, or when it answers.
        self.deceived = if !outcome.silent {
            0
        } else {
            self.deceived + u32::from(answered)
        };
        self.question = outcome.silent.then(|| ask(desired.clone(), self.deceived));
        let done = desired.networks.is_empty() && report.notes.is_empty();
        self.listen(&desired, done || report.engine.is_some(), since);
        self.due = None;
        if report.engine.is_none() && !done {
            let jitter = 0.75 + self.random.f64() / 2.0;
            self.due_in(PERIOD.mul_f64(jitter));
        }
        self.report(report);
        Some(())
    }

    /// What was made unasked was there before: somebody removed it.
    fn watch_quarrel(&mut self, made: Vec<String>, report: &mut EngineReport) {
        let now = Instant::now();
        if self.told.is_some() && !made.is_empty() {
            self.quarrel.repaired(now, made);
        }
        self.quarrel.settle(now);
        report.notes.extend(self.quarrel.sentence());
    }

    /// Makes sure that the engine's events are heard, unless there is `nothing` to hear.
    fn listen(&mut self, desired: &EngineDesired, nothing: bool, since: u64) {
        if nothing {
            self.events = None;
        } else if self.events.is_none() {
            let client = Client::new(&desired.socket, desired.timeout);
            self.events = client.ok().map(|client| client.events(since).boxed());
            self.listening = Instant::now();
        }
    }

    /// Tells what is news.
    fn report(&mut self, report: EngineReport) {
        let same = |told: &EngineReport| {
            EngineReport {
                operations: told.operations,
                ..report.clone()
            } == *told
        };
        if !self.told.as_ref().is_some_and(same) {
            self.told = Some(report.clone());
            (self.tell)(report);
        }
    }
}

/// Ends when an engine that did not answer does. One that answers this and nothing else
/// is asked less and less often.
fn ask(desired: Arc<EngineDesired>, deceived: u32) -> BoxFuture<'static, ()> {
    let pause = match deceived {
        0 => Duration::ZERO,
        _ => Duration::from_secs(1 << deceived.min(6)),
    };
    async move {
        tokio::time::sleep(pause).await;
        pass::until_it_answers(desired).await;
    }
    .boxed()
}

fn place(socket: &Path) -> Option<Place> {
    let file = std::fs::metadata(socket).ok()?;
    Some((file.dev(), file.ino(), file.ctime(), file.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use overlay_core::host_api::engine::Network;

    /// Runs something with a task that nobody gave anything to do, and what it told.
    fn with_task(
        test: impl AsyncFnOnce(&mut Task<&dyn Fn(EngineReport)>, &RefCell<Vec<EngineReport>>),
    ) {
        let told = RefCell::new(Vec::new());
        let tell = |report| told.borrow_mut().push(report);
        let (_work, waiting) = unbounded_channel();
        let fitting = watch::channel(UnderlayMtu::Unknown).1;
        let mut task = Task::new(waiting, fitting, &tell as &dyn Fn(EngineReport));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test(&mut task, &told));
    }

    fn desired(socket: &Path) -> Arc<EngineDesired> {
        let networks = [("dcos".to_owned(), Network::default())].into();
        let timeout = Duration::from_millis(50);
        Arc::new(EngineDesired {
            socket: socket.into(),
            timeout,
            networks,
            fit_mtu: false,
        })
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn news_bring_the_next_pass_forward_and_never_put_it_off() {
        with_task(async |task, _| {
            let start = Instant::now();
            task.due_in(Duration::from_secs(60));
            let due = task.due.unwrap();
            assert!(due >= start + Duration::from_secs(60));
            task.due_in(HOUR);
            assert_eq!(task.due, Some(due));
            task.due_in(Duration::ZERO);
            assert!(task.due.unwrap() < due);
        });
    }

    #[test]
    fn in_a_quarrel_news_have_to_wait() {
        with_task(async |task, _| {
            let now = Instant::now() + HOUR;
            for _ in 0..6 {
                task.quarrel.repaired(now, vec!["dcos".into()]);
            }
            let rest = task.quarrel.rest_until().unwrap();
            task.due_in(Duration::ZERO);
            assert_eq!(task.due, Some(rest));
            // Whoever wants something does not wait.
            task.take((1, desired(Path::new("/no/such"))));
            assert!(task.due.unwrap() < rest);
        });
    }

    /// Networks that are made because somebody wants them were not taken from us.
    #[test]
    fn only_what_is_made_unasked_is_a_quarrel() {
        with_task(async |task, _| {
            let mut report = EngineReport::default();
            for _ in 0..20 {
                task.take((1, desired(Path::new("/no/such"))));
                task.watch_quarrel(vec!["dcos".into()], &mut report);
            }
            assert!(task.quarrel.rest_until().is_none() && report.notes.is_empty());
            task.told = Some(EngineReport::default());
            for n in 1..=6 {
                task.watch_quarrel(Vec::new(), &mut report);
                task.watch_quarrel(vec!["dcos".into()], &mut report);
                assert_eq!(task.quarrel.rest_until().is_some(), n == 6);
            }
            assert_eq!(report.notes.len(), 1);
        });
    }

    #[test]
    fn each_order_is_answered_and_after_that_only_news_are_told() {
        with_task(async |task, told| {
            let report = |operations, note: &str| EngineReport {
                operations,
                notes: vec![note.to_owned()],
                ..EngineReport::default()
            };
            for generation in 1..=2 {
                task.take((generation, desired(Path::new("/no/such"))));
                task.report(report(1, "same"));
                task.report(report(0, "same"));
                task.report(report(7, "same"));
            }
            task.report(report(0, "other"));
            let all: Vec<EngineReport> = told.take();
            assert_eq!(
                all,
                [report(1, "same"), report(1, "same"), report(0, "other")]
            );
        });
    }

    #[test]
    fn only_who_has_to_fit_waits_for_the_measure() {
        with_task(async |task, _| {
            let (measure, fitting) = watch::channel(UnderlayMtu::Unmeasured);
            task.fitting = fitting;
            assert!(task.is_measured(), "nobody wants anything");
            let plain = desired(Path::new("/no/such"));
            task.take((1, plain.clone()));
            assert!(task.is_measured());
            task.take((
                2,
                Arc::new(EngineDesired {
                    fit_mtu: true,
                    ..EngineDesired::clone(&plain)
                }),
            ));
            assert!(!task.is_measured());
            measure.send(UnderlayMtu::Unknown).unwrap();
            assert!(task.is_measured());
            measure.send(UnderlayMtu::Unmeasured).unwrap();
            assert!(!task.is_measured());
            drop(measure);
            assert!(task.is_measured(), "whoever was to measure is gone");
        });
    }

    /// An engine that is away is not asked, its place is looked at; a silent one is asked
    /// one question after the other.
    #[test]
    fn an_absent_engine_is_found_by_its_socket_and_a_silent_one_by_its_answer() {
        with_task(async |task, told| {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("docker.sock");
            task.take((1, desired(&socket)));
            task.pass(false).await.unwrap();
            assert!(told.take()[0].engine.is_some());
            assert!(task.due.is_none() && task.question.is_none() && task.events.is_none());
            assert!(!task.is_elsewhere(), "nothing is there");
            let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            assert!(task.is_elsewhere());
            task.pass(false).await.unwrap();
            assert!(!task.is_elsewhere(), "that one was asked");
            assert!(task.due.is_none() && task.question.is_some());
            assert_eq!(task.deceived, 0);
            // It answered, and then did not.
            for n in 1..=2 {
                task.pass(true).await.unwrap();
                assert_eq!(task.deceived, n);
            }
            task.pass(false).await.unwrap();
            assert_eq!(task.deceived, 2, "it was not asked between");
            drop(listener);
            std::fs::remove_file(&socket).unwrap();
            assert!(!task.is_elsewhere());
            task.pass(true).await.unwrap();
            assert_eq!(
                (task.deceived, task.question.is_some()),
                (0, false),
                "it is not silent but gone"
            );
        });
    }

    /// Where nothing is wanted and nothing is left an engine is not listened to.
    #[test]
    fn an_engine_is_listened_to_as_long_as_there_is_something_to_hear() {
        with_task(async |task, _| {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("docker.sock");
            let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            task.listen(&desired(&socket), false, 0);
            let since = task.listening;
            assert!(task.events.is_some());
            task.listen(&desired(&socket), false, 0);
            assert_eq!(task.listening, since, "as it was");
            task.listen(&desired(&socket), true, 0);
            assert!(task.events.is_none());
            // Nothing wanted of an engine that is away: all is well, and nothing is due.
            let nothing = EngineDesired {
                networks: Default::default(),
                ..EngineDesired::clone(&desired(&socket))
            };
            task.take((
                2,
                Arc::new(EngineDesired {
                    socket: dir.path().join("none"),
                    ..nothing
                }),
            ));
            task.pass(false).await.unwrap();
            assert!(task.events.is_none() && task.due.is_none() && task.question.is_none());
        });
    }

    /// One that answers a question and nothing else is asked less and less often.
    #[test]
    fn a_deceiver_is_asked_less_and_less_often() {
        use futures_util::poll;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("docker.sock");
            let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
            listener.set_nonblocking(true).unwrap();
            let asked = async |deceived, patience: Duration| {
                let mut question = ask(desired(&socket), deceived);
                let deadline = Instant::now() + patience;
                while Instant::now() < deadline {
                    assert!(poll!(&mut question).is_pending());
                    if listener.accept().is_ok() {
                        return true;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                false
            };
            assert!(asked(0, Duration::from_secs(10)).await);
            // A minute later.
            for deceived in [6, 7, 1000] {
                assert!(
                    !asked(deceived, Duration::from_millis(20)).await,
                    "{deceived}"
                );
            }
        });
    }
}
