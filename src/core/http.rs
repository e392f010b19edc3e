//! HTTP as the endpoints see it: whole requests in, whole responses out. Parsing,
//! connections and encodings are libprocess's.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Names a request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// One request for an endpoint of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For the answer.
    pub id: RequestId,
    /// `GET`, `HEAD`, `POST`, …
    pub method: String,
    /// The whole path, with our process id in front: `/overlay-master/state`.
    pub path: String,
    /// The decoded query.
    pub query: BTreeMap<String, String>,
    /// The `Accept` header.
    pub accept: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The `Content-Type` header.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}
