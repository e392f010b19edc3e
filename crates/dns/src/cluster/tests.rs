mod model;

use std::collections::{BTreeSet, HashSet};

use serde_json::{Value, json};

use super::*;
use crate::events;
use crate::zone::{Data, Knowledge, Soa, Zones, parse_name};

const START: Duration = Duration::from_secs(1000);

fn rules() -> Rules {
    Rules {
        domains: vec![parse_name("d").unwrap()],
        ranges: vec!["9.0.0.0/8".parse().unwrap()],
    }
}

/// A table and its zones.
struct Bed {
    cluster: Cluster,
    zones: Zones,
    now: Duration,
}

impl Bed {
    fn new() -> Bed {
        let mut zones = Zones::default();
        for apex in ["d", "9.in-addr.arpa"] {
            let name = |text| parse_name(text).unwrap();
            let soa = Soa::new(name("ns.d"), name("h.d"), domain::base::Serial(1));
            zones.insert(name(apex), soa, std::time::UNIX_EPOCH);
        }
        zones.set_knowledge(Knowledge::Complete);
        Bed {
            cluster: Cluster::new(rules()),
            zones,
            now: START,
        }
    }

    /// Handles an event, as a master sends it.
    fn event(&mut self, event: &Value) {
        let text = event.to_string();
        let (cluster, now) = (&mut self.cluster, self.now);
        events::decode(text.as_bytes(), &mut |item| cluster.handle(item, now)).unwrap();
        self.apply();
    }

    fn apply(&mut self) {
        let batch = self.cluster.take_batch();
        self.zones.apply(batch, std::time::UNIX_EPOCH);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.cluster.tick(self.now);
        self.apply();
    }

    fn records(&self) -> BTreeSet<(String, Data)> {
        let records = self.zones.iter().flat_map(crate::zone::Zone::records);
        records
            .map(|(owner, data)| (owner.to_string(), data.clone()))
            .collect()
    }

    /// Returns the last bytes of the addresses of a name.
    fn ips(&self, name: &str) -> Vec<u8> {
        let records = self.records();
        let named = records.iter().filter(|(owner, _)| owner == name);
        let last = named.filter_map(|(_, data)| match data {
            Data::A(ip) => Some(ip.octets()[3]),
            _ => None,
        });
        last.collect()
    }
}

fn framework(id: &str, name: &str) -> Value {
    json!({ "framework_info": { "id": { "value": id }, "name": name } })
}

fn agent(id: &str, hostname: &str) -> Value {
    json!({ "agent_info": { "id": { "value": id }, "hostname": hostname }, "pid": "slave(1)@10.0.0.9:5051" })
}

/// Returns a status with an address 9.0.0.x, or none.
fn status(task: &str, ip: Option<u8>, time: Option<f64>) -> Value {
    let mut status = json!({ "task_id": { "value": task }, "state": "TASK_RUNNING" });
    if let Some(ip) = ip {
        status["container_status"] = json!({ "network_infos": [
            { "name": "dcos", "ip_addresses": [{ "ip_address": format!("9.0.0.{ip}") }] },
        ] });
    }
    if let Some(time) = time {
        status["timestamp"] = time.into();
    }
    status
}

fn task(id: &str, state: &str, agent: &str, statuses: &[Value]) -> Value {
    json!({
        "name": id, "task_id": { "value": id }, "framework_id": { "value": "f" }, "state": state,
        "agent_id": { "value": agent }, "statuses": statuses,
    })
}

fn added(task: &Value) -> Value {
    json!({ "type": "TASK_ADDED", "task_added": { "task": task } })
}

fn updated(state: &str, status: &Value) -> Value {
    json!({ "task_updated": { "framework_id": { "value": "f" }, "state": state, "status": status } })
}

fn subscribed(tasks: &[Value], agents: &[Value], recovered: &[&str]) -> Value {
    let recovered = recovered.iter().map(|id| json!({ "id": { "value": id } }));
    json!({ "subscribed": { "get_state": {
        "get_tasks": { "tasks": tasks },
        "get_frameworks": { "frameworks": [framework("f", "fw")] },
        "get_agents": { "agents": agents, "recovered_agents": recovered.collect::<Vec<_>>() },
    } } })
}

/// Returns a bed with a task `a` at 9.0.0.1 on agent `s1`, and agents `s1` and `s2`.
fn running() -> Bed {
    let mut bed = Bed::new();
    let a = task("a", "TASK_RUNNING", "s1", &[status("a", Some(1), None)]);
    let b = task("b", "TASK_RUNNING", "s2", &[status("b", Some(2), None)]);
    let agents = [agent("s1", "10.0.0.1"), agent("s2", "10.0.0.2")];
    bed.event(&subscribed(&[a, b], &agents, &[]));
    assert!(bed.cluster.is_settled());
    bed
}

#[test]
fn only_running_tasks_have_names() {
    let mut bed = running();
    assert_eq!(bed.ips("a.fw.containerip.d"), [1]);
    for state in [
        "TASK_STAGING",
        "TASK_STARTING",
        "TASK_KILLING",
        "TASK_UNREACHABLE",
    ] {
        // The event's own state counts, not that of the status.
        bed.event(&updated(state, &status("a", Some(1), None)));
        assert_eq!(bed.ips("a.fw.containerip.d"), [0; 0], "{state}");
        bed.event(&updated("TASK_RUNNING", &status("a", Some(1), None)));
        assert_eq!(bed.ips("a.fw.containerip.d"), [1]);
    }
    bed.event(&updated("TASK_FINISHED", &status("a", Some(1), None)));
    assert_eq!(bed.ips("a.fw.containerip.d"), [0; 0]);
    assert_eq!(bed.ips("b.fw.containerip.d"), [2]);
    assert_eq!(bed.cluster.counts().tasks, 1);
}

#[test]
fn the_newest_status_counts() {
    for (statuses, expected) in [
        (vec![(1, Some(5.0)), (2, Some(6.0))], 2),
        (vec![(1, Some(6.0)), (2, Some(5.0))], 1),
        (vec![(1, None), (2, None)], 2),
        (vec![(1, Some(5.0)), (2, None)], 2),
    ] {
        let mut bed = running();
        let list: Vec<Value> = statuses
            .iter()
            .map(|(ip, time)| status("c", Some(*ip), *time))
            .collect();
        bed.event(&added(&task("c", "TASK_RUNNING", "s1", &list)));
        assert_eq!(bed.ips("c.fw.containerip.d"), [expected], "{statuses:?}");
    }
    let mut bed = running();
    bed.event(&updated("TASK_RUNNING", &status("a", None, Some(9.0))));
    assert_eq!(
        bed.ips("a.fw.containerip.d"),
        [1],
        "a status without networks"
    );
    let mut empty = status("a", None, Some(9.0));
    empty["container_status"] = json!({ "network_infos": [] });
    bed.event(&updated("TASK_RUNNING", &empty));
    assert_eq!(bed.ips("a.fw.containerip.d"), [0; 0]);
    assert_eq!(
        bed.ips("a.fw.autoip.d"),
        [1],
        "the agent's address 10.0.0.1"
    );
}

#[test]
fn addresses_can_have_the_length_of_a_prefix() {
    let mut bed = running();
    let mut with_length = status("a", Some(1), None);
    with_length["container_status"]["network_infos"][0]["ip_addresses"] = json!([{ "ip_address": "fd01:b::5/80" }, { "ip_address": "9.0.0.7" }, { "ip_address": "x" }, {}]);
    bed.event(&updated("TASK_RUNNING", &with_length));
    let six = Data::Aaaa("fd01:b::5".parse().unwrap());
    assert!(
        bed.records()
            .contains(&("a.fw.containerip.d".to_owned(), six))
    );
    assert_eq!(bed.ips("a.fw.containerip.d"), [7]);
}

#[test]
fn a_task_waits_for_its_agent_and_its_framework() {
    let mut bed = Bed::new();
    let a = task("a", "TASK_RUNNING", "s1", &[status("a", Some(1), None)]);
    bed.event(&added(&a));
    assert_eq!(bed.cluster.counts().waiting, 1);
    bed.event(&json!({ "framework_added": { "framework": framework("f", "fw") } }));
    assert!(bed.records().is_empty());
    bed.event(&json!({ "agent_added": { "agent": agent("s1", "10.0.0.1") } }));
    assert_eq!(bed.ips("a.fw.agentip.d"), [1]);
    // A renamed framework renames only tasks that come later.
    bed.event(&json!({ "framework_updated": { "framework": framework("f", "new") } }));
    let b = task("b", "TASK_RUNNING", "s1", &[status("b", Some(2), None)]);
    bed.event(&added(&b));
    assert_eq!(bed.ips("a.fw.containerip.d"), [1]);
    assert_eq!(bed.ips("b.new.containerip.d"), [2]);
    bed.event(&json!({ "framework_removed": framework("f", "new") }));
    assert!(bed.records().is_empty());
}

#[test]
fn a_host_name_is_looked_up() {
    let mut bed = running();
    bed.event(&json!({ "agent_added": { "agent": agent("s1", "host-1") } }));
    assert_eq!(
        bed.ips("a.fw.agentip.d"),
        [9],
        "the address in its process id"
    );
    assert_eq!(
        bed.cluster.hostnames(false),
        HashSet::from(["host-1".to_owned()])
    );
    bed.cluster.resolve("host-1", None);
    bed.apply();
    assert_eq!(bed.ips("a.fw.agentip.d"), [9]);
    assert!(bed.cluster.hostnames(false).is_empty());
    bed.cluster
        .resolve("host-1", Some("10.0.0.7".parse().unwrap()));
    bed.cluster.resolve("host-1", None);
    // Many hosts find their own name at their loopback.
    for nowhere in ["127.0.1.1", "::1", "0.0.0.0"] {
        bed.cluster
            .resolve("host-1", Some(nowhere.parse().unwrap()));
    }
    bed.apply();
    assert_eq!(
        bed.ips("a.fw.agentip.d"),
        [7],
        "a lookup that fails takes nothing away"
    );
    assert_eq!(bed.ips("b.fw.agentip.d"), [2]);
}

#[test]
fn an_agent_is_found_where_it_says() {
    let at = |hostname: &str, pid: &str| {
        let mut bed = running();
        let mut agent = agent("s1", hostname);
        agent["pid"] = pid.into();
        bed.event(&json!({ "agent_added": { "agent": agent } }));
        bed.ips("a.fw.agentip.d")
    };
    assert_eq!(at("10.0.0.3", "slave(1)@10.0.0.9:5051"), [3]);
    assert_eq!(at("127.0.0.3", "slave(1)@10.0.0.9:5051"), [9]);
    assert_eq!(at("127.0.0.3", "slave(1)@127.0.0.9:5051"), [3]);
    // It has told another one before.
    assert_eq!(at("0.0.0.0", "slave(1)@0.0.0.0:5051"), [9]);
    assert_eq!(at("127.0.0.3", ""), [9]);
    // It registers again, at another address.
    let mut bed = running();
    bed.event(&json!({ "agent_added": { "agent": agent("s1", "host-1") } }));
    let mut moved = agent("s1", "host-1");
    moved["pid"] = "slave(1)@10.0.0.8:5051".into();
    bed.event(&json!({ "agent_added": { "agent": moved } }));
    assert_eq!(bed.ips("a.fw.agentip.d"), [8]);
}

#[test]
fn what_went_away_unseen_is_forgotten() {
    let mut bed = running();
    let mut state = subscribed(&[], &[agent("s1", "10.0.0.1")], &[]);
    state["subscribed"]["get_state"]["get_frameworks"] = json!({});
    bed.event(&state);
    bed.pass(0);
    bed.pass(11);
    let counts = bed.cluster.counts();
    assert_eq!((counts.frameworks, counts.agents, counts.tasks), (0, 1, 0));
    // Without a task of it there is nothing to wait for.
    bed.event(&subscribed(&[], &[], &[]));
    let counts = bed.cluster.counts();
    assert_eq!((counts.frameworks, counts.agents), (1, 0));
    assert!(bed.cluster.is_settled());
}

#[test]
fn discovery_names_and_shared_names() {
    let mut bed = running();
    let mut pod = task("c", "TASK_RUNNING", "s1", &[status("c", Some(3), None)]);
    pod["discovery"] =
        json!({ "name": "pod.group", "ports": { "ports": [{ "number": 80, "name": "web" }] } });
    let mut other = pod.clone();
    other["task_id"]["value"] = "d".into();
    bed.event(&added(&pod));
    bed.event(&added(&other));
    assert_eq!(bed.ips("pod-group.fw.containerip.d"), [3]);
    assert_eq!(bed.ips("c.fw.containerip.d"), [0; 0]);
    bed.event(&updated("TASK_FINISHED", &status("c", None, None)));
    assert_eq!(
        bed.ips("pod-group.fw.containerip.d"),
        [3],
        "the other container"
    );
    bed.event(&updated("TASK_FINISHED", &status("d", None, None)));
    assert_eq!(bed.ips("pod-group.fw.containerip.d"), [0; 0]);
}

#[test]
fn a_task_without_a_name_is_left_out_and_said() {
    let mut bed = running();
    let mut nameless = task("c", "TASK_RUNNING", "s1", &[status("c", Some(3), None)]);
    nameless["name"] = "__".into();
    let before = bed.records();
    bed.event(&added(&nameless));
    assert_eq!(bed.records(), before);
    let left_out: Vec<&LeftOut> = bed.cluster.left_out().collect();
    assert_eq!(
        (left_out.len(), left_out[0].problem),
        (1, Problem::EmptyTask)
    );
    assert_eq!(bed.cluster.counts().left_out, 1);
    bed.event(&updated("TASK_FAILED", &status("c", None, None)));
    assert_eq!(
        (
            bed.cluster.left_out().count(),
            bed.cluster.counts().left_out
        ),
        (0, 0)
    );
}

#[test]
fn a_network_without_a_label_is_left_out_and_said() {
    let mut bed = running();
    let mut status = status("a", Some(1), None);
    status["container_status"]["network_infos"][0]["name"] = "__".into();
    bed.event(&updated("TASK_RUNNING", &status));
    assert_eq!(bed.ips("a.fw.containerip.d"), [1], "its other names");
    let problems = |bed: &Bed| -> Vec<Problem> {
        let left_out = bed.cluster.left_out();
        left_out.map(|left_out| left_out.problem).collect()
    };
    assert_eq!(problems(&bed), [Problem::EmptyNetwork]);
    let found = bed
        .cluster
        .search(&Wanted::Address("9.0.0.1".parse().unwrap()));
    let problem = Problem::EmptyNetwork.to_string();
    assert_eq!((found.len(), &found[0].problem), (1, &Some(problem)));
    // A network without any name is no problem: that of the host has none.
    let infos = &mut status["container_status"]["network_infos"];
    infos[0].as_object_mut().unwrap().remove("name");
    bed.event(&updated("TASK_RUNNING", &status));
    assert_eq!(problems(&bed), []);
    assert_eq!(bed.cluster.counts().left_out, 0);
}

#[test]
fn tasks_are_found_by_name_and_address() {
    let mut bed = running();
    let mut with_port = task("c", "TASK_RUNNING", "s1", &[status("c", Some(3), None)]);
    with_port["discovery"] =
        json!({ "name": "web", "ports": { "ports": [{ "number": 80, "name": "http" }] } });
    bed.event(&added(&with_port));
    let ids = |wanted| {
        let found = bed.cluster.search(&wanted);
        let mut ids: Vec<String> = found.into_iter().map(|task| task.id).collect();
        ids.sort();
        ids
    };
    let by_name = |name: &str| ids(Wanted::Name(parse_name(name).unwrap()));
    assert_eq!(by_name("web.fw.containerip.d"), ["c"]);
    assert_eq!(by_name("_http._tcp.web.fw.autoip.d"), ["c"]);
    assert_eq!(by_name("9-0-0-3.web.fw.containerip.d"), ["c"]);
    assert_eq!(by_name("3.0.0.9.in-addr.arpa"), ["c"]);
    assert_eq!(by_name("a.fw.dcos.overlay.d"), ["a"]);
    for none in [
        "web.fw.d",
        "x.fw.containerip.d",
        "fw.web.containerip.d",
        "4.0.0.9.in-addr.arpa",
    ] {
        assert_eq!(by_name(none), [""; 0], "{none}");
    }
    let by_ip = |ip: &str| ids(Wanted::Address(ip.parse().unwrap()));
    assert_eq!(by_ip("9.0.0.3"), ["c"]);
    assert_eq!(by_ip("10.0.0.1"), ["a", "c"], "the agent's address");
}

/// A new master knows of its agents, but not what runs on them, until they are back.
#[test]
fn nothing_is_forgotten_before_recovered_agents_are_back() {
    let mut bed = running();
    let before = bed.records();
    bed.event(&subscribed(&[], &[], &["s1", "s2"]));
    assert_eq!(bed.records(), before);
    assert!(!bed.cluster.is_settled());
    bed.pass(100);
    let a = task("a", "TASK_RUNNING", "s1", &[status("a", Some(1), None)]);
    bed.event(&added(&a));
    bed.event(&json!({ "agent_added": { "agent": agent("s1", "10.0.0.1") } }));
    bed.event(&json!({ "agent_added": { "agent": agent("s2", "10.0.0.2") } }));
    bed.pass(0);
    bed.pass(9);
    assert_eq!(bed.records(), before);
    bed.pass(2);
    assert!(bed.cluster.is_settled());
    assert_eq!(bed.ips("a.fw.containerip.d"), [1]);
    assert_eq!(bed.ips("b.fw.containerip.d"), [0; 0], "it ended meanwhile");
}

#[test]
fn agents_that_do_not_come_back_are_not_waited_for_forever() {
    let mut bed = running();
    bed.event(&subscribed(&[], &[agent("s1", "10.0.0.1")], &["s2"]));
    assert_eq!(
        bed.ips("a.fw.containerip.d"),
        [0; 0],
        "its agent is here, without it"
    );
    bed.pass(609);
    assert_eq!(bed.ips("b.fw.containerip.d"), [2]);
    bed.pass(2);
    assert!(bed.records().is_empty());
    assert_eq!(bed.cluster.counts().agents, 1);
}

#[test]
fn what_ended_while_no_stream_was_there_is_gone_at_once() {
    let mut bed = running();
    let mut state = subscribed(&[], &[], &["s1", "s2"]);
    let ended = |id: &str| json!({ "task_id": { "value": id }, "framework_id": { "value": "f" } });
    state["subscribed"]["get_state"]["get_tasks"]["completed_tasks"] = json!([ended("a")]);
    bed.event(&state);
    assert_eq!(bed.ips("a.fw.containerip.d"), [0; 0]);
    assert_eq!(bed.ips("b.fw.containerip.d"), [2]);
    // A task that runs can have the id of one that ended before.
    let b = task("b", "TASK_RUNNING", "s2", &[status("b", Some(2), None)]);
    let mut state = subscribed(&[b], &[agent("s2", "10.0.0.2")], &[]);
    state["subscribed"]["get_state"]["get_tasks"]["completed_tasks"] = json!([ended("b")]);
    bed.event(&state);
    assert_eq!(bed.ips("b.fw.containerip.d"), [2]);
}

#[test]
fn ranges_can_change() {
    let mut bed = running();
    let pointers = |bed: &Bed| {
        let records = bed.records();
        records
            .iter()
            .filter(|(owner, _)| owner.ends_with(".arpa"))
            .count()
    };
    assert_eq!(pointers(&bed), 2);
    let batch = bed.cluster.set_ranges(Vec::new());
    bed.zones.apply(batch, std::time::UNIX_EPOCH);
    assert_eq!(pointers(&bed), 0);
    let batch = bed.cluster.set_ranges(vec!["9.0.0.2/32".parse().unwrap()]);
    bed.zones.apply(batch, std::time::UNIX_EPOCH);
    assert_eq!(pointers(&bed), 1);
}

/// A real master's events: a task runs, another one with a port of the host is started, and the first
/// one is killed.
#[test]
fn recorded_events_become_names() {
    let recorded = include_bytes!("../../tests/fixtures/events");
    let mut bed = Bed::new();
    let (cluster, now) = (&mut bed.cluster, bed.now);
    events::read_all(&recorded[..], |item| cluster.handle(item, now)).unwrap();
    bed.apply();
    assert!(bed.cluster.is_settled());
    let records = bed.records();
    let owners: BTreeSet<&str> = records.iter().map(|(owner, _)| owner.as_str()).collect();
    let instance = owners
        .iter()
        .find(|owner| owner.starts_with("9-0-"))
        .unwrap();
    for owner in [
        "found-by.testbed.containerip.d",
        "found-by.testbed.agentip.d",
        "found-by.testbed.autoip.d",
        "found-by.testbed.dcos.overlay.d",
        "_http._tcp.found-by.testbed.containerip.d",
        "_http._tcp.found-by.testbed.agentip.d",
        "_http._tcp.found-by.testbed.autoip.d",
    ] {
        assert!(owners.contains(owner), "{owner} in {owners:?}");
    }
    assert!(instance.ends_with(".found-by.testbed.containerip.d"));
    assert!(
        !owners.iter().any(|owner| owner.contains("before")),
        "{owners:?}"
    );
    let six = |(owner, data): &(String, Data)| {
        owner == "found-by.testbed.containerip.d" && matches!(data, Data::Aaaa(_))
    };
    assert!(records.iter().any(six), "{records:?}");
}
