//! Bytes across the C ABI, into a master (an agent would have hands on this host):
//! any bytes in the place of texts, answers to questions that nobody asked. Every call
//! comes back with a result, and none of them is that there was a panic.

use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use mesos_overlay::ffi::{
    MoBytes, MoEffect, MoEffectKind, MoMetric, MoNone, MoOptions, MoPair, MoRequest, MoResult,
    MoSeverity, mo_master_new, mo_node, mo_node_exited, mo_node_fetched, mo_node_free,
    mo_node_leader, mo_node_message, mo_node_metric, mo_node_poll, mo_node_request, mo_node_start,
    mo_node_stored, mo_node_tick, mo_set_logger,
};

use crate::is_line;
use crate::steps;
use crate::steps::Step;

const CONFIG: &str = r#"{"replicated_log_dir": "/nowhere", "network": {"vtep_subnet": "44.128.0.0/28",
    "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{"name": "dcos", "subnet": "9.0.0.0/24", "prefix": 28}]}}"#;

static NOW: AtomicU64 = AtomicU64::new(0);

extern "C" fn now(_: *mut c_void) -> u64 {
    NOW.load(Ordering::Relaxed)
}

/// A panic in here ends the process, which is as good as one outside.
extern "C" fn log(_: *mut c_void, _: MoSeverity, line: MoBytes) {
    assert!(is_line(&String::from_utf8_lossy(&copy(line))));
}

/// The configuration as a file, which outlives the process by as long as `/tmp` does.
fn config() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let file = tempfile::NamedTempFile::new().expect("no file");
        std::fs::write(file.path(), CONFIG).expect("cannot write the configuration");
        file.into_temp_path()
            .keep()
            .expect("cannot keep the configuration")
    })
}

/// What somebody lends.
fn copy(bytes: MoBytes) -> Vec<u8> {
    if bytes.len == 0 {
        return Vec::new();
    }
    // SAFETY: the library lends what is valid until the next call.
    unsafe { std::slice::from_raw_parts(bytes.ptr, bytes.len) }.to_vec()
}

pub(crate) fn run(data: &[u8]) {
    NOW.store(0, Ordering::Relaxed);
    let mut driver = Driver::new();
    for step in steps::read(data) {
        let result = driver.happens(&step);
        assert_ne!(result, MoResult::Panic, "{step:?}");
        driver.drain();
    }
}

struct Driver {
    node: *mut mo_node,
    /// The ids of the last read and the last write.
    fetch: u64,
    store: u64,
    requests: u64,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: it came from `mo_master_new`, and nobody uses it any more.
        unsafe { mo_node_free(self.node) }
    }
}

impl Driver {
    fn new() -> Driver {
        let path = config().to_str().expect("a path of /tmp").as_bytes();
        let parameter = MoPair {
            key: MoBytes::lend(b"master_config"),
            value: MoBytes::lend(path),
        };
        let options = MoOptions {
            size: size_of::<MoOptions>(),
            parameters: &raw const parameter,
            parameter_count: 1,
            wake: None,
            wake_ctx: std::ptr::null_mut(),
            now_ms: Some(now),
            now_ctx: std::ptr::null_mut(),
            seed: 1,
        };
        let mut node = std::ptr::null_mut();
        // SAFETY: the callbacks use no context, and all pointers are valid.
        let result = unsafe {
            mo_set_logger(Some(log), std::ptr::null_mut());
            mo_master_new(&raw const options, &raw mut node)
        };
        assert_eq!(result, MoResult::Ok);
        let mut driver = Driver {
            node,
            fetch: 0,
            store: 0,
            requests: 0,
        };
        // SAFETY: the node is there.
        let result =
            unsafe { mo_node_start(node, MoBytes::lend(b"overlay-master@10.0.0.250:5050")) };
        assert_eq!(result, MoResult::Ok);
        driver.drain();
        driver
    }

    /// Takes everything that the node wants.
    fn drain(&mut self) {
        loop {
            let as_ = mesos_overlay::ffi::MoEffectAs {
                none: MoNone { deadline_ms: 0 },
            };
            let mut effect = MoEffect {
                size: size_of::<MoEffect>(),
                kind: MoEffectKind::None,
                as_,
            };
            // SAFETY: node and effect are valid.
            let result = unsafe { mo_node_poll(self.node, &raw mut effect) };
            assert_eq!(result, MoResult::Ok);
            // SAFETY: `kind` says which member of the union is set.
            unsafe {
                match effect.kind {
                    MoEffectKind::None => return,
                    MoEffectKind::Fetch => self.fetch = effect.as_.fetch.id,
                    MoEffectKind::Store => {
                        self.store = effect.as_.store.id;
                        copy(effect.as_.store.value);
                    }
                    MoEffectKind::Respond => _ = copy(effect.as_.respond.body),
                    MoEffectKind::Send => {
                        let send = effect.as_.send;
                        assert!(std::str::from_utf8(&copy(send.to)).is_ok());
                        copy(send.body);
                    }
                    _ => {}
                }
            }
        }
    }

    fn happens(&mut self, step: &Step<'_>) -> MoResult {
        let Step {
            kind,
            argument,
            bytes,
        } = *step;
        let all = MoBytes::lend(bytes);
        let mut parts = bytes.splitn(3, |byte| *byte == 0).map(MoBytes::lend);
        let mut part = || {
            parts.next().unwrap_or(MoBytes {
                ptr: std::ptr::null(),
                len: 0,
            })
        };
        let (first, second, third) = (part(), part(), part());
        // SAFETY: the node is there, and the bytes outlive the calls.
        unsafe {
            match kind % 9 {
                0 => mo_node_message(self.node, first, second, third),
                1 => self.request(argument, first, second, third),
                2 if bytes.is_empty() => mo_node_leader(self.node, std::ptr::null()),
                2 => mo_node_leader(self.node, &raw const all),
                3 => mo_node_fetched(self.node, self.fetch, u32::from(argument % 4), all),
                4 => mo_node_stored(self.node, self.store, u32::from(argument % 4), all),
                5 => mo_node_exited(self.node, all),
                6 => {
                    NOW.fetch_add(u64::from(argument) * 100, Ordering::Relaxed);
                    mo_node_tick(self.node)
                }
                7 => {
                    let name = MoBytes::lend(b"");
                    let mut metric = MoMetric {
                        size: size_of::<MoMetric>(),
                        name,
                        value: 0.0,
                    };
                    mo_node_metric(self.node, argument.into(), &raw mut metric)
                }
                _ => mo_node_fetched(self.node, argument.into(), 0, all),
            }
        }
    }

    fn request(&mut self, argument: u8, path: MoBytes, query: MoBytes, body: MoBytes) -> MoResult {
        self.requests += 1;
        let pair = MoPair {
            key: MoBytes::lend(b"jsonp"),
            value: query,
        };
        let request = MoRequest {
            size: size_of::<MoRequest>(),
            id: self.requests,
            method: MoBytes::lend([&b"GET"[..], b"POST", b"\xff"][usize::from(argument % 3)]),
            path,
            query: &raw const pair,
            query_count: usize::from(argument & 4 != 0),
            accept: query,
            body,
        };
        // SAFETY: the node is there, and all pointers are valid.
        unsafe { mo_node_request(self.node, &raw const request) }
    }
}
