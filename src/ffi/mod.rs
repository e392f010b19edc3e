//! The C ABI of `include/mesos_overlay.h`, which has its contract. This module converts
//! between pointers and values.
//!
//! Panics do not leave a function of this module: [`Node`] catches those of the machine,
//! and [`enter`] all others.
//!
//! # Safety
//!
//! Every function demands that its pointers are NULL or valid as the header says under
//! OWNERSHIP and at the declaration of the function, that no freed node is passed in, and
//! that callbacks may be called from any thread. Calls on one node may overlap: all but
//! one of them return `MO_BUSY`.
#![allow(
    clippy::missing_safety_doc,
    reason = "the contract is the same for every function and stands in the module's text"
)]

use std::ffi::{CStr, c_char, c_void};
use std::str;

use bytes::Bytes;
use overlay_core::config::AuthenticateHttp;
use overlay_core::metrics::Metric;
use overlay_core::protocol::http::RequestHeaders;
use overlay_core::protocol::limits::{self, MAX_BODY};
use overlay_core::protocol::routes::{Access, RouteSpec};
use overlay_core::util::line::quote;
use overlay_core::{Request, RequestId, StoreOutcome, Upid};
use parking_lot::Mutex;

use crate::runtime::{InputError, Node, Role, catch};
use arguments::{bytes, header, pairs, text};
use effect::EffectBuffer;
pub use types::*;

mod arguments;
mod create;
mod effect;
mod manifest;
#[cfg(test)]
mod tests;
mod types;

/// `mo_node`. The lock detects calls that overlap.
#[allow(non_camel_case_types, reason = "the name in the header")]
pub struct mo_node(Mutex<Inner>);

struct Inner {
    node: Node,
    /// Owner of the data of the last effect.
    effect: EffectBuffer,
    /// Owner of the names of the metrics that were sampled last.
    metrics: Vec<Metric>,
}

impl mo_node {
    fn boxed(node: Node) -> *mut mo_node {
        Box::into_raw(Box::new(mo_node(Mutex::new(Inner {
            node,
            effect: EffectBuffer::default(),
            metrics: Vec::new(),
        }))))
    }
}

impl From<InputError> for MoResult {
    fn from(error: InputError) -> MoResult {
        match error {
            InputError::State => MoResult::State,
            InputError::Invalid => MoResult::Invalid,
        }
    }
}

/// Runs `call` on the node unless another call is running, and catches panics.
///
/// # Safety
/// `node` is NULL or came from `mo_master_new`/`mo_agent_new` and was not freed.
unsafe fn enter(
    node: *const mo_node,
    call: impl FnOnce(&mut Inner) -> Result<(), MoResult>,
) -> MoResult {
    // SAFETY: guaranteed by the caller; the mutex allows shared access.
    let Some(node) = (unsafe { node.as_ref() }) else {
        return MoResult::Null;
    };
    let Some(mut inner) = node.0.try_lock() else {
        return MoResult::Busy;
    };
    match catch(|| call(&mut inner)) {
        Ok(Err(result)) => return result,
        Ok(Ok(())) => {}
        // A panic outside of the machine. The machine is replaced, too, since the call may
        // have left the node in an inconsistent state.
        Err(panic) => drop(catch(|| inner.node.crashed(&panic))),
    }
    if inner.node.take_panicked() {
        MoResult::Panic
    } else {
        MoResult::Ok
    }
}

/// Returns the ABI version of this library.
#[unsafe(no_mangle)]
pub extern "C" fn mo_abi_version() -> u32 {
    ABI_VERSION
}

/// Returns a short description of a result.
#[unsafe(no_mangle)]
pub extern "C" fn mo_result_text(result: u32) -> *const c_char {
    let text: &CStr = match result {
        0 => c"ok",
        1 => c"a panic was caught; the node starts again",
        2 => c"a pointer is NULL",
        3 => c"an argument is invalid",
        4 => c"the configuration is invalid; the log has the reason",
        5 => c"not allowed in this state",
        6 => c"another call on this node has not returned",
        7 => c"there is no such element",
        _ => c"unknown result",
    };
    text.as_ptr()
}

/// Frees a node and waits for its threads.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_free(node: *mut mo_node) {
    if node.is_null() {
        return;
    }
    // SAFETY: not NULL, so it came from `mo_node::boxed`, and is freed once.
    let node = unsafe { Box::from_raw(node) };
    let _ = catch(|| drop(node));
}

/// Describes one HTTP endpoint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_endpoint(
    node: *const mo_node,
    index: usize,
    endpoint: *mut MoEndpoint,
) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe {
        enter(node, |inner| {
            check_size(endpoint)?;
            let found = inner
                .node
                .role()
                .endpoints()
                .get(index)
                .ok_or(MoResult::End)?;
            endpoint.write(MoEndpoint {
                size: (*endpoint).size,
                path: MoBytes::lend(found.path.as_bytes()),
                help: MoBytes::lend(found.help.as_bytes()),
                flags: flags(inner.node.authenticate_http(), found),
            });
            Ok(())
        })
    }
}

/// Returns one metric; index 0 takes a new sample of all metrics.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_metric(
    node: *mut mo_node,
    index: usize,
    metric: *mut MoMetric,
) -> MoResult {
    // SAFETY: guaranteed by the caller; the names are in `metrics`, which lives in the node
    // and changes with index 0 only.
    unsafe {
        enter(node, |inner| {
            check_size(metric)?;
            if index == 0 {
                inner.metrics = inner.node.metrics();
            }
            let Metric { name, value } = inner.metrics.get(index).ok_or(MoResult::End)?;
            (*metric).name = MoBytes::lend(name.as_bytes());
            (*metric).value = *value;
            Ok(())
        })
    }
}

/// Starts the node as a libprocess process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_start(node: *mut mo_node, self_: MoBytes) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe { enter(node, |inner| Ok(inner.node.start(pid(self_)?)?)) }
}

/// Handles a libprocess message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_message(
    node: *mut mo_node,
    from: MoBytes,
    name: MoBytes,
    body: MoBytes,
) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe {
        enter(node, |inner| {
            let (name, body) = (bytes(name)?, bytes(body)?);
            let sender = text(from)?;
            let (Ok(from), Ok(name)) = (pid(from), str::from_utf8(name)) else {
                inner.node.log_dropped_input(
                    &quote(&sender),
                    "a message whose sender is not a pid or whose name is not UTF-8",
                );
                return Err(MoResult::Invalid);
            };
            // The machine refuses a message with more bytes, so it needs no more of it.
            let body = Bytes::copy_from_slice(prefix(body, limits::of_message(name).bytes + 1));
            Ok(inner.node.message(from, name.to_owned(), body)?)
        })
    }
}

/// Handles an HTTP request, which is answered by an effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_request(
    node: *mut mo_node,
    request: *const MoRequest,
) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe {
        enter(node, |inner| {
            let request = arguments::request(request)?;
            let client = header(request.client)?.and_then(|client| client.parse().ok());
            let request = Request {
                id: RequestId(request.id),
                method: text(request.method)?,
                path: text(request.path)?,
                query: pairs(request.query, request.query_count)?.collect(),
                accept: header(request.accept)?,
                headers: RequestHeaders {
                    host: header(request.host)?,
                    origin: header(request.origin)?,
                    sec_fetch_site: header(request.sec_fetch_site)?,
                    content_type: header(request.content_type)?,
                    if_none_match: header(request.if_none_match)?,
                },
                // The machine refuses a longer one.
                body: Bytes::copy_from_slice(prefix(bytes(request.body)?, MAX_BODY + 1)),
            };
            Ok(inner.node.request(request, client)?)
        })
    }
}

/// Handles the end of the connection to a linked process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_exited(node: *mut mo_node, peer: MoBytes) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe { enter(node, |inner| Ok(inner.node.exited(pid(peer)?)?)) }
}

/// Handles a change of the leading Mesos master.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_leader(
    node: *mut mo_node,
    master_info: *const MoBytes,
) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe {
        enter(node, |inner| {
            let leader = match master_info.as_ref() {
                None => None,
                Some(info) => {
                    let Some(leader) = arguments::master_info(bytes(*info)?) else {
                        inner.node.log_dropped_input(
                            "the master detector",
                            "a leader without a usable address",
                        );
                        return Err(MoResult::Invalid);
                    };
                    Some(leader)
                }
            };
            Ok(inner.node.leader(leader)?)
        })
    }
}

/// Handles the failure of the detection of the leader.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_detect_failed(node: *mut mo_node, reason: MoBytes) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe {
        enter(node, |inner| {
            Ok(inner.node.detect_failed(&text(reason)?)?)
        })
    }
}

/// Handles the answer to a read of the replicated log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_fetched(
    node: *mut mo_node,
    id: u64,
    outcome: u32,
    detail: MoBytes,
) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe {
        enter(node, |inner| {
            let result = match outcome {
                outcome::DONE => Ok(Bytes::copy_from_slice(bytes(detail)?)),
                outcome::FAILED => Err(text(detail)?),
                _ => return Err(MoResult::Invalid),
            };
            Ok(inner.node.fetched(id, result)?)
        })
    }
}

/// Handles the answer to a write of the replicated log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_stored(
    node: *mut mo_node,
    id: u64,
    outcome: u32,
    detail: MoBytes,
) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe {
        enter(node, |inner| {
            let outcome = match outcome {
                outcome::DONE => StoreOutcome::Stored,
                outcome::SUPERSEDED => StoreOutcome::Superseded,
                outcome::FAILED => StoreOutcome::Failed(text(detail)?),
                _ => return Err(MoResult::Invalid),
            };
            Ok(inner.node.stored(id, outcome)?)
        })
    }
}

/// Does what is due by now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_tick(node: *mut mo_node) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe { enter(node, |inner| Ok(inner.node.tick()?)) }
}

/// Returns the next effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_poll(node: *mut mo_node, effect: *mut MoEffect) -> MoResult {
    // SAFETY: guaranteed by the caller; the pointers of the effect point into the buffer,
    // which lives in the node and changes with the next call only.
    unsafe {
        enter(node, |inner| {
            check_size(effect)?;
            // Set in case the rest panics: then the caller polls again at once.
            (*effect).kind = MoEffectKind::None;
            (*effect).as_.none = MoNone { deadline_ms: 0 };
            let (kind, as_) = inner.effect.fill(inner.node.poll()?);
            (*effect).kind = kind;
            (*effect).as_ = as_;
            Ok(())
        })
    }
}

/// Returns the `MO_ENDPOINT_*` flags of an endpoint.
fn flags(authenticate: AuthenticateHttp, endpoint: &RouteSpec) -> u64 {
    let access = match endpoint.access {
        access if !authenticate.covers(access) => 0,
        Access::Writers => ENDPOINT_WRITES,
        Access::Readers | Access::Anyone => ENDPOINT_READS,
    };
    access
        | if endpoint.includes_subpaths {
            ENDPOINT_TREE
        } else {
            0
        }
}

/// Checks that the caller's version of a structure has all fields of this version.
///
/// # Safety
/// `structure` is NULL or points to a structure that begins with its size.
unsafe fn check_size<T>(structure: *const T) -> Result<(), MoResult> {
    if structure.is_null() {
        return Err(MoResult::Null);
    }
    // SAFETY: not NULL, so at least its first field is there.
    let size = unsafe { structure.cast::<usize>().read() };
    if size < size_of::<T>() {
        Err(MoResult::Invalid)
    } else {
        Ok(())
    }
}

/// Returns the first `length` bytes.
fn prefix(bytes: &[u8], length: usize) -> &[u8] {
    bytes.get(..length).unwrap_or(bytes)
}

/// Parses a pid.
///
/// # Safety
/// `text` is valid as the header says.
unsafe fn pid(text: MoBytes) -> Result<Upid, MoResult> {
    // SAFETY: guaranteed by the caller.
    let text = str::from_utf8(unsafe { bytes(text)? }).map_err(|_| MoResult::Invalid)?;
    text.parse().map_err(|_| MoResult::Invalid)
}

/// Sets the receiver of all log lines of the process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_set_logger(function: MoLogFn, ctx: *mut c_void) -> MoResult {
    // SAFETY: guaranteed by the caller.
    match catch(|| unsafe { create::set_logger(function, ctx) }) {
        Ok(()) => MoResult::Ok,
        Err(_) => MoResult::Panic,
    }
}

/// Creates a master from its configuration file and the environment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_master_new(
    options: *const MoOptions,
    node: *mut *mut mo_node,
) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe { create::new(Role::Master, options, node) }
}

/// Creates an agent from its configuration file and the environment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_agent_new(
    options: *const MoOptions,
    node: *mut *mut mo_node,
) -> MoResult {
    // SAFETY: guaranteed by the caller.
    unsafe { create::new(Role::Agent, options, node) }
}
