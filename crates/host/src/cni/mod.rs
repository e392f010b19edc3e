//! CNI configurations of the Mesos containerizer's networks: one file for each overlay,
//! `<cni_dir>/<overlay>.conf`.

pub(crate) mod content;
pub(crate) mod files;
