//! The name server on real sockets, asked by real clients and copied by real secondaries.

mod answers;
mod forwarding;
mod http;
mod limits;
mod secondaries;
mod support;
