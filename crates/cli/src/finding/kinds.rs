//! All kinds of findings, by what they are about.

pub mod addresses;
pub mod cluster;
pub mod configuration;
pub mod difference;
pub mod dns;
pub mod host;
pub mod path;

use super::Kind;

/// Returns all kinds of findings, in the order of docs/findings.md.
pub fn all() -> impl Iterator<Item = &'static Kind> {
    [
        cluster::ALL,
        host::ALL,
        difference::ALL,
        path::ALL,
        addresses::ALL,
        configuration::ALL,
        dns::ALL,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Returns the place of a kind in [`all`]: those of the whole cluster come first.
pub fn rank(code: &str) -> usize {
    all()
        .position(|kind| kind.code == code)
        .unwrap_or(usize::MAX)
}
