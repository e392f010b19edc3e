//! Answers of an engine without sockets, compared with the zone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Serial};
use domain::rdata::AllRecordData;
use proptest::prelude::*;

use super::Config;
use super::answer::{Client, Transport};
use super::authority::Authority;
use super::engine::{Engine, Next};
use super::metrics::Counters;
use crate::publisher;
use crate::zone::{Batch, Data, Knowledge, Record, Soa, Zones, parse_name};

/// Labels of the names: few, so that names are below each other, and one with each kind of letter.
const LABELS: [&str; 5] = ["a", "b", "c-1", "Upper", "_s"];

const APEX: &str = "zone.example";

/// Records by owner in lower case, as texts of a zone file.
type Model = BTreeMap<String, BTreeSet<(Rtype, String)>>;

fn engine(records: &[(Vec<usize>, u8)]) -> (Engine, Model) {
    let mut zones = Zones::default();
    let soa = Soa::new(
        parse_name("ns.other").unwrap(),
        parse_name("root.other").unwrap(),
        Serial(1),
    );
    zones.insert(parse_name(APEX).unwrap(), soa, SystemTime::UNIX_EPOCH);
    let mut model = Model::new();
    let mut added = Vec::new();
    for (labels, number) in records {
        let owner = name(labels);
        let data = match number % 3 {
            0 => Data::A([9, 0, 0, *number].into()),
            1 => Data::Aaaa([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(*number)].into()),
            _ => Data::Srv {
                port: u16::from(*number),
                target: parse_name("b.zone.example").unwrap(),
            },
        };
        let text = match &data {
            Data::A(ip) => (Rtype::A, ip.to_string()),
            Data::Aaaa(ip) => (Rtype::AAAA, ip.to_string()),
            _ => (Rtype::SRV, format!("0 0 {number} b.zone.example.")),
        };
        model.entry(owner.to_lowercase()).or_default().insert(text);
        let owner = parse_name(&owner).unwrap();
        added.push(Record { owner, data });
    }
    let batch = Batch {
        added,
        ..Batch::default()
    };
    zones.apply(batch, SystemTime::UNIX_EPOCH);
    zones.set_knowledge(Knowledge::Complete);
    let authority = Arc::new(Authority::new(zones));
    (
        Engine::new(&Config::default(), authority, None, [0; 16]),
        model,
    )
}

fn name(labels: &[usize]) -> String {
    let labels = labels
        .iter()
        .map(|label| format!("{}.", LABELS[label % LABELS.len()]));
    labels.collect::<String>() + APEX
}

fn ask(engine: &Engine, name: &str, rtype: Rtype, transport: Transport) -> Vec<u8> {
    let mut question = MessageBuilder::new_vec().question();
    let name: domain::base::Name<Vec<u8>> = name.parse().unwrap();
    question.push((name, rtype)).unwrap();
    let message = question.finish();
    let client = Client {
        address: [127, 0, 0, 1].into(),
        transport,
    };
    let mut out = Vec::new();
    let zones = engine.authority.zones();
    let next = engine.answer(&zones, &message, client, &Counters::default(), &mut out);
    assert_eq!(next, Next::Send);
    out
}

/// Returns the records of the answer section as texts.
fn answers(message: &Message<Vec<u8>>) -> BTreeSet<(Rtype, String)> {
    let section = message.answer().unwrap();
    let records = section.limit_to::<AllRecordData<_, _>>();
    records
        .map(|record| {
            let record = record.unwrap();
            let text = match record.data() {
                AllRecordData::A(data) => data.addr().to_string(),
                AllRecordData::Aaaa(data) => data.addr().to_string(),
                AllRecordData::Srv(data) => format!("0 0 {} {}.", data.port(), data.target()),
                other => panic!("{other:?}"),
            };
            (record.rtype(), text)
        })
        .collect()
}

proptest! {
    #[test]
    fn answers_are_what_the_zone_has(
        records in prop::collection::vec((prop::collection::vec(0..5_usize, 1..4), any::<u8>()), 0..40),
        asked in prop::collection::vec((prop::collection::vec(0..5_usize, 0..5), 0..3_usize), 1..20),
    ) {
        let (engine, model) = engine(&records);
        for (labels, kind) in asked {
            let rtype = [Rtype::A, Rtype::AAAA, Rtype::SRV][kind];
            let wanted = name(&labels);
            let message = ask(&engine, &wanted, rtype, Transport::Tcp(Duration::from_secs(1)));
            let message = Message::from_octets(message).unwrap();
            let lower = wanted.to_lowercase();
            let of_name = model.get(&lower).cloned().unwrap_or_default();
            let expected: BTreeSet<_> = of_name.into_iter().filter(|(own, _)| *own == rtype).collect();
            // Names between others exist, and so does the zone itself.
            let below = format!(".{lower}");
            let exists = lower == APEX || model.keys().any(|own| *own == lower || own.ends_with(&below));
            prop_assert_eq!(answers(&message), expected.clone());
            prop_assert!(message.header().aa() && !message.header().tc());
            let code = if exists { Rcode::NOERROR } else { Rcode::NXDOMAIN };
            prop_assert_eq!(message.header().rcode(), code);
            let has_soa = message.header_counts().nscount() == 1;
            prop_assert_eq!(has_soa, expected.is_empty());
            prop_assert_eq!(message.sole_question().unwrap().qname().to_string(), wanted);
        }
    }

    #[test]
    fn any_bytes_are_answered_or_ignored(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let (engine, _) = engine(&[(vec![0], 0)]);
        let client = Client { address: [127, 0, 0, 1].into(), transport: Transport::Udp };
        let mut out = Vec::new();
        let zones = engine.authority.zones();
        if engine.answer(&zones, &bytes, client, &Counters::default(), &mut out) == Next::Send {
            prop_assert!(out[..2] == bytes[..2] && out[2] & 0x80 != 0 && out.len() <= 512);
        }
    }
}

/// A question for `a.` with a signature of the key `k.`, which nobody has.
const SIGNED: [u8; 61] = *b"\0\x01\0\0\0\x01\0\0\0\0\0\x01\x01a\0\0\x01\0\x01\
\x01k\0\0\xfa\0\xff\0\0\0\0\0\x1d\x0bhmac-sha256\0\0\0\0\0\0\0\x01\x2c\0\0\0\x01\0\0\0\0";

/// Returns the code of the answer to a message over UDP, if there is one that is not truncated.
fn code(engine: &Engine, message: &[u8], address: [u8; 4]) -> Option<u8> {
    let client = Client {
        address: address.into(),
        transport: Transport::Udp,
    };
    let mut out = Vec::new();
    let zones = engine.authority.zones();
    let next = engine.answer(&zones, message, client, &Counters::default(), &mut out);
    (next == Next::Send && out[2] & 2 == 0).then(|| out[3] & 15)
}

#[test]
fn wrong_signatures_are_limited_as_questions_are() {
    let settings = |keys: &str| Config {
        rate_limit: 3,
        keys: super::keys::parse(keys).unwrap(),
        ..Config::default()
    };
    let nothing = || Arc::new(Authority::new(Zones::default()));
    let new = |config: &Config| Engine::new(config, nothing(), None, [0; 16]);
    let engine = new(&settings("hmac-sha256:other:c2VjcmV0"));
    let codes = (0..100).filter_map(|_| code(&engine, &SIGNED, [10, 0, 0, 1]));
    let codes: Vec<u8> = codes.collect();
    // A second may end meanwhile.
    assert!((3..=6).contains(&codes.len()), "{codes:?}");
    assert!(codes.iter().all(|code| *code == 9), "{codes:?}");
    // Any address may have a key, unless there is none.
    assert_eq!(code(&engine, &SIGNED, [8, 8, 8, 8]), Some(9));
    assert_eq!(code(&new(&settings("")), &SIGNED, [8, 8, 8, 8]), Some(5));
}

#[test]
fn records_that_cannot_be_read_are_an_error() {
    let (engine, _) = engine(&[]);
    // A question for `a. A`. Of the two answers that the header counts there are none.
    let message = *b"\0\x01\0\0\0\x01\0\x02\0\0\0\0\x01a\0\0\x01\0\x01";
    assert_eq!(code(&engine, &message, [127, 0, 0, 1]), Some(1));
}

#[test]
fn own_names_are_a_failure_before_they_are_known() {
    let settings = publisher::Settings {
        domains: vec![parse_name(APEX).unwrap()],
        ranges: vec!["9.0.0.0/8".parse().unwrap()],
        mname: None,
        rname: None,
        name_servers: Vec::new(),
        addresses: Vec::new(),
        max_age: Duration::ZERO,
    };
    let zones = publisher::unknown(&settings, SystemTime::UNIX_EPOCH);
    let authority = Arc::new(Authority::new(zones));
    let engine = Engine::new(&Config::default(), authority, None, [0; 16]);
    for (name, rtype, code) in [
        ("a.zone.example", Rtype::A, Rcode::SERVFAIL),
        (APEX, Rtype::SOA, Rcode::SERVFAIL),
        ("1.0.0.9.in-addr.arpa", Rtype::PTR, Rcode::SERVFAIL),
        // It can be an address of an overlay, which no master has told of.
        ("1.0.0.11.in-addr.arpa", Rtype::PTR, Rcode::SERVFAIL),
        ("example.org", Rtype::A, Rcode::REFUSED),
    ] {
        let answer = ask(&engine, name, rtype, Transport::Udp);
        let answer = Message::from_octets(answer).unwrap();
        assert_eq!(answer.header().rcode(), code, "{name}");
    }
}

#[test]
fn the_end_of_a_task_is_reported() {
    use std::sync::mpsc;
    use std::sync::{Mutex, OnceLock};
    static REPORTS: OnceLock<Mutex<mpsc::Sender<String>>> = OnceLock::new();
    let (sender, reports) = mpsc::channel();
    REPORTS.set(Mutex::new(sender)).unwrap();
    let broken = |what: &str| {
        let sender = REPORTS.get().unwrap().lock().unwrap();
        sender.send(what.to_owned()).unwrap();
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    super::supervise(runtime.handle(), "a task", async {}, broken);
    let panics = async { panic!("wanted by the test") };
    super::supervise(runtime.handle(), "another task", panics, broken);
    runtime.block_on(async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    });
    drop(runtime);
    let reports: Vec<String> = reports.try_iter().collect();
    assert_eq!(reports, ["another task"]);
}
