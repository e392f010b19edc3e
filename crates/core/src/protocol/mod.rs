//! Messages between master and agent, and the HTTP endpoints.

pub mod forgery;
pub mod http;
pub mod limits;
pub mod messages;
pub mod peer_list_codec;
pub mod reports;
pub mod routes;
pub mod session;
pub mod upid;
pub mod versions;
pub mod views;
pub mod wire_limits;
