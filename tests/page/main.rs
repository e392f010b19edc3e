//! Tests of the page `/overlay-master/ui` in a real browser, with real Mesos.
//!
//! Chromium runs in this process's own network namespace and reaches the masters through a
//! [`relay::Relay`], which can also stand for a proxy that serves them below a path.

#[path = "../mesos/common.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod common;

mod access;
mod authentication;
mod browser;
mod changes;
mod cluster;
mod hostile;
mod large;
mod masters;
mod names;
mod relay;
mod screenshots;
mod views;
