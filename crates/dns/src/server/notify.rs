//! NOTIFY (RFC 1996): secondaries are told that a zone has changed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use domain::base::iana::{Class, Opcode, Rtype};
use domain::base::{MessageBuilder, Serial};
use domain::net::client::dgram;
use domain::net::client::protocol::UdpConnect;
use domain::net::client::request::{RequestMessage, SendRequest};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::answer::{soa_data, soa_ttl};
use super::engine::{Engine, is_complete};
use super::metrics::{Counters, add};
use crate::zone::{DomainName, Zone};

/// Time that a secondary has to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Pauses after messages without an answer. A secondary that was not reached asks by itself when its
/// zone is to be refreshed.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];

/// Least time between two messages about a zone.
const INTERVAL: Duration = Duration::from_millis(100);

/// Tells secondaries of every change, until the authority ends.
pub async fn run(engine: Arc<Engine>, secondaries: Vec<SocketAddr>, counters: Arc<Counters>) {
    let mut changes = engine.authority.subscribe();
    let mut told: HashMap<DomainName, Serial> = HashMap::new();
    let mut tasks: HashMap<(DomainName, SocketAddr), JoinHandle<()>> = HashMap::new();
    loop {
        for (apex, serial, message) in news(&engine, &told) {
            for secondary in &secondaries {
                let task = tokio::spawn(tell(*secondary, message.clone(), Arc::clone(&counters)));
                // What an older message says is out of date.
                if let Some(older) = tasks.insert((apex.clone(), *secondary), task) {
                    older.abort();
                }
            }
            told.insert(apex, serial);
        }
        if changes.changed().await.is_err() {
            return;
        }
        sleep(INTERVAL).await;
    }
}

/// Returns the zones that have changed since they were told of, with the messages.
fn news(
    engine: &Engine,
    told: &HashMap<DomainName, Serial>,
) -> Vec<(DomainName, Serial, RequestMessage<Vec<u8>>)> {
    let zones = engine.authority.zones();
    if !is_complete(&zones) {
        return Vec::new();
    }
    let changed = zones
        .iter()
        .filter(|zone| told.get(zone.apex()) != Some(&zone.soa().serial));
    let with_message = |zone: &Zone| Some((zone.apex().clone(), zone.soa().serial, message(zone)?));
    changed.filter_map(with_message).collect()
}

/// Returns the message about a zone, with its start of authority (RFC 1996, section 3.7).
fn message(zone: &Zone) -> Option<RequestMessage<Vec<u8>>> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_opcode(Opcode::NOTIFY);
    builder.header_mut().set_aa(true);
    let mut builder = builder.question();
    builder.push((zone.apex(), Rtype::SOA)).ok()?;
    let mut builder = builder.answer();
    let soa = soa_data(zone.soa());
    builder
        .push((zone.apex(), Class::IN, soa_ttl(), soa))
        .ok()?;
    RequestMessage::new(builder.into_message()).ok()
}

/// Sends a message until it is answered, a few times.
async fn tell(secondary: SocketAddr, message: RequestMessage<Vec<u8>>, counters: Arc<Counters>) {
    let mut config = dgram::Config::new();
    config.set_read_timeout(ANSWER_TIME);
    config.set_max_retries(0);
    config.set_udp_payload_size(None);
    let connection = dgram::Connection::with_config(UdpConnect::new(secondary), config);
    let mut error = None;
    for pause in PAUSES {
        match connection
            .send_request(message.clone())
            .get_response()
            .await
        {
            Ok(answer) if answer.no_error() => {
                add(&counters.notified, 1);
                return;
            }
            Ok(answer) => error = Some(format!("it says {}", answer.header().rcode())),
            Err(failure) => error = Some(failure.to_string()),
        }
        sleep(pause).await;
    }
    add(&counters.notify_failures, 1);
    let error = error.unwrap_or_default();
    log::warn!("the secondary {secondary} cannot be told of a change: {error}");
}
