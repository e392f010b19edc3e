//! Load generator for a real Mesos master with the module: any number of simulated agents on one
//! thread. They use libprocess's wire format on addresses of 127.0.0.0/8, so the generator must
//! run in a network namespace of its own ([`testbed::net::isolated`]).
pub mod agents;
pub mod failover;
pub mod generator;
pub mod measure;
pub mod round;
pub mod wire;

pub use round::{Measured, Module, run};
