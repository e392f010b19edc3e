//! The contract between the agent and its host: desired state out, reports in.

pub mod desired;
pub mod engine;
pub mod names;
pub mod problem;
pub mod report;
pub mod usage;
