//! Paths of packets between hosts and containers: what the master says of them, and what the
//! kernel of this host does.

pub mod entries;
pub mod local;
pub mod model;
pub mod source;
