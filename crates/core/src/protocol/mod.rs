//! Messages between master and agent, and the HTTP endpoints.

pub mod http;
pub mod messages;
pub mod peer_list_codec;
pub mod routes;
pub mod session;
pub mod upid;
pub mod views;
