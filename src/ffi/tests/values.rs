//! Conversion of all values between the C ABI and the node.

use super::*;

/// Copies a text of the library.
fn copy(text: MoBytes) -> String {
    // SAFETY: the node was not called since it returned the text.
    unsafe { super::text(text) }.unwrap()
}

/// Takes the next effect, which must have this kind.
#[track_caller]
fn next(handle: &Handle, kind: MoEffectKind) -> MoEffectAs {
    let (result, effect) = handle.poll();
    assert_eq!((result, effect.kind), (MoResult::Ok, kind));
    effect.as_
}

fn log_settings(zookeeper: Option<ZooKeeperSettings>) -> LogSettings {
    LogSettings {
        quorum: 2,
        path: "/log/dir".into(),
        zookeeper,
    }
}

fn zookeeper(credentials: Option<&str>) -> ZooKeeperSettings {
    ZooKeeperSettings {
        servers: "a:1,b:2".into(),
        path: "/mesos/replicas".into(),
        session_timeout: Duration::from_millis(10_500),
        credentials: credentials.map(str::to_owned),
    }
}

fn opened(zookeeper: Option<ZooKeeperSettings>) -> (Handle, MoOpenLog) {
    let handle = Handle::of(Some("zk://a:1/m"), Some(log_settings(zookeeper)));
    handle.start();
    // SAFETY: these are the variants of their kinds.
    unsafe {
        assert_eq!(
            copy(next(&handle, MoEffectKind::Detect).detect.master),
            "zk://a:1/m"
        );
        let open_log = next(&handle, MoEffectKind::OpenLog).open_log;
        (handle, open_log)
    }
}

#[test]
fn open_log_has_all_settings() {
    let (_handle, log) = opened(Some(zookeeper(Some("me:secret"))));
    assert_eq!((log.quorum, log.zk_session_timeout_ms), (2, 10_500));
    let texts = [
        log.path,
        log.zk_servers,
        log.zk_path,
        log.zk_scheme,
        log.zk_credentials,
        log.metrics_prefix,
    ];
    assert_eq!(
        texts.map(copy),
        [
            "/log/dir",
            "a:1,b:2",
            "/mesos/replicas",
            "digest",
            "me:secret",
            "overlay/master/"
        ]
    );
    let (_handle, log) = opened(Some(zookeeper(None)));
    assert_eq!(
        [
            log.zk_servers,
            log.zk_path,
            log.zk_scheme,
            log.zk_credentials
        ]
        .map(copy),
        ["a:1,b:2", "/mesos/replicas", "", ""]
    );
    let (_handle, log) = opened(None);
    assert_eq!((log.quorum, log.zk_session_timeout_ms), (2, 0));
    let texts = [
        log.path,
        log.zk_servers,
        log.zk_path,
        log.zk_scheme,
        log.zk_credentials,
    ];
    assert_eq!(texts.map(copy), ["/log/dir", "", "", "", ""]);
}

#[test]
fn answers_to_reads_are_converted() {
    let (handle, _) = opened(None);
    handle.inputs.lock().clear();
    for (outcome, expected) in [
        (
            outcome::DONE,
            Input::Fetched(Ok(Bytes::from_static(b"\xff detail"))),
        ),
        (
            outcome::FAILED,
            Input::Fetched(Err("\u{fffd} detail".into())),
        ),
    ] {
        handle.message("fetch");
        let detail = MoBytes::lend(b"\xff detail");
        // SAFETY: this is the variant of this kind; the node and the detail are alive.
        let result = unsafe {
            let fetch = next(&handle, MoEffectKind::Fetch).fetch;
            assert_eq!(
                (copy(fetch.name).as_str(), fetch.reopen),
                ("network-state", 0)
            );
            mo_node_fetched(handle.node, fetch.id, outcome, detail)
        };
        assert_eq!(
            (result, handle.inputs.lock().pop()),
            (MoResult::Ok, Some(expected))
        );
    }
}

#[test]
fn a_read_can_have_the_log_opened_anew() {
    let (handle, _) = opened(None);
    handle.message("fetch anew");
    // SAFETY: this is the variant of this kind.
    let fetch = unsafe { next(&handle, MoEffectKind::Fetch).fetch };
    assert_eq!(fetch.reopen, 1);
}

#[test]
fn answers_to_writes_are_converted() {
    let (handle, _) = opened(None);
    for (outcome, expected) in [
        (outcome::DONE, StoreOutcome::Stored),
        (outcome::SUPERSEDED, StoreOutcome::Superseded),
        (outcome::FAILED, StoreOutcome::Failed("detail".into())),
    ] {
        handle.message("store");
        // SAFETY: this is the variant of this kind; the node and the detail are alive.
        let result = unsafe {
            let store = next(&handle, MoEffectKind::Store).store;
            assert_eq!(
                (copy(store.name), copy(store.value)),
                ("network-state".into(), "body".into())
            );
            mo_node_stored(handle.node, store.id, outcome, lend("detail"))
        };
        let expected = Input::Stored {
            number: 7,
            outcome: expected,
        };
        assert_eq!(
            (result, handle.inputs.lock().pop()),
            (MoResult::Ok, Some(expected))
        );
    }
}

#[test]
fn requests_are_converted() {
    let handle = Handle::started();
    handle.inputs.lock().clear();
    let pairs = [("a", "1"), ("b", "")].map(|(key, value)| MoPair {
        key: lend(key),
        value: lend(value),
    });
    let sent = MoRequest {
        method: lend("PUT"),
        path: lend("/p"),
        query: pairs.as_ptr(),
        query_count: 2,
        accept: lend("text/html"),
        body: lend("body"),
        host: lend("10.0.0.1:5050"),
        origin: lend("null"),
        sec_fetch_site: lend("cross-site"),
        content_type: lend("text/plain"),
        if_none_match: lend("\"1\""),
        ..request(7)
    };
    // SAFETY: every pointer is alive.
    unsafe { assert_eq!(mo_node_request(handle.node, &sent), MoResult::Ok) };
    let expected = Request {
        id: RequestId(7),
        method: "PUT".into(),
        path: "/p".into(),
        query: [("a".into(), "1".into()), ("b".into(), String::new())].into(),
        accept: Some("text/html".into()),
        headers: RequestHeaders {
            host: Some("10.0.0.1:5050".into()),
            origin: Some("null".into()),
            sec_fetch_site: Some("cross-site".into()),
            content_type: Some("text/plain".into()),
            if_none_match: Some("\"1\"".into()),
        },
        body: Bytes::from_static(b"body"),
    };
    assert_eq!(handle.inputs.lock().pop(), Some(Input::Request(expected)));
    // SAFETY: every pointer is alive.
    unsafe { assert_eq!(mo_node_request(handle.node, &request(8)), MoResult::Ok) };
    let Some(Input::Request(got)) = handle.inputs.lock().pop() else {
        panic!("no request")
    };
    assert_eq!((got.accept, got.query.len(), got.body.len()), (None, 0, 0));
    assert_eq!(got.headers, RequestHeaders::default());
}

#[test]
fn responses_have_their_headers() {
    let handle = Handle::started();
    let sent = MoRequest {
        path: lend("/answer"),
        ..request(9)
    };
    // SAFETY: every pointer is alive, and this is the variant of this kind.
    unsafe {
        assert_eq!(mo_node_request(handle.node, &sent), MoResult::Ok);
        let respond = next(&handle, MoEffectKind::Respond).respond;
        assert_eq!(
            (respond.id, respond.status, respond.header_count),
            (9, 418, 3)
        );
        assert_eq!(copy(respond.content_type), "text/plain; charset=utf-8");
        assert_eq!(copy(respond.body), "short and stout\n");
        assert_eq!(copy(respond.file), "");
        let headers: Vec<_> = pairs(respond.headers, respond.header_count)
            .unwrap()
            .collect();
        let expected = [
            ("Location", "/there"),
            ("Allow", "GET"),
            ("X-Content-Type-Options", "nosniff"),
        ];
        assert_eq!(
            headers,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }
}

#[test]
fn links_have_the_reconnect_flag() {
    let handle = Handle::started();
    for (message, reconnect) in [("link", 0), ("anew", 1)] {
        handle.message(message);
        // SAFETY: this is the variant of this kind.
        let link = unsafe { next(&handle, MoEffectKind::Link).link };
        assert_eq!(
            (copy(link.to).as_str(), u64::from(link.reconnect)),
            ("a@10.0.0.2:1", reconnect)
        );
    }
}

#[test]
fn leaders_and_exits_are_converted() {
    let handle = Handle::of(Some("zk://a:1/m"), None);
    handle.start();
    let info = b"\x0a\x01x\x10\x8a\x80\x80\x48\x18\xba\x27\x22\x16master@127.0.0.19:5050";
    // SAFETY: every pointer is alive.
    unsafe {
        assert_eq!(
            mo_node_leader(handle.node, &MoBytes::lend(info)),
            MoResult::Ok
        );
        assert_eq!(mo_node_leader(handle.node, null()), MoResult::Ok);
        assert_eq!(
            mo_node_exited(handle.node, lend("a@10.0.0.2:1")),
            MoResult::Ok
        );
    }
    assert_eq!(
        *handle.inputs.lock(),
        [
            Input::Leader(Some("master@127.0.0.19:5050".parse().unwrap())),
            Input::Leader(None),
            Input::Exited("a@10.0.0.2:1".parse().unwrap()),
        ]
    );
}

#[test]
fn a_leader_needs_an_address() {
    let no_port = b"\x0a\x01x\x10\x8a\x80\x80\x48\x18\x00";
    let no_ip = b"\x0a\x01x\x10\x00\x18\xba\x27";
    let large_port = b"\x0a\x01x\x10\x8a\x80\x80\x48\x18\xba\xa7\x04";
    let bad_pid = b"\x0a\x01x\x10\x8a\x80\x80\x48\x18\xba\x27\x22\x06master";
    for info in [&no_port[..], no_ip, large_port, bad_pid] {
        assert_eq!(arguments::master_info(info), None, "{info:?}");
    }
}

/// Callers of version 1.2 have smaller requests. What lies behind them is not read.
#[test]
fn smaller_requests_are_accepted() {
    let handle = Handle::started();
    let asked = MoRequest {
        size: std::mem::offset_of!(MoRequest, host),
        origin: lend("null"),
        ..request(1)
    };
    let smaller = MoRequest {
        size: asked.size - 1,
        ..request(2)
    };
    // SAFETY: every pointer is alive.
    unsafe {
        assert_eq!(mo_node_request(handle.node, &asked), MoResult::Ok);
        assert_eq!(mo_node_request(handle.node, &smaller), MoResult::Invalid);
    }
    let Some(Input::Request(got)) = handle.inputs.lock().pop() else {
        panic!("no request")
    };
    assert_eq!(
        (got.id, got.headers),
        (RequestId(1), RequestHeaders::default())
    );
}

/// Callers of a later version have larger structures, which begin with the same fields.
#[test]
fn larger_structures_are_accepted() {
    let handle = Handle::started();
    let mut large = effect(size_of::<MoEffect>() + 8);
    let mut count = metric(size_of::<MoMetric>() + 8);
    let asked = MoRequest {
        size: size_of::<MoRequest>() + 8,
        ..request(1)
    };
    // SAFETY: every pointer is alive, and nothing behind the known part is touched.
    unsafe {
        assert_eq!(mo_node_request(handle.node, &asked), MoResult::Ok);
        assert_eq!(mo_node_poll(handle.node, &mut large), MoResult::Ok);
        assert_eq!(mo_node_metric(handle.node, 0, &mut count), MoResult::Ok);
    }
    assert_eq!(large.size, size_of::<MoEffect>() + 8, "the caller's");
}

/// Clock of the caller.
unsafe extern "C" fn now_ms(ctx: *mut c_void) -> u64 {
    // SAFETY: `ctx` is the number of the test.
    unsafe { (*ctx.cast::<AtomicU64>()).load(Ordering::Relaxed) }
}

/// Creates an agent from a configuration file and lets its leader detection fail. Returns its
/// deadline at each of these times, in milliseconds.
fn deadlines(seed: u64, times: &[u64]) -> Vec<u64> {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("agent.json");
    std::fs::write(
        &file,
        r#"{"cni_dir": "/nonexistent", "master": "10.0.0.1:5050"}"#,
    )
    .unwrap();
    let parameter = MoPair {
        key: lend("agent_config"),
        value: lend(file.to_str().unwrap()),
    };
    let ms = AtomicU64::new(1_000_000);
    let options = MoOptions {
        size: size_of::<MoOptions>(),
        parameters: &parameter,
        parameter_count: 1,
        wake: None,
        wake_ctx: null_mut(),
        now_ms: Some(now_ms),
        now_ctx: (&raw const ms).cast_mut().cast(),
        seed,
    };
    let mut node = null_mut();
    // SAFETY: every pointer is alive, the node until its end below.
    unsafe {
        assert_eq!(mo_agent_new(&options, &mut node), MoResult::Ok);
        assert_eq!(
            mo_node_start(node, lend("overlay-agent@10.0.0.2:5051")),
            MoResult::Ok
        );
        assert_eq!(mo_node_detect_failed(node, lend("no route")), MoResult::Ok);
        let due = times.iter().map(|time| {
            ms.store(1_000_000 + time, Ordering::Relaxed);
            let mut effect = effect(size_of::<MoEffect>());
            loop {
                assert_eq!(mo_node_poll(node, &mut effect), MoResult::Ok);
                if effect.kind == MoEffectKind::None {
                    break effect.as_.none.deadline_ms;
                }
            }
        });
        let due = due.collect();
        mo_node_free(node);
        due
    }
}

#[test]
fn a_seed_and_a_clock_of_the_caller_are_used() {
    let first = deadlines(1, &[0, 100, 10_000]);
    assert!((500..=1000).contains(&first[0]), "{first:?}");
    assert_eq!(first[1..], [first[0] - 100, 0]);
    assert_eq!(deadlines(1, &[0]), first[..1], "the same seed");
    let others: std::collections::BTreeSet<u64> =
        (1..=20).map(|seed| deadlines(seed, &[0])[0]).collect();
    assert!(others.len() > 5, "other seeds: {others:?}");
}

/// Logger that records the lines.
unsafe extern "C" fn take_line(ctx: *mut c_void, severity: MoSeverity, line: MoBytes) {
    // SAFETY: `ctx` is the vector of the test; the line is alive until this returns.
    unsafe {
        (*ctx.cast::<Mutex<Vec<(MoSeverity, String)>>>())
            .lock()
            .push((severity, text(line).unwrap()))
    }
}

#[test]
fn log_lines_reach_the_callers_function_with_their_severity() {
    use overlay_core::Level;
    // Leaked, because another test may be about to log.
    let lines: &'static Mutex<Vec<(MoSeverity, String)>> = Box::leak(Box::default());
    // SAFETY: the vector is never freed, and may be used from any thread.
    unsafe {
        assert_eq!(
            mo_set_logger(Some(take_line), (&raw const *lines).cast_mut().cast()),
            MoResult::Ok
        )
    };
    for level in [Level::Info, Level::Warning, Level::Error] {
        crate::runtime::log(Role::Master, level, "severities\nof lines");
    }
    // SAFETY: there is no function to call.
    unsafe { assert_eq!(mo_set_logger(None, null_mut()), MoResult::Ok) };
    crate::runtime::log(Role::Master, Level::Error, "severities of later lines");
    let lines = lines.lock();
    let ours = lines.iter().filter(|(_, line)| line.contains("severities"));
    let found: Vec<_> = ours
        .map(|(severity, line)| (*severity as u32, line.as_str()))
        .collect();
    assert_eq!(
        found,
        [MoSeverity::Info, MoSeverity::Warning, MoSeverity::Error]
            .map(|severity| (severity as u32, "overlay-master: severities of lines"))
    );
}

#[test]
fn every_result_has_a_text_of_its_own() {
    let text = |result: u32| {
        // SAFETY: the texts are static, and end in a NUL.
        unsafe { CStr::from_ptr(mo_result_text(result)) }
            .to_str()
            .unwrap()
    };
    for (result, part) in [
        (MoResult::Ok, "ok"),
        (MoResult::Panic, "starts again"),
        (MoResult::Null, "NULL"),
        (MoResult::Invalid, "argument"),
        (MoResult::Config, "configuration"),
        (MoResult::State, "state"),
        (MoResult::Busy, "another call"),
        (MoResult::End, "no such element"),
    ] {
        assert!(
            text(result as u32).contains(part),
            "{result:?}: {}",
            text(result as u32)
        );
    }
    assert_eq!(
        (text(8), text(u32::MAX)),
        ("unknown result", "unknown result")
    );
    assert_eq!(mo_abi_version(), ABI_VERSION);
}
