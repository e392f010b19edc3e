//! The contract between the agent and its host: desired state out, reports in.

pub mod desired;
pub mod engine;
pub mod peer_map;
pub mod report;
pub mod usage;
