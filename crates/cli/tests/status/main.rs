//! `mesos-overlay status` and `whois` on clusters of real Mesos: on healthy ones they find nothing,
//! and on each fault what it is, and nothing else.

mod agents;
mod common;
mod docker;
mod healthy;
mod host;
mod https;
mod masters;
mod whois;
