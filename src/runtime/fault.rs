//! Panics on demand, for tests of the restart after a panic.

use overlay_core::Input;

/// Name of the message that makes a machine panic.
pub const PANIC: &str = "mesos_overlay.fault.Panic";

/// Panics if `input` is a message with the name [`PANIC`]. Called right before the machine
/// handles `input`, so that the panic has the effect of one in the machine.
pub fn inject(input: &Input) {
    if let Input::Message { name, from, .. } = input
        && name == PANIC
    {
        panic!("fault injection, ordered by {from}");
    }
}
