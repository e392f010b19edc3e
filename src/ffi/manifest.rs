//! The names under which Mesos finds the two modules.
//!
//! rustc hides every symbol of a `cdylib` that Rust does not define, so the names
//! are defined here; `cpp_shim/module.cpp`, which is linked into the `cdylib` only,
//! builds the manifests in these places when the library is loaded. Elsewhere (in
//! the static library, in tests) they are some zero bytes.
#![allow(non_upper_case_globals)]

use std::cell::UnsafeCell;

/// Room for a `mesos::modules::Module<Anonymous>`.
#[repr(C, align(16))]
pub struct ManifestRoom(UnsafeCell<[u8; 64]>);

// SAFETY: Rust never looks into it. The shim writes it once, before the dynamic
// linker hands the library to anyone.
unsafe impl Sync for ManifestRoom {}

impl ManifestRoom {
    const fn new() -> ManifestRoom {
        ManifestRoom(UnsafeCell::new([0; 64]))
    }
}

/// The master module.
#[unsafe(no_mangle)]
pub static com_mesosphere_mesos_OverlayMasterManager: ManifestRoom = ManifestRoom::new();

/// The agent module.
#[unsafe(no_mangle)]
pub static com_mesosphere_mesos_OverlayAgentManager: ManifestRoom = ManifestRoom::new();
