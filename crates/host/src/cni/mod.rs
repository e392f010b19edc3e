//! CNI configurations of the Mesos containerizer's networks: one file for each overlay,
//! `<cni_dir>/<overlay>.conf`.

/// What others can do who can write to the directory, in words that complete "they can …".
pub(crate) const DANGER: &str = "have Mesos attach containers to networks of their choice";

pub(crate) mod content;
pub(crate) mod files;
