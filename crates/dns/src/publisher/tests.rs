use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::*;
use crate::events;
use crate::zone::Lookup;

const AGENT: &str = "s1";

fn settings() -> Settings {
    Settings {
        domains: vec![parse_name("d").unwrap()],
        ranges: vec!["9.0.0.0/24".parse().unwrap()],
        mname: None,
        rname: None,
        name_servers: Vec::new(),
        addresses: Vec::new(),
        max_age: Duration::from_secs(86_400),
    }
}

/// A publisher, and seconds since its start.
struct Bed {
    publisher: Publisher,
    authority: Arc<Authority>,
    second: u64,
}

impl Bed {
    /// Starts a publisher, with a snapshot if there is one, at this second.
    fn start(snapshot: Option<&[u8]>, second: u64) -> Bed {
        let authority = Arc::new(Authority::new(Zones::default()));
        let rules = Publisher::rules(&settings());
        let kept = snapshot.map(|content| snapshot::decode(content, &rules).unwrap());
        let at = at(second);
        let publisher = Publisher::new(settings(), kept, Arc::clone(&authority), at);
        Bed {
            publisher,
            authority,
            second,
        }
    }

    fn event(&mut self, event: &Value) {
        let (publisher, now) = (&mut self.publisher, at(self.second));
        let text = event.to_string();
        events::decode(text.as_bytes(), &mut |item| publisher.handle(item, now)).unwrap();
        self.pass(1);
    }

    /// Lets seconds pass, one by one.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second += 1;
            self.publisher.tick(at(self.second));
        }
    }

    fn lose(&mut self) {
        let now = at(self.second);
        self.publisher.lose(now.calendar, now);
    }

    fn knowledge(&self) -> Knowledge {
        self.authority.zones().knowledge()
    }

    fn exists(&self, name: &str) -> bool {
        let (zones, name) = (self.authority.zones(), parse_name(name).unwrap());
        let zone = zones.zone_of(name.as_slice()).unwrap();
        matches!(zone.find(name.as_slice()), Lookup::Name([_, ..]))
    }

    fn snapshot(&self) -> Vec<u8> {
        self.publisher.snapshot(at(self.second).calendar).unwrap()
    }
}

fn at(second: u64) -> Now {
    Now {
        clock: Duration::from_secs(second),
        calendar: UNIX_EPOCH + Duration::from_secs(1_800_000_000 + second),
    }
}

fn agent() -> Value {
    json!({ "agent_info": { "id": { "value": AGENT }, "hostname": "10.0.0.1" } })
}

fn task() -> Value {
    json!({
        "name": "a", "task_id": { "value": "a" }, "framework_id": { "value": "f" },
        "agent_id": { "value": AGENT }, "state": "TASK_RUNNING", "statuses": [{ "container_status": {
            "network_infos": [{ "name": "dcos", "ip_addresses": [{ "ip_address": "9.0.0.1" }] }],
        } }],
    })
}

/// Returns the state of a master: all of the cluster, or nothing, since the agent is not back.
fn state(is_back: bool) -> Value {
    let one_if = |is: bool, entry: Value| if is { vec![entry] } else { Vec::new() };
    json!({ "subscribed": { "get_state": {
        "get_tasks": { "tasks": one_if(is_back, task()) },
        "get_frameworks": { "frameworks": [
            { "framework_info": { "id": { "value": "f" }, "name": "fw" } },
        ] },
        "get_agents": {
            "agents": one_if(is_back, agent()),
            "recovered_agents": one_if(!is_back, json!({ "id": { "value": AGENT } })),
        },
    } } })
}

const NAME: &str = "a.fw.containerip.d";
const POINTER: &str = "1.0.0.9.in-addr.arpa";

/// Returns a publisher that knows a task of a settled master, at second 1.
fn complete() -> Bed {
    let mut bed = Bed::start(None, 0);
    assert_eq!(bed.knowledge(), Knowledge::Nothing);
    bed.event(&state(true));
    assert_eq!(bed.knowledge(), Knowledge::Complete);
    assert!(bed.exists(NAME) && bed.exists(POINTER));
    bed
}

#[test]
fn a_stream_that_ends_before_agents_are_back_takes_no_name() {
    let mut bed = complete();
    bed.lose();
    bed.pass(5);
    bed.event(&state(false));
    bed.lose();
    bed.pass(1000);
    assert!(bed.exists(NAME));
    assert!(matches!(bed.knowledge(), Knowledge::Since(_)));
    // The next one, too, waits for the agent for ten minutes.
    bed.event(&state(false));
    bed.pass(600);
    assert!(bed.exists(NAME));
    bed.pass(20);
    assert!(!bed.exists(NAME));
    assert_eq!(bed.knowledge(), Knowledge::Complete);
}

#[test]
fn a_failover_keeps_answers_complete() {
    let mut bed = complete();
    bed.lose();
    bed.pass(30);
    assert!(matches!(bed.knowledge(), Knowledge::Since(_)));
    bed.event(&state(false));
    assert_eq!(bed.knowledge(), Knowledge::Complete);
    bed.lose();
    // Both times without a master count together.
    bed.pass(40);
    bed.event(&state(false));
    assert_eq!(bed.knowledge(), Knowledge::Partial);
    assert!(bed.publisher.snapshot(at(bed.second).calendar).is_none());
    bed.event(&json!({ "task_added": { "task": task() } }));
    bed.event(&json!({ "agent_added": { "agent": agent() } }));
    bed.pass(12);
    assert_eq!(bed.knowledge(), Knowledge::Complete);
    assert!(bed.exists(NAME));
}

#[test]
fn a_master_without_its_agents_is_not_all_there_is() {
    let mut bed = complete();
    bed.lose();
    bed.pass(3600);
    assert!(matches!(bed.knowledge(), Knowledge::Since(_)));
    bed.event(&state(false));
    assert_eq!(bed.knowledge(), Knowledge::Partial);
    bed.lose();
    bed.pass(60);
    assert_eq!(bed.knowledge(), Knowledge::Partial);
    assert!(bed.exists(NAME));
    // A master that has its agents tells everything at once.
    bed.event(&state(true));
    assert_eq!(bed.knowledge(), Knowledge::Complete);
    // What is known of the first state is answered as long as others may be.
    let mut bed = Bed::start(None, 0);
    bed.event(&state(false));
    bed.event(&json!({ "agent_added": { "agent": agent() } }));
    bed.event(&json!({ "task_added": { "task": task() } }));
    assert_eq!(bed.knowledge(), Knowledge::Partial);
    bed.lose();
    bed.pass(86_000);
    assert_eq!(bed.knowledge(), Knowledge::Partial);
    assert!(bed.exists(NAME));
    bed.pass(500);
    assert_eq!(bed.knowledge(), Knowledge::Nothing);
}

#[test]
fn a_snapshot_is_a_part_until_a_master_is_heard_or_missed() {
    let mut bed = complete();
    bed.pass(60);
    let kept = bed.snapshot();
    let mut bed = Bed::start(Some(&kept), 100);
    assert_eq!(bed.knowledge(), Knowledge::Partial);
    assert!(bed.exists(NAME) && bed.exists(POINTER));
    bed.pass(9);
    assert_eq!(bed.knowledge(), Knowledge::Partial);
    bed.pass(2);
    assert_eq!(bed.knowledge(), Knowledge::Since(at(61).calendar));
    let mut bed = Bed::start(Some(&kept), 100);
    bed.event(&state(true));
    assert_eq!(bed.knowledge(), Knowledge::Complete);
    // A large state takes longer to read than masters to be found.
    let mut bed = Bed::start(Some(&kept), 100);
    bed.publisher.handle(Item::StateBegins, at(101));
    bed.pass(20);
    assert_eq!(bed.knowledge(), Knowledge::Partial);
    let mut bed = Bed::start(Some(&kept), 100_000);
    bed.pass(1);
    assert_eq!(bed.knowledge(), Knowledge::Nothing);
}

#[test]
fn pointers_of_a_snapshot_end_with_their_task() {
    let kept = complete().snapshot();
    let mut bed = Bed::start(Some(&kept), 100);
    bed.event(&state(true));
    bed.event(&json!({ "task_updated": {
        "framework_id": { "value": "f" }, "state": "TASK_FINISHED",
        "status": { "task_id": { "value": "a" }, "state": "TASK_FINISHED" },
    } }));
    assert!(!bed.exists(NAME));
    assert!(!bed.exists(POINTER));
}

#[test]
fn masters_of_a_snapshot_stay() {
    let mut bed = complete();
    let ips: Vec<IpAddr> = vec!["10.0.0.8".parse().unwrap(), "10.0.0.9".parse().unwrap()];
    bed.publisher
        .set_masters(Some(ips[1]), ips.clone(), at(bed.second));
    let kept = bed.snapshot();
    let bed = Bed::start(Some(&kept), 100);
    assert_eq!(bed.publisher.cluster().masters(), (Some(ips[1]), &ips[..]));
    assert!(bed.exists("leader.d") && bed.exists("master.d"));
}
