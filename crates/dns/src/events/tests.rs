use super::*;

fn items(stream: &[u8]) -> (Vec<Item>, Result<(), EventError>) {
    let mut items = Vec::new();
    let outcome = read_all(stream, |item| items.push(item));
    (items, outcome)
}

fn framed(events: &[&str]) -> Vec<u8> {
    let frame = |event: &&str| format!("{}\n{event}", event.len());
    events.iter().map(frame).collect::<String>().into_bytes()
}

#[test]
fn events_become_items() {
    let stream = framed(&[
        r#"{"type":"SUBSCRIBED","subscribed":{"get_state":{
            "get_tasks":{"tasks":[{"name":"a","task_id":{"value":"t1"},"state":"TASK_RUNNING","more":[{"x":1}]}],
                "completed_tasks":[{"task_id":{"value":"t0"},"framework_id":{"value":"f"},"state":"TASK_FINISHED"}]},
            "get_frameworks":{"frameworks":[{"framework_info":{"id":{"value":"f"},"name":"fw"},"active":true}]},
            "get_executors":{"executors":[{"executor_info":{}}]},
            "get_agents":{"agents":[{"agent_info":{"id":{"value":"s1"},"hostname":"h","port":5051},"pid":"slave(1)@10.0.0.1:5051"}],
                "recovered_agents":[{"id":{"value":"s2"},"hostname":"h2"}]}
            },"heartbeat_interval_seconds":15.0}}"#,
        r#"{"type":"HEARTBEAT"}"#,
        r#"{"type":"TASK_ADDED","task_added":{"task":{"name":"b","task_id":{"value":"t2"}}}}"#,
        r#"{"type":"TASK_UPDATED","task_updated":{"framework_id":{"value":"f"},"state":"TASK_KILLED","status":{"task_id":{"value":"t1"},"timestamp":1.5}}}"#,
        r#"{"type":"AGENT_REMOVED","agent_removed":{"agent_id":{"value":"s1"}}}"#,
        r#"{"type":"FRAMEWORK_REMOVED","framework_removed":{"framework_info":{"id":{"value":"f"},"name":"fw"}}}"#,
        r#"{"type":"SOMETHING_NEW","something_new":{"x":[1,2]}}"#,
    ]);
    let (items, outcome) = items(&stream);
    outcome.unwrap();
    let kinds: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    let starts = [
        "StateBegins",
        "Task(Task { name: \"a\"",
        "Ended { framework: Id { value: \"f\" }, task: Id { value: \"t0\" }",
        "Framework(FrameworkInfo { id: Id { value: \"f\" }, name: \"fw\" }",
        "Agent(AgentInfo { id: Id { value: \"s1\" }, hostname: \"h\", pid: \"slave(1)@10.0.0.1:5051\" }",
        "RecoveredAgent(Id { value: \"s2\" }",
        "StateEnds { heartbeat: Some(15.0) }",
        "Task(Task { name: \"b\"",
        "Status { framework: Id { value: \"f\" }",
        "AgentRemoved(Id { value: \"s1\" }",
        "FrameworkRemoved(Id { value: \"f\" }",
    ];
    assert_eq!(kinds.len(), starts.len(), "{kinds:#?}");
    for (kind, start) in kinds.iter().zip(starts) {
        assert!(kind.starts_with(start), "{kind}");
    }
    let Item::Status { state, status, .. } = &items[8] else {
        panic!("{:?}", items[8]);
    };
    assert_eq!((*state, status.timestamp), (State::Ended, Some(1.5)));
}

/// Frameworks choose names and ids. One that is no UTF-8 costs the others nothing.
#[test]
fn hostile_texts_are_read() {
    let mut event = br#"{"task_added":{"task":{"name":"\ud800\u0000"#.to_vec();
    event.extend_from_slice(b"\xff\xfe");
    event.extend_from_slice(br#"","task_id":{"value":""}}}}"#);
    let mut stream = format!("{}\n", event.len()).into_bytes();
    stream.extend_from_slice(&event);
    stream.extend(framed(&[r#"{"task_added":{"task":{"name":"good"}}}"#]));
    let (items, outcome) = items(&stream);
    outcome.unwrap();
    assert_eq!(items.len(), 2, "{items:?}");
}

#[test]
fn numbers_that_are_no_ports_are_none() {
    let port = |text: &str| serde_json::from_str::<Port>(text).map(|port| port.0).ok();
    assert_eq!(port("80"), Some(80));
    assert_eq!(port("80.0"), Some(80));
    for text in ["0", "65536", "-1", "80.5", "1e300"] {
        assert_eq!(port(text), Some(0), "{text}");
    }
    assert_eq!(port("\"80\""), None);
}

#[test]
fn lists_are_cut() {
    let text = format!("[{}1]", "1,".repeat(5000));
    let list: List<u32> = serde_json::from_str(&text).unwrap();
    assert_eq!(list.0.len(), MAX_LIST);
}

#[test]
fn a_broken_stream_is_an_error_with_a_reason() {
    for (stream, reason) in [
        (&b"x"[..], "does not begin with its length"),
        (b"99999999999\n", "does not begin with its length"),
        (b"\n{}", "does not begin with its length"),
        (b"3\n{}}", "trailing characters"),
        (b"4\n[{}]", "invalid type: sequence"),
        (b"22\n{\"task_added\":{\"task\"", "cut off"),
        (b"30\n{\"task_added\":1}", "invalid type"),
    ] {
        let (_, outcome) = items(stream);
        let error = outcome.unwrap_err().to_string();
        assert!(
            error.contains(reason),
            "{}: {error}",
            String::from_utf8_lossy(stream)
        );
    }
    assert!(items(b"").1.is_ok());
    assert!(items(b"2\n{}").1.is_ok());
}
