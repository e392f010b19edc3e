//! Mesos modules `overlay-master` and `overlay-agent`, in one library.
//!
//! The master allocates a subnet of each overlay and a VTEP address to every agent; the agent
//! reconciles its host. `ARCHITECTURE.md` has a picture. From the inside out:
//!
//! * [`overlay_core`]: both roles as pure state machines, their messages and stored state.
//! * [`overlay_host`]: the agent's host: observed state, plan, execution.
//! * [`runtime`]: the environment of a machine, and its restart after a panic.
//! * [`ffi`]: the C ABI of `include/mesos_overlay.h`.

pub mod ffi;
pub mod runtime;
