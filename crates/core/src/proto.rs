//! Messages and stored state, generated from `proto/`.
//!
//! Protobuf's "required" is not checked on decoding: a missing field reads as
//! empty, and whoever uses the value says what is wrong with it.
#![allow(missing_docs)] // the .proto files carry the documentation

pub use mesos_modules::overlay::*;

/// Generated; the nesting mirrors the protobuf packages.
mod mesos_modules {
    pub mod overlay {
        include!(concat!(env!("OUT_DIR"), "/mesos.modules.overlay.rs"));

        pub mod internal {
            include!(concat!(
                env!("OUT_DIR"),
                "/mesos.modules.overlay.internal.rs"
            ));
        }
    }
}

/// Mesos's own messages.
pub mod mesos {
    include!(concat!(env!("OUT_DIR"), "/mesos.rs"));
}
