//! Upstream resolvers: they are asked for names that are in no zone.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::base::iana::exterr::ExtendedErrorCode;
use domain::base::iana::{OptRcode, Rcode, Rtype};
use domain::base::message_builder::PushError;
use domain::base::{Message, MessageBuilder, ParsedName, Record};
use domain::net::client::dgram_stream::{self, Connection};
use domain::net::client::protocol::{TcpConnect, UdpConnect};
use domain::net::client::request::{ComposeRequest, RequestMessage, SendRequest};
use domain::net::client::{dgram, multi_stream};
use domain::rdata::AllRecordData;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::answer::Responder;
use super::places::{Place, Places};
use super::rate::prefix;
use super::request::Request;
use crate::zone::DomainName;

/// Time that a resolver has to answer over UDP, and again over TCP.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Resolvers that are asked for one question, one after another.
const TRIES: usize = 2;

/// Failures one after another after which a resolver is left aside.
const FAILURES: u32 = 3;

/// Time for which it is.
const ASIDE: Duration = Duration::from_secs(10);

/// Questions that wait for resolvers at once.
const MAX_WAITING: usize = 2_048;

/// Places of one address (IPv6: of one /64).
const MAX_WAITING_OF_CLIENT: usize = 512;

/// Largest UDP message that resolvers may send, in bytes.
const UDP_SIZE: u16 = 1_232;

/// Resolvers for the names of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardZone {
    /// Zone. The root: all names.
    pub zone: DomainName,
    /// Addresses of the resolvers. The first one that works is asked.
    pub resolvers: Vec<SocketAddr>,
}

/// Asks upstream resolvers.
#[derive(Debug)]
pub struct Forwarder {
    /// Zones, those with the longest names first.
    zones: Vec<(DomainName, Vec<Arc<Upstream>>)>,
    waiting: Arc<Places<u64>>,
    tasks: Handle,
}

/// Message for resolvers, which owns all that it needs.
type Asked = RequestMessage<Vec<u8>>;

/// Question for resolvers.
#[derive(Clone, Debug)]
pub struct Question {
    /// With EDNS.
    asked: Asked,
    /// Without it, for resolvers that do not know it.
    plain: Asked,
}

/// One resolver.
#[derive(Debug)]
struct Upstream {
    address: SocketAddr,
    connection: Connection<UdpConnect, Asked>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures since the last answer.
    failures: u32,
    /// Time until which others are asked first.
    aside: Option<Instant>,
}

/// A question is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Too many questions wait.
    Busy,
    /// No resolver answered.
    Silence,
}

impl Forwarder {
    /// Makes a forwarder whose connections are tasks of a runtime. Several lists for one zone are one.
    pub fn new(zones: &[ForwardZone], tasks: &Handle) -> Self {
        let mut made: Vec<(DomainName, Vec<Arc<Upstream>>)> = Vec::new();
        for zone in zones {
            let upstreams = zone
                .resolvers
                .iter()
                .map(|address| Upstream::new(*address, tasks));
            match made.iter_mut().find(|(name, _)| *name == zone.zone) {
                Some((_, known)) => known.extend(upstreams),
                None => made.push((zone.zone.clone(), upstreams.collect())),
            }
        }
        made.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self {
            zones: made,
            waiting: Arc::new(Places::new(MAX_WAITING, MAX_WAITING_OF_CLIENT)),
            tasks: tasks.clone(),
        }
    }

    /// Tells whether there is a resolver for a name in wire form and in lower case.
    pub fn serves(&self, name: &[u8]) -> bool {
        self.upstreams(name).is_some()
    }

    /// Returns the runtime that asks.
    pub fn tasks(&self) -> &Handle {
        &self.tasks
    }

    /// Takes one of the places of questions that wait, for a client.
    pub fn wait(&self, client: IpAddr) -> Option<Place<u64>> {
        self.waiting.enter(prefix(client))
    }

    fn upstreams(&self, name: &[u8]) -> Option<&[Arc<Upstream>]> {
        let found = self
            .zones
            .iter()
            .find(|(zone, _)| is_in(name, zone.as_slice()));
        found.map(|(_, upstreams)| upstreams.as_slice())
    }

    /// Asks the resolvers of a name. Those that fail are left aside for a while; an answer that says
    /// that a resolver failed is used if there is no other.
    pub async fn ask(
        &self,
        name: &[u8],
        question: &Question,
    ) -> Result<Message<Bytes>, Unanswered> {
        let upstreams = self.upstreams(name).unwrap_or_default();
        let now = Instant::now();
        let (good, aside): (Vec<_>, Vec<_>) = upstreams
            .iter()
            .partition(|upstream| !upstream.is_aside(now));
        let order = good.iter().chain(&aside);
        let mut last = Err(Unanswered::Silence);
        for upstream in order.clone().chain(order).take(TRIES) {
            let Some(answer) = upstream.ask(question).await else {
                continue;
            };
            let is_failure = matches!(answer.header().rcode(), Rcode::SERVFAIL | Rcode::REFUSED);
            last = Ok(answer);
            if !is_failure {
                break;
            }
        }
        last
    }
}

impl Upstream {
    fn new(address: SocketAddr, tasks: &Handle) -> Arc<Self> {
        let mut udp = dgram::Config::new();
        udp.set_read_timeout(ANSWER_TIME);
        udp.set_max_retries(0);
        // Each message says whether it has EDNS.
        udp.set_udp_payload_size(None);
        udp.set_max_parallel(MAX_WAITING.min(1_000));
        let mut tcp = multi_stream::Config::default();
        tcp.set_response_timeout(ANSWER_TIME);
        let (connection, transport) = Connection::with_config(
            UdpConnect::new(address),
            TcpConnect::new(address),
            dgram_stream::Config::from_parts(udp, tcp),
        );
        tasks.spawn(transport.run());
        Arc::new(Self {
            address,
            connection,
            state: Mutex::default(),
        })
    }

    /// Asks a question, and once more without EDNS if the resolver does not understand it (RFC 6891,
    /// section 7).
    async fn ask(&self, question: &Question) -> Option<Message<Bytes>> {
        let answer = self.send(&question.asked).await?;
        match answer.opt_rcode() {
            OptRcode::FORMERR | OptRcode::BADVERS => self.send(&question.plain).await,
            _ => Some(answer),
        }
    }

    async fn send(&self, message: &Asked) -> Option<Message<Bytes>> {
        let mut request = self.connection.send_request(message.clone());
        // Once over UDP, and once over TCP where the answer is truncated.
        let answer = tokio::time::timeout(2 * ANSWER_TIME, request.get_response()).await;
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        let mut state = self.state.lock();
        match answer {
            Ok(answer) => {
                *state = State::default();
                Some(answer)
            }
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                if state.failures == FAILURES {
                    log::warn!(
                        "the upstream resolver {} does not answer: {error}",
                        self.address
                    );
                }
                if state.failures >= FAILURES {
                    state.aside = Some(Instant::now() + ASIDE);
                }
                None
            }
        }
    }

    fn is_aside(&self, now: Instant) -> bool {
        self.state.lock().aside.is_some_and(|until| now < until)
    }
}

/// Tells whether a name is in a zone, both in wire form and in lower case.
fn is_in(name: &[u8], zone: &[u8]) -> bool {
    let mut rest = name;
    while rest.len() > zone.len() {
        let label = usize::from(rest.first().copied().unwrap_or_default());
        rest = rest.get(label + 1..).unwrap_or_default();
    }
    rest == zone
}

/// Returns the question to ask resolvers for a client's request.
pub fn question(request: &Request<'_>) -> Option<Question> {
    let mut builder = MessageBuilder::new_vec();
    let asked = request.message.header();
    builder.header_mut().set_rd(true);
    builder.header_mut().set_ad(asked.ad());
    builder.header_mut().set_cd(asked.cd());
    let mut builder = builder.question();
    builder.push(request.question).ok()?;
    let plain = RequestMessage::new(builder.into_message()).ok()?;
    let mut asked = plain.clone();
    asked.set_udp_payload_size(UDP_SIZE);
    asked.set_dnssec_ok(request.edns.as_ref().is_some_and(|edns| edns.dnssec_ok));
    Some(Question { asked, plain })
}

impl Responder<'_> {
    /// Writes the answer of a resolver, as the client takes it.
    pub fn relay(
        &self,
        request: &Request<'_>,
        answer: Result<Message<Bytes>, Unanswered>,
        out: &mut Vec<u8>,
    ) -> OptRcode {
        let answer = match answer {
            Ok(answer) => answer,
            Err(_) => {
                let reason = Some(ExtendedErrorCode::NETWORK_ERROR);
                return self.refuse(request, OptRcode::SERVFAIL, reason, out);
            }
        };
        let (edns, code) = (request.edns.as_ref(), answer.opt_rcode());
        let mut builder = self.start(request.message, edns, code, out).question();
        builder.header_mut().set_ad(answer.header().ad());
        let _ = builder.push(request.question);
        let mut builder = builder.answer();
        let sections = copy_section(&answer, Section::Answer, |record| builder.push(record));
        let mut builder = builder.authority();
        let sections = sections.and_then(|()| {
            copy_section(&answer, Section::Authority, |record| builder.push(record))
        });
        let mut builder = builder.additional();
        match sections {
            // Additional records that do not fit are not needed.
            Ok(()) => drop(copy_section(&answer, Section::Additional, |record| {
                builder.push(record)
            })),
            Err(Broken::TooLong) => builder.header_mut().set_tc(true),
            Err(Broken::Malformed) => {
                *out = builder.finish().into_target();
                return self.refuse(request, OptRcode::SERVFAIL, None, out);
            }
        }
        self.finish(builder, edns, code, None, out)
    }
}

/// A section of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Answer,
    Authority,
    Additional,
}

/// A section cannot be copied.
enum Broken {
    TooLong,
    Malformed,
}

type AnyRecord<'a> = Record<ParsedName<&'a [u8]>, AllRecordData<&'a [u8], ParsedName<&'a [u8]>>>;

/// Copies the records of a section, without those that are about the message itself.
fn copy_section(
    message: &Message<Bytes>,
    section: Section,
    mut push: impl FnMut(AnyRecord<'_>) -> Result<(), PushError>,
) -> Result<(), Broken> {
    let message = message.for_slice();
    let records = match section {
        Section::Answer => message.answer(),
        Section::Authority => message.authority(),
        Section::Additional => message.additional(),
    };
    for record in records.map_err(|_| Broken::Malformed)? {
        let record = record.map_err(|_| Broken::Malformed)?;
        if matches!(record.rtype(), Rtype::OPT | Rtype::TSIG) {
            continue;
        }
        let record = record.into_any_record().map_err(|_| Broken::Malformed)?;
        push(record).map_err(|_| Broken::TooLong)?;
    }
    Ok(())
}
