//! Notices for agents whose allocations were reclaimed.

use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::ledger::Ledger;
use super::sessions::Sessions;
use crate::Time;
use crate::allocation::allocator::{Allocation, Exhausted};
use crate::allocation::prefix::overlap;

/// The beginning of every notice.
const ENDED: &str = "The lease of this agent ended, and its addresses and subnets were reclaimed";

/// Returns the notice for an agent whose lease ended, in case it can be reached.
pub fn lease_ended(sessions: &Sessions, ip: Ipv4Addr, now: Time) -> String {
    format!(
        "{ENDED}: the last contact was {} s ago.",
        now.since(sessions.last_contact(ip)).as_secs()
    )
}

/// Returns the notice for an agent that held addresses and subnets without a record, `held`, and
/// did not get all of them back; `None`: it did.
pub fn not_given_back(ledger: &Ledger, ip: Ipv4Addr, held: &Allocation) -> Option<String> {
    let none = Allocation::default();
    let now = ledger.allocation(ip).unwrap_or(&none);
    let overlays = held.overlays.keys().map(|name| Some(name.as_str()));
    let parts = std::iter::once(None).chain(overlays);
    let exchanges: Vec<String> = parts
        .flat_map(|overlay| {
            let (held, now) = (held.part(overlay), now.part(overlay));
            let lost = |(held, now): (Option<IpNet>, Option<IpNet>)| {
                let held = held?;
                (now != Some(held)).then(|| exchange(ledger, ip, overlay, held, now))
            };
            [(held.v4, now.v4), (held.v6, now.v6)]
                .into_iter()
                .filter_map(lost)
                .collect::<Vec<_>>()
        })
        .collect();
    (!exchanges.is_empty()).then(|| {
        format!(
            "The master has no record of what this agent held (the agent was deleted, or the replicated log is new or \
             was lost), and could not give all of it back. It has {}. Restart its containers.",
            exchanges.join("; ")
        )
    })
}

/// Returns the notice for an agent that registered again, with the replacements of its
/// reclaimed allocation. `exhausted` are the ranges with nothing left for the agent.
pub fn reallocated(
    ledger: &Ledger,
    ip: Ipv4Addr,
    before: &Allocation,
    exhausted: &[Exhausted],
) -> String {
    let none = Allocation::default();
    let now = ledger.allocation(ip).unwrap_or(&none);
    let overlays = before.overlays.keys().map(|name| Some(name.as_str()));
    let exchanges: Vec<_> = std::iter::once(None)
        .chain(overlays)
        .flat_map(|overlay| {
            let (before, now) = (before.part(overlay), now.part(overlay));
            let is_exhausted = exhausted
                .iter()
                .any(|exhausted| exhausted.overlay.as_deref() == overlay);
            [(before.v4, now.v4), (before.v6, now.v6)]
                .into_iter()
                .filter_map(move |(before, now)| {
                    let before = before?;
                    let is_exchanged = match now {
                        Some(now) => before.addr() != now.addr(),
                        // If nothing was exhausted, the agent does not request the overlay any
                        // more.
                        None => is_exhausted,
                    };
                    is_exchanged.then(|| exchange(ledger, ip, overlay, before, now))
                })
                .collect::<Vec<_>>()
        })
        .collect();
    if exchanges.is_empty() {
        format!("{ENDED}; it has everything back that it requests.")
    } else {
        format!("{ENDED}. It has {}.", exchanges.join("; "))
    }
}

/// Describes the replacement of one reclaimed address or subnet, and the agent that has the
/// reclaimed one now.
fn exchange(
    ledger: &Ledger,
    ip: Ipv4Addr,
    overlay: Option<&str>,
    before: IpNet,
    now: Option<IpNet>,
) -> String {
    let show = |net: IpNet| match overlay {
        Some(_) => net.to_string(),
        None => net.addr().to_string(),
    };
    let now = now.map_or_else(|| "nothing".to_owned(), show);
    let of = overlay.map_or_else(
        || "as its VTEP".to_owned(),
        |name| format!("of overlay {name}"),
    );
    let shares = |net: &IpNet| match overlay {
        None => net.addr() == before.addr(),
        Some(_) => overlap(*net, before),
    };
    let taker = ledger.find(|other, allocation| {
        other != ip && allocation.part(overlay).iter().flatten().any(shares)
    });
    let taker = taker.map_or_else(String::new, |ip| format!(" (agent {ip} has that now)"));
    format!("{now} {of} instead of {}{taker}", show(before))
}
