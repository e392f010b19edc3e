//! Reconciliations that do not end.

use super::*;

#[test]
fn a_reconciliation_that_hangs_fails_the_overlays_until_another_thread_succeeds() {
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(Some(gate));
    let hang = Arc::new(move |_: &Desired| {
        // Only the first thread hangs.
        let gate = gate.lock().take();
        if let Some(gate) = gate {
            progress::step("write CNI configuration dcos.conf");
            let _ = gate.recv();
        }
        HostReport::default()
    });
    let reconciler = move || Calling {
        reconcile: {
            let hang = hang.clone();
            move |desired: &Desired| hang(desired)
        },
        events: Watch::silent(),
    };
    let limits = Limits {
        step: Duration::from_millis(500),
        ..Limits::default()
    };
    let (wake, woken) = channel();
    let wake = move || wake.send(()).unwrap();
    let mut executor = Executor::spawn_with(limits, reconciler, wake).unwrap();
    let overlays = [("dcos".to_owned(), Default::default())].into();
    let desired = Desired {
        overlays,
        ..Desired::default()
    };
    executor.apply(3, Arc::new(desired));
    let deadline = Instant::now() + PATIENCE;
    let report = loop {
        executor.look_after();
        match executor.poll() {
            Some(report) => break report,
            None => assert!(Instant::now() < deadline),
        }
    };
    assert_eq!(report.generation, 3);
    let text = &report.overlays["dcos"];
    assert!(text.starts_with("cannot configure the host: the thread overlay-host (tid "));
    assert!(
        text.contains("(step: write CNI configuration dcos.conf); another"),
        "{text}"
    );
    assert_eq!(Problem::texts(&report.host), std::slice::from_ref(text));
    woken.recv_timeout(PATIENCE).unwrap();
    let report = executor.poll().unwrap();
    assert_eq!((report.generation, report.is_ok()), (3, true));
    drop(go);
}
