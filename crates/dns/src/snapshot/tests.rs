use proptest::prelude::*;

use super::*;
use crate::events;

fn rules() -> Rules {
    Rules {
        domains: vec![parse_name("d").unwrap()],
        ranges: vec!["9.0.0.0/8".parse().unwrap()],
    }
}

/// Returns a table with a task that has everything a task can have.
fn cluster() -> Cluster {
    let mut cluster = Cluster::new(rules());
    let event = r#"{"subscribed":{"get_state":{
        "get_frameworks":{"frameworks":[{"framework_info":{"id":{"value":"f"},"name":"fw"}}]},
        "get_agents":{"agents":[{"agent_info":{"id":{"value":"s"},"hostname":"10.0.0.1"}}]},
        "get_tasks":{"tasks":[{"name":"a","task_id":{"value":"t"},"framework_id":{"value":"f"},
            "agent_id":{"value":"s"},"state":"TASK_RUNNING",
            "discovery":{"name":"web","ports":{"ports":[{"number":80,"name":"http","protocol":"tcp,udp"}]}},
            "container":{"docker":{"port_mappings":[{"host_port":31000,"container_port":80}]}},
            "statuses":[{"timestamp":1.25,"container_status":{"network_infos":[
                {"name":"dcos","ip_addresses":[{"ip_address":"9.0.0.1"}],
                 "port_mappings":[{"host_port":31001,"container_port":80,"protocol":"udp"}]}]}}]}]}}}}"#;
    let take = &mut |item| cluster.handle(item, Duration::ZERO);
    events::decode(event.as_bytes(), take).unwrap();
    let masters = vec!["10.0.0.9".parse().unwrap()];
    cluster.set_masters(Some(masters[0]), masters);
    cluster
}

fn zones() -> Zones {
    let name = |text| parse_name(text).unwrap();
    let soa = crate::zone::Soa::new(name("ns.d"), name("h.d"), Serial(41));
    let mut zones = Zones::default();
    zones.insert(name("d"), soa, SystemTime::UNIX_EPOCH);
    zones
}

fn time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567)
}

fn encoded() -> Vec<u8> {
    let ranges = ["9.0.0.0/8".parse().unwrap()];
    encode(&cluster(), &zones(), &ranges, time())
}

#[test]
fn a_snapshot_has_all_that_records_depend_on() {
    let mut cluster = cluster();
    let mut kept = decode(&encoded(), &rules()).unwrap();
    assert_eq!(kept.time, time());
    assert_eq!(kept.serials, [(parse_name("d").unwrap(), Serial(42))]);
    assert_eq!(kept.ranges, ["9.0.0.0/8".parse().unwrap()]);
    let sorted = |cluster: &mut Cluster| {
        let batch = cluster.take_batch();
        assert!(batch.removed.is_empty());
        let mut added = batch.added;
        added.sort();
        added
    };
    let records = sorted(&mut kept.cluster);
    assert!(records.len() > 10, "{records:?}");
    assert_eq!(records, sorted(&mut cluster));
    assert_eq!(
        encode(&kept.cluster, &zones(), &kept.ranges, kept.time),
        encoded()
    );
}

#[test]
fn files_are_written_whole_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    assert!(load(&path, &rules()).unwrap().is_none());
    store(&path, &encoded()).unwrap();
    store(&path, &encoded()).unwrap();
    assert!(load(&path, &rules()).unwrap().is_some());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // A failure keeps the file.
    assert!(store(&dir.path().join("no/such/dir"), b"x").is_err());
    let error = load(dir.path(), &rules()).unwrap_err().to_string();
    assert!(
        error.contains("no regular file") && error.contains("cannot read"),
        "{error}"
    );
}

#[test]
fn a_reason_is_one_line() {
    let head = r#"{"mesos_overlay_dns":1,"time_ms":1,"ranges":[]}"#;
    let lines = format!("{head}\n{{\"a\\n\\u0001{}\":0}}\n", "b".repeat(1000));
    let end = crc32fast::hash(lines.as_bytes());
    let content = format!("{lines}{{\"lines\":2,\"crc32\":{end}}}\n");
    let error = decode(content.as_bytes(), &rules()).err().unwrap();
    assert!(error.starts_with("line 2 is not understood: "), "{error}");
    assert!(!error.contains(char::is_control), "{error}");
    assert!(error.len() < 400, "{error}");
}

#[test]
fn another_file_is_refused_with_a_sentence() {
    let with = |lines: &[&str]| {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let (count, crc) = (lines.len(), crc32fast::hash(body.as_bytes()));
        let content = format!("{body}{{\"lines\":{count},\"crc32\":{crc}}}\n");
        decode(content.as_bytes(), &rules()).unwrap_err()
    };
    let head = r#"{"mesos_overlay_dns":1,"time_ms":5,"ranges":[]}"#;
    assert_eq!(
        decode(b"", &rules()).unwrap_err(),
        "it is cut off or damaged"
    );
    assert_eq!(
        decode(b"hello\nworld\n", &rules()).unwrap_err(),
        "it is cut off or damaged"
    );
    let newer = head.replace(":1,", ":2,");
    assert_eq!(
        with(&[&newer]),
        "its version is 2, and this program reads version 1"
    );
    assert!(with(&["{}"]).starts_with("line 1 is not understood: missing field"));
    assert!(with(&[head, "{}"]).starts_with("line 2 is not understood: "));
    let framework = r#"{"framework":{"number":0,"id":"f","label":"fw"}}"#;
    let agent = r#"{"agent":{"number":0,"id":"s","hostname":"h","ip":null}}"#;
    let task = r#"{"task":{"id":"t","framework":0,"framework_label":"fw","agent":0,"label":"a","time":0.0,"addresses":[]}}"#;
    assert_eq!(
        with(&[head, framework, framework]),
        "line 3 has a framework twice, or too many"
    );
    assert_eq!(
        with(&[head, framework, task]),
        "line 3 has a task of an agent that is not there"
    );
    assert_eq!(
        with(&[head, framework, agent, task, task]),
        "line 5 has a task twice"
    );
    let far = agent.replace("\"number\":0", "\"number\":4000000000");
    assert_eq!(
        with(&[head, &far]),
        "line 2 has an agent twice, or too many"
    );
    let bad = task.replace(
        "\"label\":\"a\"",
        &format!("\"label\":\"{}\"", "a".repeat(64)),
    );
    assert_eq!(
        with(&[head, framework, agent, &bad]),
        "line 4 has a label that is none"
    );
}

proptest! {
    #[test]
    fn a_damaged_file_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut content = encoded();
        let at = at.index(content.len());
        if cut {
            content.truncate(at);
        } else {
            prop_assume!(content[at] != byte);
            content[at] = byte;
        }
        prop_assert!(decode(&content, &rules()).is_err());
    }
}
