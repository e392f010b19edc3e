//! The firewall on a real kernel: what packets look like to those who get them,
//! and which get through. Hosts, containers and the outside are network
//! namespaces, joined by cables of their own.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the bans are meant for the pure part"
)]

mod support;

#[path = "firewall/cost.rs"]
mod cost;
#[path = "firewall/engine.rs"]
mod engine;
#[path = "firewall/isolation.rs"]
mod isolation;
#[path = "firewall/nat.rs"]
mod nat;
#[path = "firewall/repair.rs"]
mod repair;
#[path = "firewall/site.rs"]
mod site;
#[path = "firewall/tools.rs"]
mod tools;
