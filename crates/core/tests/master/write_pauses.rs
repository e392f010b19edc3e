//! Tests of the pauses after writes of a large state.

use std::time::Duration;

use bytes::Bytes;
use overlay_core::{Input, StoreOutcome};

use crate::driver::Driver;

const CONFIG: &str = r#"{"network": {"vtep_subnet": "44.128.0.0/16", "vtep_subnet6": "fd01:a::/64",
    "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{"name": "dual", "subnet": "9.0.0.0/8", "prefix": 24,
    "subnet6": "fd01:b::/64", "prefix6": 80}]}}"#;

/// Size above which a state is large, in bytes.
const LARGE: usize = 64 << 10;

fn agent(number: u32) -> String {
    format!("overlay-agent@10.1.{}.{}:5051", number >> 8, number & 255)
}

/// Lets time pass, with a timeout at its end.
fn wait(driver: &mut Driver, ms: u64) {
    driver.now = driver.now + Duration::from_millis(ms);
    driver.input(Input::Timeout);
}

#[test]
fn registrations_are_gathered_after_a_large_write() {
    let mut driver = Driver::with_config(CONFIG);
    driver.lead(Bytes::new());
    (0..400).for_each(|number| driver.register(&agent(number)));
    assert!(driver.log.len() < LARGE, "the first one is being written");
    wait(&mut driver, 30);
    driver.stored(StoreOutcome::Stored);
    assert!(
        driver.log.len() > LARGE && driver.writing.is_some(),
        "the others are written at once"
    );

    // This write takes 30 ms, so the next one begins 60 ms later.
    driver.register(&agent(400));
    wait(&mut driver, 30);
    driver.stored(StoreOutcome::Stored);
    assert_eq!(driver.writing, None);
    wait(&mut driver, 59);
    driver.register(&agent(401));
    assert_eq!(driver.writing, None);
    wait(&mut driver, 1);
    assert!(driver.writing.is_some());

    // After a pause without changes the next change is written at once.
    wait(&mut driver, 1000);
    driver.stored(StoreOutcome::Stored);
    wait(&mut driver, 199);
    assert_eq!(driver.writing, None);
    wait(&mut driver, 1);
    assert_eq!(driver.writing, None);
    driver.register(&agent(402));
    assert!(driver.writing.is_some());
}
