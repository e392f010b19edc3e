//! Steps of a request: access, limits, the zones, upstream resolvers, transfers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use domain::base::Message;
use domain::base::iana::exterr::ExtendedErrorCode;
use domain::base::iana::{OptRcode, Rtype};
use domain::rdata::tsig::Time48;
use domain::tsig::{Algorithm, Key, KeyName, ServerTransaction};

use super::Config;
use super::access::Ranges;
use super::answer::{Client, Found, Responder, Transport, find};
use super::authority::Authority;
use super::forward::{Forwarder, Unanswered, question};
use super::metrics::{Counters, Metrics, add};
use super::rate::{RateLimit, Verdict};
use super::request::{Rejection, Request};
use super::udp::{Listener, Route};
use crate::records::{is_reverse, reverse_address};
use crate::zone::{Knowledge, Lookup, Zones};

/// Keys that sign requests, by name and algorithm.
pub type Keys = Arc<HashMap<(KeyName, Algorithm), Key>>;

/// Signature of a request, with which its answer is signed.
pub type Signer = ServerTransaction<Key>;

/// State that all threads share.
#[derive(Debug)]
pub struct Engine {
    /// Zones.
    pub authority: Arc<Authority>,
    /// Ranges of the clients that may ask.
    pub allowed: Ranges,
    /// Ranges of the clients that may have whole zones.
    pub transfer: Ranges,
    /// Keys with which one may have whole zones.
    pub keys: Keys,
    /// Largest UDP message, in bytes.
    pub udp_size: u16,
    /// Secret of the cookies.
    pub cookie_secret: [u8; 16],
    /// Limit of answers over UDP.
    pub rate: RateLimit,
    /// Upstream resolvers.
    pub forwarder: Option<Forwarder>,
    /// Counters.
    pub metrics: Metrics,
    /// The threads are to end.
    pub stop: AtomicBool,
}

/// Next step after a request was examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The answer is to be sent.
    Send,
    /// No answer is sent.
    Nothing,
    /// Upstream resolvers are to be asked.
    Forward,
    /// A zone or its changes are to be sent. Only over TCP.
    Transfer,
}

impl Engine {
    /// Makes the state of a server by its settings.
    pub fn new(
        config: &Config,
        authority: Arc<Authority>,
        forwarder: Option<Forwarder>,
        cookie_secret: [u8; 16],
    ) -> Self {
        Self {
            authority,
            allowed: config.allowed.clone(),
            transfer: config.transfer.clone(),
            keys: Arc::clone(&config.keys),
            udp_size: config.udp_size,
            cookie_secret,
            rate: RateLimit::new(config.rate_limit),
            forwarder,
            metrics: Metrics::default(),
            stop: AtomicBool::new(false),
        }
    }

    /// Examines a request and writes the answer.
    pub fn answer(
        &self,
        zones: &Zones,
        message: &[u8],
        client: Client,
        counters: &Counters,
        out: &mut Vec<u8>,
    ) -> Next {
        let request = match Request::parse(message) {
            Ok(request) => request,
            Err(rejection) => return self.reject(message, &rejection, client, counters, out),
        };
        counters.question(request.question.qtype());
        let responder = self.responder(client, None);
        // Before a signature is checked, which costs more than an answer.
        if let Some(next) = self.limit(&request, &responder, counters, out) {
            return next;
        }
        if request.is_signed {
            return self.answer_signed(zones, &request, client, counters, out);
        }
        self.answer_request(zones, &request, &responder, counters, out)
    }

    /// Counts a question over UDP, and handles it if there are too many of its client.
    fn limit(
        &self,
        request: &Request<'_>,
        responder: &Responder<'_>,
        counters: &Counters,
        out: &mut Vec<u8>,
    ) -> Option<Next> {
        let client = responder.client;
        if client.transport != Transport::Udp || responder.has_valid_cookie(request) {
            return None;
        }
        match self.rate.count(client.address, responder.now) {
            Verdict::Answer => None,
            Verdict::Truncate => {
                add(&counters.slipped, 1);
                responder.truncate(request, out);
                Some(Next::Send)
            }
            Verdict::Drop => {
                add(&counters.dropped, 1);
                Some(Next::Nothing)
            }
        }
    }

    /// Returns what writes answers for a client.
    pub fn responder(&self, client: Client, signer: Option<Signer>) -> Responder<'_> {
        Responder {
            udp_size: self.udp_size,
            cookie_secret: &self.cookie_secret,
            now: unix_time(),
            client,
            recursion: self.forwarder.is_some(),
            signer: signer.into(),
        }
    }

    fn reject(
        &self,
        message: &[u8],
        rejection: &Rejection,
        client: Client,
        counters: &Counters,
        out: &mut Vec<u8>,
    ) -> Next {
        let responder = self.responder(client, None);
        let is_limited = matches!(client.transport, Transport::Udp)
            && self.rate.count(client.address, responder.now) != Verdict::Answer;
        if is_limited {
            add(&counters.dropped, 1);
            return Next::Nothing;
        }
        match responder.reject(message, rejection, out) {
            None => {
                add(&counters.ignored, 1);
                Next::Nothing
            }
            Some(code) => {
                counters.answer(code);
                Next::Send
            }
        }
    }

    /// Checks the signature of a request and signs the answer.
    fn answer_signed(
        &self,
        zones: &Zones,
        request: &Request<'_>,
        client: Client,
        counters: &Counters,
        out: &mut Vec<u8>,
    ) -> Next {
        let is_known =
            self.may_ask(zones, client.address) || self.transfer.contains(client.address);
        if self.keys.is_empty() && !is_known {
            let responder = self.responder(client, None);
            let reason = Some(ExtendedErrorCode::PROHIBITED);
            counters.answer(responder.refuse(request, OptRcode::REFUSED, reason, out));
            return Next::Send;
        }
        let Ok(mut copy) = Message::from_octets(request.message.as_slice().to_vec()) else {
            return Next::Nothing;
        };
        match self.verify(&mut copy) {
            Ok(signer) => {
                // The signature is removed from the copy.
                let Ok(request) = Request::parse(copy.as_slice()) else {
                    return Next::Nothing;
                };
                let responder = self.responder(client, signer);
                self.answer_request(zones, &request, &responder, counters, out)
            }
            Err(answer) => {
                counters.answer(OptRcode::NOTAUTH);
                *out = answer;
                if out.is_empty() {
                    Next::Nothing
                } else {
                    Next::Send
                }
            }
        }
    }

    /// Checks the signature of a request, and removes it. The error is the message that says so; it is
    /// empty where none can be made.
    pub fn verify(&self, message: &mut Message<Vec<u8>>) -> Result<Option<Signer>, Vec<u8>> {
        let original = message.clone();
        ServerTransaction::request(&self.keys, message, Time48::now()).map_err(|error| {
            let builder = domain::base::MessageBuilder::new_vec();
            error
                .build_message(&original, builder)
                .map(|builder| builder.finish())
                .unwrap_or_default()
        })
    }

    fn answer_request(
        &self,
        zones: &Zones,
        request: &Request<'_>,
        responder: &Responder<'_>,
        counters: &Counters,
        out: &mut Vec<u8>,
    ) -> Next {
        if request.is_transfer() {
            return self.examine_transfer(zones, request, responder, counters, out);
        }
        if !self.may_ask(zones, responder.client.address) && !responder.is_signed() {
            let reason = Some(ExtendedErrorCode::PROHIBITED);
            counters.answer(responder.refuse(request, OptRcode::REFUSED, reason, out));
            return Next::Send;
        }
        let found = find(zones, request);
        let is_known = match zones.knowledge() {
            Knowledge::Nothing => false,
            Knowledge::Partial => found.has_records(request),
            Knowledge::Complete | Knowledge::Since(_) => true,
        };
        let is_elsewhere = match found {
            // The ranges of the overlays may not be known yet.
            Found::Outside => {
                zones.knowledge() != Knowledge::Nothing || !is_reverse(request.name.as_slice())
            }
            Found::Inside(_, Lookup::NoName) => is_of_other_address(zones, request),
            Found::Inside(..) => false,
        };
        let (code, reason) = match found {
            _ if is_elsewhere && !responder.is_signed() && self.forwards(request) => {
                return Next::Forward;
            }
            Found::Outside if !is_elsewhere => (OptRcode::SERVFAIL, ExtendedErrorCode::NOT_READY),
            Found::Outside => (OptRcode::REFUSED, ExtendedErrorCode::NOT_AUTHORITATIVE),
            Found::Inside(..) if !is_known => (OptRcode::SERVFAIL, ExtendedErrorCode::NOT_READY),
            Found::Inside(zone, lookup) => {
                counters.answer(responder.answer(zones, zone, lookup, request, out));
                if out.get(2).is_some_and(|flags| flags & 0x02 != 0) {
                    add(&counters.truncated, 1);
                }
                return Next::Send;
            }
        };
        counters.answer(responder.refuse(request, code, Some(reason), out));
        Next::Send
    }

    /// Answers what can be told about a transfer without the zone's records.
    fn examine_transfer(
        &self,
        zones: &Zones,
        request: &Request<'_>,
        responder: &Responder<'_>,
        counters: &Counters,
        out: &mut Vec<u8>,
    ) -> Next {
        let is_allowed = self.transfer.contains(responder.client.address) || responder.is_signed();
        let zone = zones.zone_of(request.name.as_slice());
        let zone = zone.filter(|zone| zone.apex().as_slice() == request.name.as_slice());
        let is_udp = responder.client.transport == Transport::Udp;
        let code = match zone {
            _ if !is_allowed => {
                add(&counters.refused_transfers, 1);
                OptRcode::REFUSED
            }
            None => OptRcode::NOTAUTH,
            Some(_) if !is_complete(zones) => OptRcode::SERVFAIL,
            // The start of authority alone tells the client to ask over TCP (RFC 1995, section 2).
            Some(zone) if is_udp && request.question.qtype() == Rtype::IXFR => {
                counters.answer(responder.answer_soa(zone, request, out));
                return Next::Send;
            }
            Some(_) if is_udp => OptRcode::FORMERR,
            Some(_) => return Next::Transfer,
        };
        counters.answer(responder.refuse(request, code, None, out));
        Next::Send
    }

    /// Tells whether an address is in a range that may ask: one of the list, or one whose addresses
    /// have names here.
    pub fn may_ask(&self, zones: &Zones, address: IpAddr) -> bool {
        self.allowed.contains(address) || zones.has_names_of(address.to_canonical())
    }

    fn forwards(&self, request: &Request<'_>) -> bool {
        request.message.header().rd()
            && self
                .forwarder
                .as_ref()
                .is_some_and(|forwarder| forwarder.serves(request.name.as_slice()))
    }

    /// Asks upstream resolvers a question that came over UDP. The answer is sent when they have it.
    /// Returns false if too many questions wait for them, of all clients or of this one.
    pub fn forward_udp(
        self: &Arc<Self>,
        message: &[u8],
        listener: &Arc<Listener>,
        route: Route,
        counters: &Arc<Counters>,
    ) -> bool {
        let Some(forwarder) = &self.forwarder else {
            return false;
        };
        let Some(place) = forwarder.wait(route.client.ip()) else {
            return false;
        };
        let (engine, listener) = (Arc::clone(self), Arc::clone(listener));
        let (counters, message) = (Arc::clone(counters), message.to_vec());
        forwarder.tasks().spawn(async move {
            let _place = place;
            let client = Client {
                address: route.client.ip().to_canonical(),
                transport: Transport::Udp,
            };
            if let Some(answer) = engine.forward(&message, client, &counters).await {
                // The client may be gone.
                let _ = listener.send(&answer, route);
            }
        });
        true
    }

    /// Writes the answer to a question for which upstream resolvers have no time.
    pub fn answer_busy(
        &self,
        message: &[u8],
        client: Client,
        counters: &Counters,
        out: &mut Vec<u8>,
    ) -> bool {
        let Ok(request) = Request::parse(message) else {
            return false;
        };
        add(&counters.forward_failures, 1);
        let responder = self.responder(client, None);
        counters.answer(responder.relay(&request, Err(Unanswered::Busy), out));
        true
    }

    /// Asks upstream resolvers, and returns the answer for the client.
    pub async fn forward(
        &self,
        message: &[u8],
        client: Client,
        counters: &Counters,
    ) -> Option<Vec<u8>> {
        let request = Request::parse(message).ok()?;
        let forwarder = self.forwarder.as_ref()?;
        let question = question(&request)?;
        add(&counters.forwarded, 1);
        let begin = Instant::now();
        let answer = forwarder.ask(request.name.as_slice(), &question).await;
        counters.forward_time.observe(begin.elapsed(), 1);
        if answer.is_err() {
            add(&counters.forward_failures, 1);
        }
        let mut out = Vec::new();
        let code = self
            .responder(client, None)
            .relay(&request, answer, &mut out);
        counters.answer(code);
        Some(out)
    }
}

/// Tells whether a name is that of an address whose range has no names here. Its zone is there for the
/// sake of a range inside it.
fn is_of_other_address(zones: &Zones, request: &Request<'_>) -> bool {
    reverse_address(request.name.as_slice()).is_some_and(|address| !zones.has_names_of(address))
}

/// Tells whether whole zones can be sent.
pub fn is_complete(zones: &Zones) -> bool {
    matches!(zones.knowledge(), Knowledge::Complete | Knowledge::Since(_))
}

/// Returns the time in seconds since 1970. It wraps around.
pub fn unix_time() -> u32 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| (time.as_secs() & u64::from(u32::MAX)) as u32)
}
