//! The C ABI. `include/mesos_overlay.h` is its contract; here pointers become
//! values, and values pointers.
//!
//! No panic leaves a function of this module: what runs the machines is caught in
//! [`Node`], everything else here.

use std::ffi::{CStr, c_char, c_void};
use std::str;

use bytes::Bytes;
use overlay_core::config::AuthenticateHttp;
use overlay_core::metrics::Metric;
use overlay_core::protocol::routes::{Access, RouteSpec};
use overlay_core::{Request, RequestId, StoreOutcome, Upid};
use parking_lot::Mutex;

use crate::runtime::{Node, Refused, catch};
use arguments::{bytes, pairs, text};
use effect::Held;
pub use types::*;

mod arguments;
mod create;
mod effect;
mod manifest;
#[cfg(test)]
mod tests;
mod types;

/// `mo_node`.
#[allow(non_camel_case_types)]
pub struct mo_node(Mutex<Inner>);

struct Inner {
    node: Node,
    /// What the pointers of the last effect point to.
    held: Held,
    /// What the names of the metrics point to.
    metrics: Vec<Metric>,
}

impl mo_node {
    fn boxed(node: Node) -> *mut mo_node {
        Box::into_raw(Box::new(mo_node(Mutex::new(Inner {
            node,
            held: Held::default(),
            metrics: Vec::new(),
        }))))
    }
}

impl From<Refused> for MoResult {
    fn from(refused: Refused) -> MoResult {
        match refused {
            Refused::State => MoResult::State,
            Refused::Invalid => MoResult::Invalid,
        }
    }
}

/// Runs `call` on the node, alone, and lets no panic out.
///
/// # Safety
/// `node` is NULL or came from `mo_master_new`/`mo_agent_new` and was not freed.
unsafe fn enter(
    node: *const mo_node,
    call: impl FnOnce(&mut Inner) -> Result<(), MoResult>,
) -> MoResult {
    // SAFETY: the caller's promise; the mutex makes shared access enough.
    let Some(node) = (unsafe { node.as_ref() }) else {
        return MoResult::Null;
    };
    let Some(mut inner) = node.0.try_lock() else {
        return MoResult::Busy;
    };
    match catch(|| call(&mut inner)) {
        Ok(Err(result)) => return result,
        Ok(Ok(())) => {}
        // Not in the machine, but between it and the ABI: the node starts anew all
        // the same, since nobody knows how far the call came.
        Err(panic) => drop(catch(|| inner.node.crashed(&panic))),
    }
    if inner.node.take_panicked() {
        MoResult::Panic
    } else {
        MoResult::Ok
    }
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn mo_abi_version() -> u32 {
    ABI_VERSION
}

/// See the header.
#[unsafe(no_mangle)]
pub extern "C" fn mo_result_text(result: u32) -> *const c_char {
    let text: &CStr = match result {
        0 => c"ok",
        1 => c"a defect was caught; the node starts again",
        2 => c"a pointer is NULL",
        3 => c"an argument is invalid",
        4 => c"the configuration cannot be used; the log says why",
        5 => c"not allowed in this state",
        6 => c"another call on this node has not returned",
        7 => c"there is no such element",
        _ => c"unknown result",
    };
    text.as_ptr()
}

/// See the header.
///
/// # Safety
/// `node` came from `mo_master_new`/`mo_agent_new` and was not freed, or is NULL;
/// nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_free(node: *mut mo_node) {
    if node.is_null() {
        return;
    }
    // SAFETY: not NULL, so it came from `mo_node::boxed`, and is freed once.
    let node = unsafe { Box::from_raw(node) };
    let _ = catch(|| drop(node));
}

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_endpoint(
    node: *const mo_node,
    index: usize,
    endpoint: *mut MoEndpoint,
) -> MoResult {
    // SAFETY: the caller's promise.
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

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_metric(
    node: *mut mo_node,
    index: usize,
    metric: *mut MoMetric,
) -> MoResult {
    // SAFETY: the caller's promise; the names are in `metrics`, which lives in the
    // node and changes with index 0 only.
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

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_start(node: *mut mo_node, self_: MoBytes) -> MoResult {
    // SAFETY: the caller's promise.
    unsafe { enter(node, |inner| Ok(inner.node.start(pid(self_)?)?)) }
}

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_message(
    node: *mut mo_node,
    from: MoBytes,
    name: MoBytes,
    body: MoBytes,
) -> MoResult {
    // SAFETY: the caller's promise.
    unsafe {
        enter(node, |inner| {
            let (name, body) = (bytes(name)?, Bytes::copy_from_slice(bytes(body)?));
            let sender = text(from)?;
            let (Ok(from), Ok(name)) = (pid(from), str::from_utf8(name)) else {
                inner.node.malformed(
                    &sender,
                    "a message whose sender is no pid or whose name is no text",
                );
                return Err(MoResult::Invalid);
            };
            Ok(inner.node.message(from, name.to_owned(), body)?)
        })
    }
}

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_request(
    node: *mut mo_node,
    request: *const MoRequest,
) -> MoResult {
    // SAFETY: the caller's promise.
    unsafe {
        enter(node, |inner| {
            check_size(request)?;
            let request = request.read();
            Ok(inner.node.request(Request {
                id: RequestId(request.id),
                method: text(request.method)?,
                path: text(request.path)?,
                query: pairs(request.query, request.query_count)?.collect(),
                accept: if request.accept.ptr.is_null() {
                    None
                } else {
                    Some(text(request.accept)?)
                },
                body: Bytes::copy_from_slice(bytes(request.body)?),
            })?)
        })
    }
}

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_exited(node: *mut mo_node, peer: MoBytes) -> MoResult {
    // SAFETY: the caller's promise.
    unsafe { enter(node, |inner| Ok(inner.node.exited(pid(peer)?)?)) }
}

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_leader(
    node: *mut mo_node,
    master_info: *const MoBytes,
) -> MoResult {
    // SAFETY: the caller's promise.
    unsafe {
        enter(node, |inner| {
            let leader = match master_info.as_ref() {
                None => None,
                Some(info) => {
                    let Some(leader) = arguments::master_info(bytes(*info)?) else {
                        inner
                            .node
                            .malformed("the master detector", "a leader without a usable address");
                        return Err(MoResult::Invalid);
                    };
                    Some(leader)
                }
            };
            Ok(inner.node.leader(leader)?)
        })
    }
}

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_detect_failed(node: *mut mo_node, reason: MoBytes) -> MoResult {
    // SAFETY: the caller's promise.
    unsafe {
        enter(node, |inner| {
            Ok(inner.node.detect_failed(&text(reason)?)?)
        })
    }
}

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_fetched(
    node: *mut mo_node,
    id: u64,
    outcome: u32,
    detail: MoBytes,
) -> MoResult {
    // SAFETY: the caller's promise.
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

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_stored(
    node: *mut mo_node,
    id: u64,
    outcome: u32,
    detail: MoBytes,
) -> MoResult {
    // SAFETY: the caller's promise.
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

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_tick(node: *mut mo_node) -> MoResult {
    // SAFETY: the caller's promise.
    unsafe { enter(node, |inner| Ok(inner.node.tick()?)) }
}

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_node_poll(node: *mut mo_node, effect: *mut MoEffect) -> MoResult {
    // SAFETY: the caller's promise; the effect's pointers lead into `held`, which
    // lives in the node and changes with the next call only.
    unsafe {
        enter(node, |inner| {
            check_size(effect)?;
            // Filled in even if the rest panics: the caller comes back at once.
            (*effect).kind = MoEffectKind::None;
            (*effect).as_.none = MoNone { deadline_ms: 0 };
            let (kind, as_) = inner.held.hold(inner.node.poll()?);
            (*effect).kind = kind;
            (*effect).as_ = as_;
            Ok(())
        })
    }
}

/// `MO_ENDPOINT_*` of an endpoint.
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

/// Whether the structure is as large as this version of it.
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

/// # Safety
/// `text` is valid as the header says.
unsafe fn pid(text: MoBytes) -> Result<Upid, MoResult> {
    // SAFETY: the caller's promise.
    let text = str::from_utf8(unsafe { bytes(text)? }).map_err(|_| MoResult::Invalid)?;
    text.parse().map_err(|_| MoResult::Invalid)
}

/// See the header.
///
/// # Safety
/// `function` may be called from any thread with `ctx` until it is replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_set_logger(function: MoLogFn, ctx: *mut c_void) -> MoResult {
    // SAFETY: the caller's promise.
    match catch(|| unsafe { create::set_logger(function, ctx) }) {
        Ok(()) => MoResult::Ok,
        Err(_) => MoResult::Panic,
    }
}

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_master_new(
    options: *const MoOptions,
    node: *mut *mut mo_node,
) -> MoResult {
    // SAFETY: the caller's promise.
    unsafe { create::new(crate::runtime::Role::Master, options, node) }
}

/// See the header.
///
/// # Safety
/// The pointers are NULL or valid as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mo_agent_new(
    options: *const MoOptions,
    node: *mut *mut mo_node,
) -> MoResult {
    // SAFETY: the caller's promise.
    unsafe { create::new(crate::runtime::Role::Agent, options, node) }
}
