//! Runs scenarios with many seeds, on all cores.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::simulation::Simulation;

/// Number of seeds of the main scenario, unless the environment sets another one.
pub const SEEDS: u64 = 200;
/// Number of seeds of scenarios with few random choices.
pub const FEW_SEEDS: u64 = 20;

/// Creates a simulation from a seed, with or without a trace.
pub type Setup = fn(u64, bool) -> Simulation;
/// Runs a simulation. The error is the invariant that was violated.
pub type Script = fn(&mut Simulation) -> Result<(), String>;

/// A kind of simulation.
#[derive(Clone, Copy)]
struct Scenario {
    setup: Setup,
    script: Script,
}

/// Result of one seed: that of the script, or the panic of a machine.
type Outcome = std::thread::Result<Result<(), String>>;

/// The lowest seed that failed.
struct Failure {
    seed: u64,
    outcome: Outcome,
}

/// Returns a number from the environment.
pub fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

/// Runs a scenario with this number of seeds, or with those that the environment sets. A seed
/// that fails is run again, with a trace.
pub fn run(seeds: u64, setup: Setup, script: Script) {
    let scenario = Scenario { setup, script };
    if let Some(seed) = environment("MESOS_OVERLAY_SIM_SEED") {
        let (outcome, trace) = run_seed(seed, scenario, true);
        eprintln!("{trace}");
        return report(seed, outcome);
    }
    let first = environment("MESOS_OVERLAY_SIM_FROM").unwrap_or(0);
    let count = environment("MESOS_OVERLAY_SIM_SEEDS").unwrap_or(seeds);
    let failure = first_failure(first..first.saturating_add(count), scenario);
    if let Some(Failure { seed, outcome }) = failure {
        eprintln!("{}", run_seed(seed, scenario, true).1);
        report(seed, outcome);
    }
}

/// Runs one seed. Returns the result and the end of the trace.
fn run_seed(seed: u64, scenario: Scenario, trace: bool) -> (Outcome, String) {
    // The simulation is outside of the closure so that its trace survives a panic.
    let mut sim = (scenario.setup)(seed, trace);
    let outcome = catch_unwind(AssertUnwindSafe(|| (scenario.script)(&mut sim)));
    (outcome, sim.trace())
}

/// Returns the lowest seed that fails. The result does not depend on the number of cores: each
/// thread continues up to the lowest failure that is known.
fn first_failure(seeds: Range<u64>, scenario: Scenario) -> Option<Failure> {
    let (next, finished) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let end = AtomicU64::new(seeds.end);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Relaxed);
                if seed >= end.load(Relaxed) {
                    break;
                }
                let (outcome, _) = run_seed(seed, scenario, false);
                if !matches!(outcome, Ok(Ok(()))) {
                    let mut failure = failure.lock().unwrap();
                    if failure.as_ref().is_none_or(|lowest| seed < lowest.seed) {
                        *failure = Some(Failure { seed, outcome });
                    }
                    end.fetch_min(seed, Relaxed);
                }
                finished.fetch_add(1, Relaxed);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        if environment("MESOS_OVERLAY_SIM_PROGRESS").is_some() {
            print_progress(&finished, seeds.end - seeds.start, || {
                workers.iter().all(|worker| worker.is_finished())
            });
        }
    });
    failure.into_inner().unwrap()
}

/// Prints the number of finished seeds every 10 s, and at the end.
fn print_progress(finished: &AtomicU64, count: u64, is_done: impl Fn() -> bool) {
    const INTERVAL: Duration = Duration::from_secs(10);
    let (start, mut last) = (Instant::now(), Instant::now());
    while !is_done() {
        std::thread::sleep(Duration::from_millis(50));
        if last.elapsed() >= INTERVAL {
            last = Instant::now();
            let finished = finished.load(Relaxed);
            let rate = finished as f64 / start.elapsed().as_secs_f64();
            eprintln!("{finished} of {count} seeds finished, {rate:.0} per second");
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("{} seeds in {seconds:.0} s", finished.load(Relaxed));
}

fn report(seed: u64, outcome: Outcome) {
    let repeat = format!("to repeat it: cargo xtask simulate --seed {seed}");
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(violation)) => panic!("seed {seed}: {violation}\n{repeat}"),
        Err(_) => panic!("seed {seed}: a machine panicked, see above\n{repeat}"),
    }
}
