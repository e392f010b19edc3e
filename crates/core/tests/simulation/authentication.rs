//! Settings of authentication in some clusters.

use fastrand::Rng;
use overlay_core::config::authentication::{AuthMode, Authentication, Confirmation};
use overlay_core::protocol::session::keys::Keys;

use crate::cluster::{Process, Role};

/// Gives masters and agents settings that old processes do not have: in every fourth cluster keys,
/// and in every third one nobody is believed without confirmation.
pub fn configure(processes: &mut [Process], random: &mut Rng) {
    let has_keys = random.u8(0..4) == 0;
    let confirmation = match random.u8(0..3) {
        0 => Confirmation::Always,
        _ => Confirmation::Once,
    };
    // While a key is replaced, agents send with another one than masters.
    let replaced = random.bool();
    for process in processes {
        let keys = keys(replaced && !process.is_master());
        let authentication = Authentication {
            key_file: None,
            mode: if has_keys {
                AuthMode::Require
            } else {
                AuthMode::Off
            },
            keys: has_keys.then_some(keys),
            confirmation,
        };
        match &mut process.role {
            Role::Master(config) => config.authentication = authentication,
            Role::Agent(config) => config.authentication = authentication,
        }
    }
}

/// Returns two keys, in this or the other order.
fn keys(reversed: bool) -> Keys {
    let mut lines = ["1f", "a7"].map(|byte| format!("{}00", byte.repeat(31)));
    if reversed {
        lines.reverse();
    }
    Keys::read(&lines.join("\n")).expect("two keys")
}

fn of(process: &Process) -> &Authentication {
    match &process.role {
        Role::Master(config) => &config.authentication,
        Role::Agent(config) => &config.authentication,
    }
}

/// Returns whether all processes require keys.
pub fn has_keys(processes: &[Process]) -> bool {
    processes
        .iter()
        .all(|process| of(process).active_keys().is_some())
}

/// Returns whether a process believes nobody without confirmation.
pub fn is_strict(process: &Process) -> bool {
    of(process).confirmation == Confirmation::Always
}
