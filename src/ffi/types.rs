//! Types of `include/mesos_overlay.h`, which documents them. The test `c_abi` compares
//! layouts, signatures and values with the header.
#![allow(missing_docs)]

use std::ffi::c_void;

/// `MO_ABI_VERSION`.
pub const ABI_VERSION: u32 = 0x0001_0005;
/// `MO_NEVER`.
pub const NEVER: u64 = u64::MAX;
/// `MO_ENDPOINT_WRITES`.
pub const ENDPOINT_WRITES: u64 = 1;
/// `MO_ENDPOINT_READS`.
pub const ENDPOINT_READS: u64 = 2;
/// `MO_ENDPOINT_TREE`.
pub const ENDPOINT_TREE: u64 = 4;

/// `mo_result`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoResult {
    Ok = 0,
    Panic = 1,
    Null = 2,
    Invalid = 3,
    Config = 4,
    State = 5,
    Busy = 6,
    End = 7,
}

/// `mo_severity`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoSeverity {
    Info = 0,
    Warning = 1,
    Error = 2,
}

/// `mo_outcome`. Arguments of this type are plain numbers, since a caller may pass any.
pub mod outcome {
    pub const DONE: u32 = 0;
    pub const SUPERSEDED: u32 = 1;
    pub const FAILED: u32 = 2;
}

/// `mo_effect_kind`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoEffectKind {
    None = 0,
    Send = 1,
    Link = 2,
    Respond = 3,
    Detect = 4,
    OpenLog = 5,
    Fetch = 6,
    Store = 7,
}

/// `mo_bytes`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoBytes {
    pub ptr: *const u8,
    pub len: usize,
}

impl MoBytes {
    /// Borrows `bytes`; see OWNERSHIP in the header for how long.
    pub fn lend(bytes: &[u8]) -> MoBytes {
        MoBytes {
            ptr: bytes.as_ptr(),
            len: bytes.len(),
        }
    }
}

/// `mo_pair`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoPair {
    pub key: MoBytes,
    pub value: MoBytes,
}

/// `mo_log_fn`.
pub type MoLogFn =
    Option<unsafe extern "C" fn(ctx: *mut c_void, severity: MoSeverity, line: MoBytes)>;

/// `mo_options`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoOptions {
    pub size: usize,
    pub parameters: *const MoPair,
    pub parameter_count: usize,
    pub wake: Option<unsafe extern "C" fn(ctx: *mut c_void)>,
    pub wake_ctx: *mut c_void,
    pub now_ms: Option<unsafe extern "C" fn(ctx: *mut c_void) -> u64>,
    pub now_ctx: *mut c_void,
    pub seed: u64,
}

/// `mo_endpoint`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoEndpoint {
    pub size: usize,
    pub path: MoBytes,
    pub help: MoBytes,
    pub flags: u64,
}

/// `mo_metric`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoMetric {
    pub size: usize,
    pub name: MoBytes,
    pub value: f64,
}

/// `mo_request`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoRequest {
    pub size: usize,
    pub id: u64,
    pub method: MoBytes,
    pub path: MoBytes,
    pub query: *const MoPair,
    pub query_count: usize,
    pub accept: MoBytes,
    pub body: MoBytes,
    pub host: MoBytes,
    pub origin: MoBytes,
    pub sec_fetch_site: MoBytes,
    pub content_type: MoBytes,
    pub client: MoBytes,
    pub if_none_match: MoBytes,
}

/// `mo_none`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoNone {
    pub deadline_ms: u64,
}

/// `mo_send`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoSend {
    pub to: MoBytes,
    pub name: MoBytes,
    pub body: MoBytes,
}

/// `mo_link`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoLink {
    pub to: MoBytes,
    pub reconnect: u8,
}

/// `mo_respond`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoRespond {
    pub id: u64,
    pub status: u16,
    pub content_type: MoBytes,
    pub headers: *const MoPair,
    pub header_count: usize,
    pub body: MoBytes,
    pub file: MoBytes,
}

/// `mo_detect`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoDetect {
    pub master: MoBytes,
}

/// `mo_open_log`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoOpenLog {
    pub quorum: u32,
    pub path: MoBytes,
    pub zk_servers: MoBytes,
    pub zk_path: MoBytes,
    pub zk_session_timeout_ms: u64,
    pub zk_scheme: MoBytes,
    pub zk_credentials: MoBytes,
    pub metrics_prefix: MoBytes,
}

/// `mo_fetch`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoFetch {
    pub id: u64,
    pub name: MoBytes,
    pub reopen: u8,
}

/// `mo_store`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MoStore {
    pub id: u64,
    pub name: MoBytes,
    pub value: MoBytes,
}

/// The union in `mo_effect`.
#[repr(C)]
#[derive(Clone, Copy)]
pub union MoEffectAs {
    pub none: MoNone,
    pub send: MoSend,
    pub link: MoLink,
    pub respond: MoRespond,
    pub detect: MoDetect,
    pub open_log: MoOpenLog,
    pub fetch: MoFetch,
    pub store: MoStore,
}

/// `mo_effect`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MoEffect {
    pub size: usize,
    pub kind: MoEffectKind,
    pub as_: MoEffectAs,
}
