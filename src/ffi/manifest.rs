//! Symbols of the manifests of the two modules.
//!
//! rustc hides every symbol of a `cdylib` that Rust does not define, so the symbols are
//! defined here. `cpp_shim/module.cpp`, which is linked into the `cdylib` only, constructs
//! the manifests in this memory when the library is loaded. In the static library and in
//! tests the memory is zero.
#![allow(non_upper_case_globals)]

use std::cell::UnsafeCell;

/// Memory for a `mesos::modules::Module<Anonymous>`.
#[repr(C, align(16))]
pub struct ManifestMemory(UnsafeCell<[u8; 64]>);

// SAFETY: Rust never accesses the contents. The shim writes them once, while the dynamic
// linker loads the library.
unsafe impl Sync for ManifestMemory {}

impl ManifestMemory {
    const fn new() -> ManifestMemory {
        ManifestMemory(UnsafeCell::new([0; 64]))
    }
}

/// Manifest of the master module.
#[unsafe(no_mangle)]
pub static com_mesosphere_mesos_OverlayMasterManager: ManifestMemory = ManifestMemory::new();

/// Manifest of the agent module.
#[unsafe(no_mangle)]
pub static com_mesosphere_mesos_OverlayAgentManager: ManifestMemory = ManifestMemory::new();
