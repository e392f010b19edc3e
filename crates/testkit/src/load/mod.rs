//! Load for a master: a real Mesos master with the module, and any number of agents that are
//! one thread. It speaks libprocess's wire from addresses of 127.0.0.0/8, so it has to be in a
//! network of its own ([`testbed::net::isolated`]).
pub mod agents;
pub mod failover;
pub mod generator;
pub mod measure;
pub mod round;
pub mod wire;

pub use round::{Measured, Module, run};
