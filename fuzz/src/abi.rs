//! Arbitrary bytes through the C ABI into a master. (An agent would change this host.)
//!
//! The target calls the declarations of the header, as a C program does: any bytes stand for
//! texts, and answers arrive that no effect asked for. Every call must return, and not with
//! `MO_PANIC`.

use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

// The library that the declarations belong to.
use mesos_overlay as _;
use mesos_overlay_sys::*;

use crate::is_line;
use crate::steps;
use crate::steps::Step;

const CONFIG: &str = r#"{"replicated_log_dir": "/nowhere", "network": {"vtep_subnet": "44.128.0.0/28",
    "vtep_mac_oui": "70:B3:D5:00:00:00", "overlays": [{"name": "dcos", "subnet": "9.0.0.0/24", "prefix": 28}]}}"#;

static NOW: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn now(_: *mut c_void) -> u64 {
    NOW.load(Ordering::Relaxed)
}

/// Checks a log line. A panic in this function ends the process, which reports it.
unsafe extern "C" fn log(_: *mut c_void, _: mo_severity, line: mo_bytes) {
    assert!(is_line(&String::from_utf8_lossy(&copy(line))));
}

/// Returns the configuration file. It stays in `/tmp` after the end of the process.
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

fn lend(bytes: &[u8]) -> mo_bytes {
    mo_bytes {
        ptr: bytes.as_ptr(),
        len: bytes.len(),
    }
}

/// Copies bytes that the library lends.
fn copy(bytes: mo_bytes) -> Vec<u8> {
    if bytes.len == 0 {
        return Vec::new();
    }
    // SAFETY: the library guarantees that they are valid until the next call.
    unsafe { std::slice::from_raw_parts(bytes.ptr, bytes.len) }.to_vec()
}

pub(crate) fn run(data: &[u8]) {
    NOW.store(0, Ordering::Relaxed);
    let mut driver = Driver::new();
    for step in steps::read(data) {
        let result = driver.input(&step);
        assert_ne!(result, MO_PANIC, "{step:?}");
        driver.drain();
    }
}

struct Driver {
    node: *mut mo_node,
    /// Ids of the last read and the last write.
    fetch: u64,
    store: u64,
    requests: u64,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: the node came from `mo_master_new` and is not used any more.
        unsafe { mo_node_free(self.node) }
    }
}

impl Driver {
    fn new() -> Driver {
        let path = config().to_str().expect("a path of /tmp").as_bytes();
        let parameter = mo_pair {
            key: lend(b"master_config"),
            value: lend(path),
        };
        let options = mo_options {
            size: size_of::<mo_options>(),
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
        assert_eq!(result, MO_OK);
        let mut driver = Driver {
            node,
            fetch: 0,
            store: 0,
            requests: 0,
        };
        // SAFETY: the node is alive.
        let result = unsafe { mo_node_start(node, lend(b"overlay-master@10.0.0.250:5050")) };
        assert_eq!(result, MO_OK);
        driver.drain();
        driver
    }

    /// Takes all effects.
    fn drain(&mut self) {
        loop {
            let mut effect = mo_effect {
                size: size_of::<mo_effect>(),
                kind: MO_EFFECT_NONE,
                as_: mo_effect__bindgen_ty_1 {
                    none: mo_none { deadline_ms: 0 },
                },
            };
            // SAFETY: node and effect are valid.
            let result = unsafe { mo_node_poll(self.node, &raw mut effect) };
            assert_eq!(result, MO_OK);
            // SAFETY: `kind` is the member of the union that is set.
            unsafe {
                match effect.kind {
                    MO_EFFECT_NONE => return,
                    MO_EFFECT_FETCH => self.fetch = effect.as_.fetch.id,
                    MO_EFFECT_STORE => {
                        self.store = effect.as_.store.id;
                        copy(effect.as_.store.value);
                    }
                    MO_EFFECT_RESPOND => _ = copy(effect.as_.respond.body),
                    MO_EFFECT_SEND => {
                        let send = effect.as_.send;
                        assert!(std::str::from_utf8(&copy(send.to)).is_ok());
                        copy(send.body);
                    }
                    _ => {}
                }
            }
        }
    }

    fn input(&mut self, step: &Step<'_>) -> mo_result {
        let Step {
            kind,
            argument,
            bytes,
        } = *step;
        let all = lend(bytes);
        let mut parts = bytes.splitn(3, |byte| *byte == 0).map(lend);
        let mut part = || {
            parts.next().unwrap_or(mo_bytes {
                ptr: std::ptr::null(),
                len: 0,
            })
        };
        let (first, second, third) = (part(), part(), part());
        // SAFETY: the node is alive, and the bytes outlive the calls.
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
                    let name = lend(b"");
                    let mut metric = mo_metric {
                        size: size_of::<mo_metric>(),
                        name,
                        value: 0.0,
                    };
                    mo_node_metric(self.node, argument.into(), &raw mut metric)
                }
                _ => mo_node_fetched(self.node, argument.into(), 0, all),
            }
        }
    }

    fn request(
        &mut self,
        argument: u8,
        path: mo_bytes,
        query: mo_bytes,
        body: mo_bytes,
    ) -> mo_result {
        self.requests += 1;
        let pair = mo_pair {
            key: lend(b"jsonp"),
            value: query,
        };
        let request = mo_request {
            size: size_of::<mo_request>(),
            id: self.requests,
            method: lend([&b"GET"[..], b"POST", b"\xff"][usize::from(argument % 3)]),
            path,
            query: &raw const pair,
            query_count: usize::from(argument & 4 != 0),
            accept: query,
            body,
            host: path,
            origin: query,
            sec_fetch_site: mo_bytes {
                ptr: std::ptr::null(),
                len: 0,
            },
            content_type: query,
            client: query,
            if_none_match: query,
        };
        // SAFETY: the node is alive, and all pointers are valid.
        unsafe { mo_node_request(self.node, &raw const request) }
    }
}
