//! The bytes of the log, of the messages and of the endpoints, compared with recorded ones.
//!
//! Other clusters' logs and other releases' processes hold such bytes: a change of one of
//! these files is a change of the format. `UPDATE_FIXTURES=1` records them anew. Packed
//! peers and digests may change with another zlib or another hash of the standard library,
//! which is no change of the format.

mod agent;
mod fixture;
mod master;
mod messages;
mod scripts;
mod states;
