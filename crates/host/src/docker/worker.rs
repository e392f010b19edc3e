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
