//! What the firewall costs in a pass in which nothing has changed: processor time
//! of this process and of those it started, beside a pass without a firewall. Not a
//! test of right or wrong:
//! `cargo test --release --test firewall cost -- --ignored --nocapture --test-threads 1`.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use overlay_core::host_api::desired::{Desired, Firewall};

use crate::site::Site;
use crate::tools::Tools;

const PASSES: u32 = 100;

/// Processor time used so far.
fn used() -> Duration {
    let times =
        [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].map(|who| getrusage(who).unwrap());
    let micros: i64 = times
        .iter()
        .map(|usage| (usage.user_time() + usage.system_time()).num_microseconds())
        .sum();
    Duration::from_micros(micros.try_into().unwrap())
}

/// The same for one unchanged pass.
fn pass(site: &Site, desired: &Desired) -> Duration {
    // One that remembers when it found nothing to do.
    let worker = site.host.worker();
    worker.apply_ok(desired);
    assert_eq!(worker.apply_ok(desired), 0);
    let before = used();
    (0..PASSES).for_each(|_| assert_eq!(worker.apply_ok(desired), 0));
    (used() - before) / PASSES
}

#[test]
#[ignore = "a measurement"]
fn unchanged_passes() {
    for tools in [
        Tools::IptablesNft,
        Tools::IptablesLegacy,
        Tools::Nftables,
        Tools::NftablesAlone,
    ] {
        let Some(host) = tools.host("unchanged_passes") else {
            return;
        };
        let site = Site::new(tools, host);
        let desired = site.desired();
        let with = pass(&site, &desired);
        let without = pass(
            &site,
            &Desired {
                firewall: Firewall::None,
                ..desired
            },
        );
        println!(
            "{tools:?}: {} µs with a firewall, {} µs without",
            with.as_micros(),
            without.as_micros()
        );
    }
}
