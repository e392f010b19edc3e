//! When the log is written.

use std::time::Duration;

use bytes::Bytes;
use overlay_core::{Input, StoreOutcome};

use crate::numbers::Bench;

const CONFIG: &str = r#"{"network": {"vtep_subnet": "44.128.0.0/16", "vtep_subnet6": "fd01:a::/64",
    "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{"name": "dual", "subnet": "9.0.0.0/8", "prefix": 24,
    "subnet6": "fd01:b::/64", "prefix6": 80}]}}"#;

/// A state of this size, in bytes, is a large one.
const LARGE: usize = 64 << 10;

fn agent(number: u32) -> String {
    format!("overlay-agent@10.1.{}.{}:5051", number >> 8, number & 255)
}

/// Lets time go by, and whatever is due be done.
fn wait(bench: &mut Bench, ms: u64) {
    bench.now = bench.now + Duration::from_millis(ms);
    bench.input(Input::Timeout);
}

#[test]
fn registrations_gather_for_a_while_after_a_large_write() {
    let mut bench = Bench::with(CONFIG);
    bench.lead(Bytes::new());
    (0..400).for_each(|number| bench.register(&agent(number)));
    assert!(
        bench.log.len() < LARGE,
        "the first one of them is being written"
    );
    wait(&mut bench, 30);
    bench.stored(StoreOutcome::Stored);
    assert!(
        bench.log.len() > LARGE && bench.writing.is_some(),
        "at once, the others"
    );

    // This one takes 30 ms, so the next one begins 60 ms later.
    bench.register(&agent(400));
    wait(&mut bench, 30);
    bench.stored(StoreOutcome::Stored);
    assert_eq!(bench.writing, None);
    wait(&mut bench, 59);
    bench.register(&agent(401));
    assert_eq!(bench.writing, None);
    wait(&mut bench, 1);
    assert!(bench.writing.is_some());

    // Nothing to write at the end of the rest: what comes then is written at once.
    wait(&mut bench, 1000);
    bench.stored(StoreOutcome::Stored);
    wait(&mut bench, 199);
    assert_eq!(bench.writing, None);
    wait(&mut bench, 1);
    assert_eq!(bench.writing, None);
    bench.register(&agent(402));
    assert!(bench.writing.is_some());
}
