//! Calls through the C ABI, with valid and invalid arguments.

use super::*;
use std::collections::VecDeque;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod values;

use crate::runtime::{Clock, Host, LogSettings, NodeOptions, Role, Seeds, ZooKeeperSettings};
use overlay_core::config::AuthenticateHttp;
use overlay_core::host_api::desired::Desired;
use overlay_core::host_api::engine::EngineDesired;
use overlay_core::protocol::routes::{Access, RouteSpec};
use overlay_core::{Effect, EngineReport, HostReport, Input, Io, Machine, Response, Time};

/// Machine that does what the name of a message says, echoes other messages, and records its
/// inputs.
struct Echo(VecDeque<Effect>, Arc<Mutex<Vec<Input>>>);

impl Machine for Echo {
    fn handle(&mut self, _: Time, input: Input) {
        self.1.lock().push(input.clone());
        match input {
            Input::Message { from, name, body } => self.0.push_back(match name.as_str() {
                "panic" => panic!("as told"),
                "fetch" => Effect::Fetch { reopen: false },
                "fetch anew" => Effect::Fetch { reopen: true },
                "store" => Effect::Io(Io::Store {
                    number: 7,
                    state: body,
                }),
                "link" => Effect::Io(Io::Link {
                    to: from,
                    reconnect: false,
                }),
                "anew" => Effect::Io(Io::Link {
                    to: from,
                    reconnect: true,
                }),
                _ => Effect::Io(Io::Send {
                    to: from,
                    name: "echo",
                    body,
                    session: Bytes::new(),
                }),
            }),
            Input::Request(Request { id, path, .. }) if path == "/answer" => {
                let mut response = Response::text(418, "short and stout");
                response.headers = vec![
                    ("Location", "/there".to_owned()),
                    ("Allow", "GET".to_owned()),
                ];
                self.0.push_back(Effect::Io(Io::Respond { id, response }));
            }
            _ => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.0.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        None
    }
}

struct NoHost;

impl Host for NoHost {
    fn apply(&mut self, _: u64, _: Arc<Desired>) {}

    fn poll(&mut self) -> Option<HostReport> {
        None
    }

    fn apply_engine(&mut self, _: u64, _: Arc<EngineDesired>) {}

    fn poll_engine(&mut self) -> Option<EngineReport> {
        None
    }
}

struct Handle {
    node: *mut mo_node,
    ms: Arc<AtomicU64>,
    /// Inputs of the machines.
    inputs: Arc<Mutex<Vec<Input>>>,
}

impl Handle {
    fn new() -> Handle {
        Handle::of(None, None)
    }

    fn of(detect: Option<&str>, log: Option<LogSettings>) -> Handle {
        let ms = Arc::new(AtomicU64::new(0));
        let inputs = Arc::new(Mutex::new(Vec::new()));
        let node = mo_node::boxed(Node::new(NodeOptions {
            role: Role::Master,
            factory: Box::new({
                let inputs = inputs.clone();
                move |_| Box::new(Echo(VecDeque::new(), inputs.clone()))
            }),
            detect: detect.map(str::to_owned),
            authenticate_http: AuthenticateHttp::default(),
            log,
            host: Box::new(NoHost),
            clock: Clock::new({
                let ms = ms.clone();
                move || Duration::from_millis(ms.load(Ordering::Relaxed))
            }),
            seeds: Seeds::of(1),
        }));
        Handle { node, ms, inputs }
    }

    fn started() -> Handle {
        let handle = Handle::new();
        handle.start();
        handle
    }

    fn start(&self) {
        let pid = lend("overlay-master@10.0.0.1:5050");
        // SAFETY: the node is alive.
        let result = unsafe { mo_node_start(self.node, pid) };
        assert_eq!(result, MoResult::Ok);
    }

    fn message(&self, name: &str) -> MoResult {
        // SAFETY: the node is alive.
        unsafe { mo_node_message(self.node, lend("a@10.0.0.2:1"), lend(name), lend("body")) }
    }

    fn poll(&self) -> (MoResult, MoEffect) {
        let mut effect = effect(size_of::<MoEffect>());
        // SAFETY: the node is alive, and so is the effect.
        (unsafe { mo_node_poll(self.node, &mut effect) }, effect)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the node is not used any more.
        unsafe { mo_node_free(self.node) }
    }
}

fn lend(text: &str) -> MoBytes {
    MoBytes::lend(text.as_bytes())
}

const NO_BYTES: MoBytes = MoBytes {
    ptr: null(),
    len: 0,
};

fn effect(size: usize) -> MoEffect {
    MoEffect {
        size,
        kind: MoEffectKind::Store,
        as_: MoEffectAs {
            none: MoNone { deadline_ms: 1 },
        },
    }
}

fn request(id: u64) -> MoRequest {
    MoRequest {
        size: size_of::<MoRequest>(),
        id,
        method: lend("GET"),
        path: lend("/overlay-master/state"),
        query: null(),
        query_count: 0,
        accept: NO_BYTES,
        body: NO_BYTES,
        host: NO_BYTES,
        origin: NO_BYTES,
        sec_fetch_site: NO_BYTES,
        content_type: NO_BYTES,
        client: NO_BYTES,
        if_none_match: NO_BYTES,
    }
}

fn metric(size: usize) -> MoMetric {
    MoMetric {
        size,
        name: NO_BYTES,
        value: -1.0,
    }
}

#[test]
fn null_pointers_are_rejected() {
    let null_node = null_mut::<mo_node>();
    let handle = Handle::started();
    let lost = MoBytes {
        ptr: null(),
        len: 5,
    };
    let mut endpoint = MoEndpoint {
        size: size_of::<MoEndpoint>(),
        path: NO_BYTES,
        help: NO_BYTES,
        flags: 0,
    };
    // SAFETY: every pointer is NULL or alive.
    let results = unsafe {
        mo_node_free(null_node);
        [
            mo_node_start(null_node, lend("a@1.2.3.4:5")),
            mo_node_message(null_node, NO_BYTES, NO_BYTES, NO_BYTES),
            mo_node_message(handle.node, lost, lend("name"), NO_BYTES),
            mo_node_message(handle.node, lend("a@1.2.3.4:5"), lend("name"), lost),
            mo_node_request(null_node, &request(1)),
            mo_node_request(handle.node, null()),
            mo_node_request(
                handle.node,
                &MoRequest {
                    query_count: 1,
                    ..request(1)
                },
            ),
            mo_node_exited(null_node, NO_BYTES),
            mo_node_leader(null_node, null()),
            mo_node_leader(handle.node, &lost),
            mo_node_detect_failed(null_node, NO_BYTES),
            mo_node_fetched(null_node, 1, 0, NO_BYTES),
            mo_node_stored(null_node, 1, 0, NO_BYTES),
            mo_node_tick(null_node),
            mo_node_poll(null_node, &mut effect(size_of::<MoEffect>())),
            mo_node_poll(handle.node, null_mut()),
            mo_node_metric(null_node, 0, &mut metric(size_of::<MoMetric>())),
            mo_node_metric(handle.node, 0, null_mut()),
            mo_node_endpoint(null_node, 0, &mut endpoint),
            mo_node_endpoint(handle.node, 0, null_mut()),
            mo_master_new(null(), null_mut()),
            mo_agent_new(null(), null_mut()),
        ]
    };
    assert_eq!(results, [MoResult::Null; 22]);
}

#[test]
fn invalid_arguments_are_rejected_and_change_nothing() {
    let handle = Handle::started();
    let bad = MoBytes::lend(b"\xff\xfe");
    let node = handle.node;
    // SAFETY: every pointer is alive.
    let results = unsafe {
        [
            mo_node_message(node, bad, lend("name"), NO_BYTES),
            mo_node_message(node, lend("no pid"), lend("name"), NO_BYTES),
            mo_node_message(node, lend("a@1.2.3.4:5"), bad, NO_BYTES),
            mo_node_exited(node, bad),
            mo_node_leader(node, &bad),
            mo_node_leader(node, &lend("")),
            mo_node_fetched(node, 1, 1, NO_BYTES),
            mo_node_fetched(node, 1, 99, NO_BYTES),
            mo_node_stored(node, 1, 99, NO_BYTES),
            mo_node_request(
                node,
                &MoRequest {
                    size: 8,
                    ..request(1)
                },
            ),
            mo_node_poll(node, &mut effect(16)),
        ]
    };
    assert_eq!(results, [MoResult::Invalid; 11]);
    let (result, effect) = handle.poll();
    assert_eq!((result, effect.kind), (MoResult::Ok, MoEffectKind::None));
}

/// libprocess sends an answer to `id@ip:port` as `POST /id/…` to that address.
#[test]
fn senders_that_no_libprocess_has_are_dropped() {
    let handle = Handle::started();
    for sender in [
        "v1.40/containers/create?name=x&a=@127.0.0.1:2375",
        "a/b@10.0.0.2:1",
        "a b@10.0.0.2:1",
        "a\nb@10.0.0.2:1",
        "a@10.0.0.2:0",
        "@10.0.0.2:1",
        "",
    ] {
        // SAFETY: the node is alive.
        let result = unsafe { mo_node_message(handle.node, lend(sender), lend("link"), NO_BYTES) };
        assert_eq!(result, MoResult::Invalid, "{sender:?}");
    }
    assert_eq!(handle.poll().1.kind, MoEffectKind::None, "it is answered");
    let is_message = |input: &Input| matches!(input, Input::Message { .. });
    assert!(!handle.inputs.lock().iter().any(is_message));
}

#[test]
fn requests_may_have_invalid_utf8() {
    let handle = Handle::started();
    let bad = MoBytes::lend(b"\xff");
    let pair = MoPair {
        key: bad,
        value: bad,
    };
    let request = MoRequest {
        method: bad,
        path: bad,
        accept: bad,
        query: &pair,
        query_count: 1,
        body: bad,
        ..request(1)
    };
    // SAFETY: every pointer is alive.
    unsafe {
        assert_eq!(mo_node_request(handle.node, &request), MoResult::Ok);
        assert_eq!(
            mo_node_request(handle.node, &request),
            MoResult::Invalid,
            "the id is taken"
        );
    }
}

#[test]
fn inputs_are_rejected_before_the_start_and_a_second_start_too() {
    let handle = Handle::new();
    assert_eq!(handle.message("hello"), MoResult::State);
    assert_eq!(handle.poll().0, MoResult::State);
    // SAFETY: the node is alive.
    unsafe {
        assert_eq!(
            mo_node_start(handle.node, lend("overlay-master")),
            MoResult::Invalid
        );
        assert_eq!(
            mo_node_start(handle.node, lend("overlay-master@10.0.0.1:5050")),
            MoResult::Ok
        );
        assert_eq!(
            mo_node_start(handle.node, lend("overlay-master@10.0.0.1:5050")),
            MoResult::State
        );
    }
}

#[test]
fn ticks_may_come_at_any_time() {
    let handle = Handle::started();
    // SAFETY: the node is alive.
    unsafe {
        assert_eq!(mo_node_tick(handle.node), MoResult::Ok);
        assert_eq!(mo_node_tick(handle.node), MoResult::Ok);
    }
    let (_, effect) = handle.poll();
    // SAFETY: this is the variant of this kind.
    let deadline_ms = unsafe { effect.as_.none.deadline_ms };
    assert_eq!((effect.kind, deadline_ms), (MoEffectKind::None, NEVER));
}

#[test]
fn effects_point_to_their_data() {
    let handle = Handle::started();
    assert_eq!(handle.message("hello"), MoResult::Ok);
    let (result, effect) = handle.poll();
    assert_eq!((result, effect.kind), (MoResult::Ok, MoEffectKind::Send));
    // SAFETY: this is the variant of this kind, and there was no call since.
    unsafe {
        let send = effect.as_.send;
        assert_eq!(bytes(send.to).unwrap(), b"a@10.0.0.2:1");
        assert_eq!(bytes(send.name).unwrap(), b"echo");
        assert_eq!(bytes(send.body).unwrap(), b"body");
    }
    assert_eq!(handle.poll().1.kind, MoEffectKind::None);
}

#[test]
fn a_panic_is_a_result_and_the_node_starts_again() {
    let handle = Handle::started();
    // SAFETY: every pointer is alive.
    unsafe { assert_eq!(mo_node_request(handle.node, &request(5)), MoResult::Ok) };
    assert_eq!(handle.message("panic"), MoResult::Panic);
    let (result, effect) = handle.poll();
    assert_eq!((result, effect.kind), (MoResult::Ok, MoEffectKind::Respond));
    // SAFETY: this is the variant of this kind.
    unsafe { assert_eq!((effect.as_.respond.id, effect.as_.respond.status), (5, 500)) };
    let (_, effect) = handle.poll();
    // SAFETY: this is the variant of this kind.
    let deadline_ms = unsafe { effect.as_.none.deadline_ms };
    assert!(deadline_ms <= 100, "{deadline_ms}");
    handle.ms.fetch_add(deadline_ms, Ordering::Relaxed);
    // SAFETY: the node is alive.
    unsafe { assert_eq!(mo_node_tick(handle.node), MoResult::Ok) };
    assert_eq!(handle.message("hello"), MoResult::Ok);
    assert_eq!(handle.poll().1.kind, MoEffectKind::Send);
}

#[test]
fn overlapping_calls_are_rejected() {
    let handle = Handle::started();
    // SAFETY: the node is alive.
    let result = unsafe {
        enter(handle.node, |_| {
            // A callback must not call the library.
            assert_eq!(mo_node_tick(handle.node), MoResult::Busy);
            Err(MoResult::End)
        })
    };
    assert_eq!(result, MoResult::End);
}

#[test]
fn a_panic_outside_of_the_machine_is_caught() {
    let handle = Handle::started();
    // SAFETY: the node is alive.
    let result = unsafe { enter(handle.node, |_| panic!("a defect")) };
    assert_eq!(result, MoResult::Panic);
    assert_eq!(handle.poll().0, MoResult::Ok);
}

#[test]
fn endpoints_can_be_listed() {
    let handle = Handle::new();
    let mut endpoint = MoEndpoint {
        size: size_of::<MoEndpoint>(),
        path: NO_BYTES,
        help: NO_BYTES,
        flags: 9,
    };
    let mut found = Vec::new();
    // SAFETY: every pointer is alive.
    unsafe {
        while mo_node_endpoint(handle.node, found.len(), &mut endpoint) == MoResult::Ok {
            assert!(!bytes(endpoint.help).unwrap().is_empty());
            found.push((text(endpoint.path).unwrap(), endpoint.flags));
        }
    }
    for (path, flags) in [
        ("/state", 0),
        ("/ui", ENDPOINT_TREE),
        ("/agents/delete", ENDPOINT_WRITES),
    ] {
        assert!(
            found.contains(&(path.to_owned(), flags)),
            "{path}: {found:?}"
        );
    }
}

#[test]
fn flags_follow_the_access_of_an_endpoint() {
    use AuthenticateHttp::{All, None, Writes};
    let endpoint = |access, tree| RouteSpec {
        path: "/x",
        includes_subpaths: tree,
        access,
        help: String::new(),
    };
    for (access, expected) in [
        (Access::Anyone, [0, 0, 0]),
        (Access::Readers, [0, 0, ENDPOINT_READS]),
        (Access::Writers, [0, ENDPOINT_WRITES, ENDPOINT_WRITES]),
    ] {
        assert_eq!(
            [None, Writes, All].map(|mode| flags(mode, &endpoint(access, false))),
            expected
        );
    }
    assert_eq!(
        flags(Writes, &endpoint(Access::Writers, true)),
        ENDPOINT_WRITES | ENDPOINT_TREE
    );
}

#[test]
fn metrics_can_be_listed() {
    let handle = Handle::started();
    let mut found = Vec::new();
    let mut metric = metric(size_of::<MoMetric>());
    // SAFETY: every pointer is alive.
    unsafe {
        while mo_node_metric(handle.node, found.len(), &mut metric) == MoResult::Ok {
            found.push((text(metric.name).unwrap(), metric.value));
        }
        assert_eq!(
            mo_node_metric(handle.node, found.len(), &mut metric),
            MoResult::End
        );
        metric.size -= 1;
        assert_eq!(
            mo_node_metric(handle.node, 0, &mut metric),
            MoResult::Invalid
        );
    }
    // The machine of this test has no metrics.
    assert_eq!(found, [("overlay/master/process_restarts".to_owned(), 0.0)]);
    // Index 0 takes a new sample.
    handle.message("panic");
    handle.ms.fetch_add(100, Ordering::Relaxed);
    metric.size += 1;
    // SAFETY: every pointer is alive.
    unsafe {
        assert_eq!(mo_node_tick(handle.node), MoResult::Ok);
        assert_eq!(mo_node_metric(handle.node, 0, &mut metric), MoResult::Ok);
    }
    assert_eq!(metric.value, 1.0);
}

#[test]
fn the_pid_is_read_from_master_info() {
    // Masters before 0.24: id "x", ip 10.0.0.9 in network order, port 5050, no pid.
    let old = b"\x0a\x01x\x10\x8a\x80\x80\x48\x18\xba\x27";
    assert_eq!(
        arguments::master_info(old).unwrap().to_string(),
        "master@10.0.0.9:5050"
    );
    let new = b"\x0a\x01x\x10\x8a\x80\x80\x48\x18\xba\x27\x22\x16master@127.0.0.19:5050";
    assert_eq!(
        arguments::master_info(new).unwrap().to_string(),
        "master@127.0.0.19:5050"
    );
}

#[test]
fn an_invalid_configuration_creates_no_node() {
    let pair = MoPair {
        key: lend("master_config"),
        value: lend("/nonexistent/master.json"),
    };
    let options = MoOptions {
        size: size_of::<MoOptions>(),
        parameters: &pair,
        parameter_count: 1,
        wake: None,
        wake_ctx: null_mut(),
        now_ms: None,
        now_ctx: null_mut(),
        seed: 0,
    };
    let mut node = std::ptr::NonNull::<mo_node>::dangling().as_ptr();
    // SAFETY: every pointer is alive.
    unsafe {
        assert_eq!(mo_master_new(&options, &mut node), MoResult::Config);
        assert!(node.is_null());
        let none = MoOptions {
            parameter_count: 0,
            ..options
        };
        assert_eq!(mo_agent_new(&none, &mut node), MoResult::Config);
        let small = MoOptions { size: 8, ..options };
        assert_eq!(mo_agent_new(&small, &mut node), MoResult::Invalid);
    }
}
