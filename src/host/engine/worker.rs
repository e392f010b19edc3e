//! The thread that keeps the engine's networks as they are wanted.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{FutureExt, Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::client::{Client, Event};
use super::desired::EngineDesired;
use super::pass;
use crate::core::EngineReport;
use crate::host::executor::message;

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
/// networks came or went, when it comes back, and every few seconds.
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
        let (work, waiting) = unbounded_channel();
        let report = Arc::new(Mutex::new(None));
        let told = report.clone();
        let tell = move |report| {
            *told.lock() = Some(report);
            wake();
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("overlay-engine".into()).spawn(move || {
            runtime.block_on(Task::new(waiting, tell).run());
        })?;
        Ok(Worker { work: Some(work), report, thread: Some(thread) })
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
    tell: T,
    work: Option<(u64, Arc<EngineDesired>)>,
    /// What was told last, under the present generation.
    told: Option<EngineReport>,
    /// `None`: the engine is away.
    events: Option<Events>,
    /// Since when `events` is there.
    listening: Instant,
    /// Which file the engine's socket was at the last pass.
    place: Option<Place>,
    /// When the next pass is due; `None`: only when there is news.
    due: Option<Instant>,
    random: fastrand::Rng,
}

/// Tells a socket from one that another engine, or the same one started anew, has
/// put in its place.
type Place = (u64, u64, i64, i64);

/// What ends the wait for the next pass.
enum News {
    Work((u64, Arc<EngineDesired>)),
    Event(Option<Event>),
    Time,
    Stop,
}

impl<T: Fn(EngineReport)> Task<T> {
    fn new(waiting: UnboundedReceiver<(u64, Arc<EngineDesired>)>, tell: T) -> Task<T> {
        Task {
            waiting,
            tell,
            work: None,
            told: None,
            events: None,
            listening: Instant::now(),
            place: None,
            due: None,
            random: fastrand::Rng::new(),
        }
    }

    /// Works until nobody wants anything any more.
    async fn run(mut self) {
        loop {
            match self.news().await {
                News::Stop => return,
                News::Work(work) => {
                    self.work = Some(work);
                    self.told = None;
                    self.due_in(Duration::ZERO);
                }
                News::Event(Some(Event::Network)) => self.due_in(GATHER),
                News::Event(Some(Event::Endpoint)) => self.due_in(GATHER_ENDPOINTS),
                News::Event(None) => {
                    self.events = None;
                    let steady = self.listening.elapsed() >= STEADY;
                    self.due_in(if steady { GATHER } else { STEADY });
                }
                News::Time => {}
            }
            let due = self.due.is_some_and(|due| due <= Instant::now()) || self.is_elsewhere();
            if due && self.pass().await.is_none() {
                return;
            }
        }
    }

    fn due_in(&mut self, time: Duration) {
        let due = Instant::now() + time;
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    async fn news(&mut self) -> News {
        let away = self.work.is_some() && self.events.is_none();
        let look = away.then(|| Instant::now() + LOOK);
        let wake = [self.due, look].into_iter().flatten().min();
        let event = async {
            match &mut self.events {
                Some(events) => events.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            work = self.waiting.recv() => work.map_or(News::Stop, News::Work),
            event = event => News::Event(event),
            () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => News::Time,
        }
    }

    /// Whether an engine that was away may be back: its socket is another one.
    fn is_elsewhere(&self) -> bool {
        let Some((_, desired)) = self.work.as_ref().filter(|_| self.events.is_none()) else { return false };
        let now = place(&desired.socket);
        now.is_some() && now != self.place
    }

    /// One pass with the latest work; `None`: nobody wants anything any more.
    async fn pass(&mut self) -> Option<()> {
        let (mut generation, mut desired) = self.work.clone()?;
        // What happens from here on is heard of, also that which happens before the
        // engine is asked.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.place = place(&desired.socket);
        let report = loop {
            let pass = AssertUnwindSafe(pass::run(&desired)).catch_unwind();
            tokio::select! {
                biased;
                // A pass that is under way is of no use to anybody any more.
                work = self.waiting.recv() => {
                    (generation, desired) = work?;
                    self.work = Some((generation, desired.clone()));
                    self.told = None;
                    self.place = place(&desired.socket);
                }
                report = pass => break report.unwrap_or_else(|panic| {
                    let sentence = format!("a fault in this module: {}", message(&panic));
                    log::error!("the container engine's networks: {sentence}");
                    EngineReport::hopeless(&desired, sentence)
                }),
            }
        };
        self.listen(&desired, &report, since);
        // An engine that cannot be talked to is tried again when whoever wants
        // something says so, or when there is another one.
        let period = PERIOD.mul_f64(0.75 + self.random.f64() / 2.0);
        self.due = report.engine.is_none().then(|| Instant::now() + period);
        self.report(EngineReport { generation, ..report });
        Some(())
    }

    /// Makes sure that the engine's events are heard, if there is an engine.
    fn listen(&mut self, desired: &EngineDesired, report: &EngineReport, since: u64) {
        if report.engine.is_some() {
            self.events = None;
        } else if self.events.is_none() {
            let client = Client::new(&desired.socket, desired.timeout);
            self.events = client.ok().map(|client| client.events(since).boxed());
            self.listening = Instant::now();
        }
    }

    /// Tells what is news.
    fn report(&mut self, report: EngineReport) {
        let same =
            |told: &EngineReport| EngineReport { operations: told.operations, ..report.clone() } == *told;
        if !self.told.as_ref().is_some_and(same) {
            self.told = Some(report.clone());
            (self.tell)(report);
        }
    }
}

fn place(socket: &Path) -> Option<Place> {
    let file = std::fs::metadata(socket).ok()?;
    Some((file.dev(), file.ino(), file.ctime(), file.ctime_nsec()))
}
