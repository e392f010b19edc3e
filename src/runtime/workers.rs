//! Number of libprocess's worker threads, which connections to ZooKeeper block at the start.

use std::sync::atomic::{AtomicU8, Ordering};

use overlay_core::Level;

use super::{Role, log};

/// Variable with the number of worker threads.
pub const VARIABLE: &str = "LIBPROCESS_NUM_WORKER_THREADS";

/// Least number of worker threads that libprocess has by default.
const LEAST: usize = 8;

/// Roles in this process that use ZooKeeper, a bit for each.
static ROLES: AtomicU8 = AtomicU8::new(0);

/// Notes that a module in this process uses ZooKeeper. Warns if there are too few worker threads.
pub fn note_zookeeper(role: Role) {
    let bit = bit(role);
    let roles = ROLES.fetch_or(bit, Ordering::Relaxed) | bit;
    let value = std::env::var(VARIABLE).ok();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if let Some(line) = warning(roles, value.as_deref(), cores) {
        log(role, Level::Warning, &line);
    }
}

fn bit(role: Role) -> u8 {
    match role {
        Role::Master => 1,
        Role::Agent => 2,
    }
}

/// Returns the number of worker threads that a master with these modules needs: each connection to
/// ZooKeeper takes one while it is made (three of Mesos, two of the master's module, one of the
/// agent's), and others have to serve them.
fn needed(roles: u8) -> Option<usize> {
    let has = |role| roles & bit(role) != 0;
    match (has(Role::Master), has(Role::Agent)) {
        (true, true) => Some(10),
        (true, false) => Some(8),
        (false, _) => None,
    }
}

/// Returns a warning if there are too few worker threads. `value` is that of the variable.
fn warning(roles: u8, value: Option<&str>, cores: usize) -> Option<String> {
    let needed = needed(roles)?;
    let given = value.and_then(|value| value.trim().parse().ok());
    let workers = given.unwrap_or(cores.max(LEAST));
    let origin = match given {
        Some(_) => "",
        None => ", Mesos's default on this host,",
    };
    (workers < needed).then(|| {
        format!(
            "environment: {VARIABLE}: {workers} worker threads{origin} are too few for the connections to ZooKeeper, \
             and Mesos can hang at its start; set it to {needed} or more"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modules_in_a_master_need_ten_threads() {
        let (master, agent) = (bit(Role::Master), bit(Role::Agent));
        for (roles, value, cores, workers) in [
            (master, None, 2, None),
            (master, Some("8"), 2, None),
            (master, Some("7"), 16, Some(7)),
            (agent, Some("4"), 2, None),
            (master | agent, None, 2, Some(8)),
            (master | agent, None, 9, Some(9)),
            (master | agent, None, 10, None),
            (master | agent, Some("9"), 32, Some(9)),
            (master | agent, Some("10"), 2, None),
        ] {
            let line = warning(roles, value, cores);
            let begin = workers.map(|workers| format!("environment: {VARIABLE}: {workers} worker"));
            assert_eq!(line.is_some(), begin.is_some(), "{line:?}");
            assert!(
                line.unwrap_or_default()
                    .starts_with(&begin.unwrap_or_default())
            );
        }
        assert_eq!(
            warning(master | agent, None, 4).unwrap(),
            "environment: LIBPROCESS_NUM_WORKER_THREADS: 8 worker threads, Mesos's default on this host, are too \
             few for the connections to ZooKeeper, and Mesos can hang at its start; set it to 10 or more"
        );
    }
}
