//! The firewall on a real kernel: what packets look like to those who get them,
//! and which get through. Hosts, containers and the outside are network
//! namespaces, joined by cables of their own.
mod cost;
mod engine;
mod isolation;
mod nat;
mod repair;
mod site;
mod tools;
