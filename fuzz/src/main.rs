//! Runs the target in the environment variable `FUZZ_TARGET` with libFuzzer. `cargo xtask fuzz` builds
//! and starts this program.
#![no_main]
use std::sync::OnceLock;

use fuzz::Target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        fuzz::TARGETS
            .iter()
            .find(|target| target.name == name)
            .expect("FUZZ_TARGET names no target")
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| (chosen().run)(data));
