//! Panics on demand, for tests of what becomes of them. See `docs/testing.md`.

use overlay_core::Input;

/// The message that makes a machine panic as it handles it.
pub const PANIC: &str = "mesos_overlay.fault.Panic";

/// Panics if `input` is the order to do so. Called where the machine is about to
/// handle it, so that nothing tells this panic from one of the machine's own.
pub fn inject(input: &Input) {
    if let Input::Message { name, from, .. } = input
        && name == PANIC
    {
        panic!("fault injection, ordered by {from}");
    }
}
