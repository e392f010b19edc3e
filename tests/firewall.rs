//! The firewall on a real kernel: what packets look like to those who get them,
//! and which get through. Hosts, containers and the outside are network
//! namespaces, joined by cables of their own.

mod support;

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
