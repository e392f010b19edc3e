//! Masters and agents against each other, with a clock, a network, a log and hosts
//! that the test makes up, and that do to them what the real ones can do: lose,
//! delay, reorder and repeat messages, break connections, crash, elect another
//! leader, fail a write that is in the log all the same.
//!
//! Everything follows from one seed. After each step `check` looks at what must
//! never be; when the faults stop, everything has to come right, and to fall
//! silent.
//!
//! `cargo xtask simulate` plays many seeds, or one of them with a trace of what
//! happened in it; see docs/testing.md.

mod check;
mod cluster;
mod converged;
mod deadlines;
mod faults;
mod files;
mod host;
mod host_check;
mod lists;
mod network;
mod networks;
mod operator;
mod replicated_log;
mod shown;
mod trace;
mod watch;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use networks::Operators;
use world::World;

/// How many seeds are played when the environment does not say.
const SEEDS: u64 = 200;
/// The same of scenarios in which little is left to chance.
const FEW_SEEDS: u64 = 20;

/// What happens in a world; the error is what must not.
type Story = fn(&mut World) -> Result<(), String>;
/// A world's beginning (from a seed, with a trace?), and its story.
type Scenario = (fn(u64, bool) -> World, Story);

fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

/// Plays `scenario` with each seed, on all cores: so many, or as the environment says.
/// One that fails is played again, with a trace.
fn play(seeds: u64, begin: fn(u64, bool) -> World, story: Story) {
    let scenario = (begin, story);
    if let Some(seed) = environment("MESOS_OVERLAY_SIM_SEED") {
        let (outcome, trace) = play_one(seed, scenario, true);
        eprintln!("{trace}");
        return report(seed, outcome);
    }
    let first = environment("MESOS_OVERLAY_SIM_FROM").unwrap_or(0);
    let count = environment("MESOS_OVERLAY_SIM_SEEDS").unwrap_or(seeds);
    if let Some((seed, outcome)) = first_failure(first..first.saturating_add(count), scenario) {
        eprintln!("{}", play_one(seed, scenario, true).1);
        report(seed, outcome);
    }
}

type Outcome = std::thread::Result<Result<(), String>>;

fn play_one(seed: u64, scenario: Scenario, trace: bool) -> (Outcome, String) {
    // It is kept apart, so that its trace outlives a panic.
    let (begin, story) = scenario;
    let mut world = begin(seed, trace);
    let outcome = catch_unwind(AssertUnwindSafe(|| story(&mut world)));
    (outcome, world.trace())
}

/// The lowest seed that fails. It does not depend on how many cores there are: each
/// thread goes on up to the lowest one that is known.
fn first_failure(seeds: Range<u64>, scenario: Scenario) -> Option<(u64, Outcome)> {
    let (next, played) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let failure: Mutex<Option<(u64, Outcome)>> = Mutex::new(None);
    let end = AtomicU64::new(seeds.end);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            loop {
                let seed = next.fetch_add(1, Relaxed);
                if seed >= end.load(Relaxed) {
                    break;
                }
                let (outcome, _) = play_one(seed, scenario, false);
                if !matches!(outcome, Ok(Ok(()))) {
                    let mut failure = failure.lock().unwrap();
                    if failure.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                        *failure = Some((seed, outcome));
                    }
                    end.fetch_min(seed, Relaxed);
                }
                played.fetch_add(1, Relaxed);
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        if environment("MESOS_OVERLAY_SIM_PROGRESS").is_some() {
            progress(&played, seeds.end - seeds.start, || {
                workers.iter().all(|worker| worker.is_finished())
            });
        }
    });
    failure.into_inner().unwrap()
}

/// Says now and then how far it is.
fn progress(played: &AtomicU64, count: u64, is_done: impl Fn() -> bool) {
    const EVERY: Duration = Duration::from_secs(10);
    let (start, mut said) = (Instant::now(), Instant::now());
    while !is_done() {
        std::thread::sleep(Duration::from_millis(50));
        if said.elapsed() >= EVERY {
            said = Instant::now();
            let played = played.load(Relaxed);
            let rate = played as f64 / start.elapsed().as_secs_f64();
            eprintln!("{played} of {count} seeds played, {rate:.0} a second");
        }
    }
    eprintln!(
        "{} seeds played in {:.0} s",
        played.load(Relaxed),
        start.elapsed().as_secs_f64()
    );
}

fn report(seed: u64, outcome: Outcome) {
    let again = format!("cargo xtask simulate --seed {seed} plays it again");
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(what)) => panic!("seed {seed}: {what}\n{again}"),
        Err(_) => panic!("seed {seed}: a machine panicked, see above\n{again}"),
    }
}

/// Everything that can go wrong does, for two minutes.
#[test]
fn everything_comes_right_after_the_faults() {
    static RECLAIMED: AtomicU64 = AtomicU64::new(0);
    static CHANGED: AtomicU64 = AtomicU64::new(0);
    play(SEEDS, World::mixed, |world| {
        faults::rage(world, Duration::from_secs(120))?;
        faults::stop(world)?;
        let calm = world.now();
        // A message that got lost unnoticed is made good at the next refresh.
        world.run_until_converged(calm + Duration::from_secs(100))?;
        RECLAIMED.fetch_add(world.reclaimed(), Relaxed);
        if world.reclaimed() > 0 {
            CHANGED.fetch_add(world.check.operators.done(), Relaxed);
        }
        world.run_silently(Duration::from_secs(300))
    });
    let [reclaimed, changed] = [&RECLAIMED, &CHANGED].map(|count| count.load(Relaxed));
    let chosen = ["MESOS_OVERLAY_SIM_SEED", "MESOS_OVERLAY_SIM_SEEDS"].map(environment);
    assert!(
        chosen.iter().any(Option::is_some) || reclaimed.min(changed) > SEEDS / 4,
        "only {reclaimed} agents lost what they had to others, and in such clusters only {changed} overlays were \
         changed"
    );
}

/// A cluster that starts, and one whose leader changes, is complete in seconds.
#[test]
fn convergence_takes_seconds() {
    play(FEW_SEEDS, World::new, |world| {
        world.run_until_converged(world.now() + Duration::from_secs(2))?;
        for _ in 0..3 {
            world.run_for(Duration::from_secs(10))?;
            faults::change_leader(world);
            world.run_until_converged(world.now() + Duration::from_secs(3))?;
        }
        // Both ends hear of a broken connection, and nobody hears of a new leader.
        faults::break_an_agents_links(world);
        faults::delete_some_agents(world)?;
        world.run_for(Duration::from_millis(500))?;
        world.run_until_converged(world.now() + Duration::from_secs(5))?;
        // Hosts on which nothing works for a while.
        world.host_failures = 100;
        faults::delete_some_agents(world)?;
        world.run_for(Duration::from_secs(3))?;
        world.host_failures = 0;
        world.run_until_converged(world.now() + Duration::from_secs(12))?;
        world.run_silently(Duration::from_secs(300))
    });
}

/// A write is never answered. The master gives it up after 20 s and reads the log again,
/// whether it led all the time or not.
#[test]
fn a_write_without_an_answer_is_given_up() {
    play(FEW_SEEDS, World::new, |world| {
        world.run_until_converged(world.now() + Duration::from_secs(2))?;
        world.check.watch.weather(false);
        (world.log.failures, world.log.unanswered) = (100, true);
        faults::delete_some_agents(world)?;
        world.run_for(Duration::from_secs(1))?;
        (world.log.failures, world.log.unanswered) = (0, false);
        if world.random.bool() {
            let leader = world.leader;
            world.elect(None);
            world.run_for(Duration::from_secs(1))?;
            world.elect(leader);
        }
        world.run_for(Duration::from_secs(23))?;
        world.check.watch.weather(true);
        // The write may be in the log. An agent that it deleted learns that at its next refresh.
        world.run_until_converged(world.now() + Duration::from_secs(100))?;
        world.run_silently(Duration::from_secs(300))
    });
}

/// A cluster of predecessors is upgraded, downgraded and upgraded again, host by host in
/// any order: nobody loses anything, and everybody finds a master each time.
#[test]
fn versions_come_and_go_host_by_host() {
    play(FEW_SEEDS, World::without_leases, |world| {
        let mut hosts: Vec<usize> = (0..world.processes.len()).collect();
        for _ in 0..4 {
            world.random.shuffle(&mut hosts);
            for host in &hosts {
                world.change_version(*host);
                world.start(*host);
                world.run_for(Duration::from_secs(1))?;
                faults::change_leader(world);
                // A predecessor that is not heard at first waits for up to 5 s, then for 10 s …
                world.run_until_converged(world.now() + Duration::from_secs(90))?;
            }
        }
        world.run_silently(Duration::from_secs(300))
    });
}

/// A predecessor that leads for a while forgets what was changed while the cluster ran.
/// No agent loses anything for it, and the same can be changed again.
#[test]
fn what_a_predecessor_forgets_costs_no_agent_anything() {
    play(FEW_SEEDS, World::without_leases, |world| {
        world.run_until_converged(world.now() + Duration::from_secs(2))?;
        let leader = world.leader.ok_or("nobody leads")?;
        let add = networks::addition("run1", "9.200.0.0/18");
        world.change(leader, add.clone())?;
        world.run_for(Duration::from_secs(1))?;
        world.run_until_converged(world.now() + Duration::from_secs(5))?;
        for _ in 0..2 {
            world.change_version(leader);
            world.check.operators = Operators::default();
            world.start(leader);
            world.elect(Some(leader));
            world.run_until_converged(world.now() + Duration::from_secs(60))?;
            // Makes it write. An agent that is not told asks again within 75 s.
            faults::delete_some_agents(world)?;
            world.run_for(Duration::from_secs(80))?;
            world.run_until_converged(world.now() + Duration::from_secs(10))?;
        }
        world.change(leader, add)?;
        world.run_for(Duration::from_secs(1))?;
        match networks::is_in_force(world.log.value(), "run1") {
            true => world.run_until_converged(world.now() + Duration::from_secs(5)),
            false => Err("what was forgotten cannot be changed again".into()),
        }
    });
}

/// Masters have different files, of overlays of both families: what is in force follows from
/// the leader's file and the log, requests are answered by that, and no agent loses anything.
#[test]
fn masters_with_different_files_take_turns() {
    play(FEW_SEEDS, files::world, files::play);
}

/// The log is removed on all masters, and the next leader counts anew: agents that know of
/// higher revisions get new lists at once all the same.
#[test]
fn a_leader_that_counts_anew_is_obeyed_at_once() {
    play(FEW_SEEDS, World::new, |world| {
        world.run_until_converged(world.now() + Duration::from_secs(2))?;
        for number in 0..3 {
            let leader = world.leader.ok_or("nobody leads")?;
            let add = networks::addition(&format!("run{number}"), &format!("9.20{number}.0.0/18"));
            world.change(leader, add)?;
            world.run_for(Duration::from_secs(1))?;
            world.run_until_converged(world.now() + Duration::from_secs(3))?;
        }
        faults::count_anew(world);
        world.run_until_converged(world.now() + Duration::from_secs(3))?;
        world.run_silently(Duration::from_secs(300))
    });
}

/// Two hundred agents at once are served with a few writes, and know each other.
#[test]
fn a_large_cluster_starts_in_seconds() {
    let mut world = World::with(cluster::large(200), fastrand::Rng::with_seed(1), false);
    world
        .run_until_converged(world.now() + Duration::from_secs(2))
        .unwrap();
    assert!(
        world.log_operations < 20,
        "{} operations on the log",
        world.log_operations
    );
}

/// An agent whose subnets are given back gets others, and everybody knows; one
/// that is gone is forgotten by everybody.
#[test]
fn deleted_agents_are_forgotten() {
    play(FEW_SEEDS, World::new, |world| {
        world.run_until_converged(world.now() + Duration::from_secs(2))?;
        faults::delete_some_agents(world)?;
        world.run_for(Duration::from_millis(500))?;
        world.run_until_converged(world.now() + Duration::from_secs(5))?;
        faults::remove_an_agent(world)?;
        world.run_for(Duration::from_millis(500))?;
        world.run_until_converged(world.now() + Duration::from_secs(5))
    });
}
