//! DNS server for the names of a Mesos cluster's containers.
//!
//! [`cluster`] is the table of tasks that the events of a master's operator API describe, [`records`]
//! are the DNS records of a task, and [`zone`] holds them by name with the changes since earlier
//! serials. These are pure: time is an argument. [`server`] answers questions from the zones.

pub mod cluster;
pub mod events;
pub mod label;
pub mod publisher;
pub mod records;
pub mod server;
pub mod snapshot;
pub mod zone;
