//! Messages to the name server. The first byte selects the transport. Each answer belongs to its
//! request, can be read, and is no larger than the client takes; a zone that is sent is the whole one.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use domain::base::iana::Rtype;
use domain::base::{Message, ParsedName, Serial};
use domain::rdata::AllRecordData;
use overlay_dns::server::answer::{Client, Transport};
use overlay_dns::server::authority::Authority;
use overlay_dns::server::engine::{Engine, Next};
use overlay_dns::server::metrics::Counters;
use overlay_dns::server::{Config, keys, transfer};
use overlay_dns::zone::{Batch, Data, Knowledge, Record, Soa, Zones, parse_name};

/// Addresses of the name with the largest answer.
const MANY: u8 = 100;

static ENGINE: LazyLock<Engine> = LazyLock::new(engine);

/// Returns a server with a zone `d` and a key `k`, which sends zones to everybody on this host.
fn engine() -> Engine {
    let name = |text: &str| parse_name(text).expect("a name");
    let mut zones = Zones::default();
    let soa = Soa::new(name("ns.d"), name("m.d"), Serial(1));
    zones.insert(name("d"), soa, SystemTime::UNIX_EPOCH);
    let record = |owner: &str, data| Record {
        owner: name(owner),
        data,
    };
    let mut added: Vec<Record> = (0..MANY)
        .map(|last| record("many.d", Data::A([9, 0, 0, last].into())))
        .collect();
    added.extend([
        record("a.b.d", Data::A([9, 0, 1, 1].into())),
        record("a.b.d", Data::Aaaa(1.into())),
        record("d", Data::Ns(name("many.d"))),
        record(
            "_s._t.d",
            Data::Srv {
                port: 1,
                target: name("many.d"),
            },
        ),
    ]);
    let batch = Batch {
        added,
        removed: Vec::new(),
    };
    zones.apply(batch, SystemTime::UNIX_EPOCH);
    zones.set_knowledge(Knowledge::Complete);
    let config = Config {
        transfer: ["127.0.0.0/8".parse().expect("a range")]
            .into_iter()
            .collect(),
        keys: keys::parse("hmac-sha256:k:c2VjcmV0").expect("a key"),
        ..Config::default()
    };
    Engine::new(&config, Arc::new(Authority::new(zones)), None, [7; 16])
}

pub(crate) fn run(data: &[u8]) {
    let [which, request @ ..] = data else { return };
    let transport = match which % 2 {
        0 => Transport::Udp,
        _ => Transport::Tcp(Duration::from_secs(10)),
    };
    let client = Client {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        transport,
    };
    let (counters, mut answer) = (Counters::default(), Vec::new());
    let zones = ENGINE.authority.zones();
    match ENGINE.answer(&zones, request, client, &counters, &mut answer) {
        Next::Nothing => {}
        Next::Forward => panic!("there is no resolver"),
        Next::Send => check(request, &answer, transport),
        Next::Transfer => {
            assert_ne!(transport, Transport::Udp);
            let mut records = 0;
            transfer::run(&ENGINE, client, request, &counters, &mut |message| {
                check(request, &message, transport);
                records += usize::from(
                    Message::from_slice(&message)
                        .expect("a message")
                        .header_counts()
                        .ancount(),
                );
                true
            });
            let zone = zones.iter().next().expect("a zone");
            // The zone between two starts of authority, or one alone.
            assert!(records == zone.len() + 2 || records == 1, "{records}");
        }
    }
}

/// Checks an answer.
fn check(request: &[u8], answer: &[u8], transport: Transport) {
    let message = Message::from_slice(answer).expect("a whole header");
    let asked = Message::from_slice(request).expect("a request with a whole header");
    let (header, of_request) = (message.header(), asked.header());
    assert!(header.qr() && !of_request.qr());
    assert_eq!(
        (header.id(), header.opcode()),
        (of_request.id(), of_request.opcode())
    );
    if transport == Transport::Udp {
        assert!(answer.len() <= 1_232, "{}", answer.len());
        let is_plain = asked.header_counts().arcount() == 0;
        assert!(!is_plain || answer.len() <= 512, "{}", answer.len());
    } else {
        assert!(!header.tc());
    }
    for question in message.question() {
        question.expect("a question");
    }
    for record in message.iter() {
        let (record, _) = record.expect("a record");
        if !matches!(record.rtype(), Rtype::OPT | Rtype::TSIG) {
            record
                .into_record::<AllRecordData<_, ParsedName<_>>>()
                .expect("data that can be read");
        }
    }
}
