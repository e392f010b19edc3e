//! The Mesos modules `overlay-master` and `overlay-agent`, one library.
//!
//! The master allocates a subnet of each overlay and a VTEP address to every agent; the agent
//! reconciles its host. `ARCHITECTURE.md` has the picture; from the inside out:
//!
//! * [`overlay_core`]: both roles as pure state machines, the messages, the stored state.
//! * [`overlay_host`]: the agent's host: observed state, plan, execution.
//! * [`runtime`]: clock, randomness, files, environment, and the supervisor that restarts a
//!   machine after a panic.
//! * [`ffi`]: the C ABI of `include/mesos_overlay.h`.

pub mod ffi;
pub mod runtime;
