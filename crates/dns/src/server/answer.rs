//! Answers to questions, from the zones.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

use domain::base::iana::exterr::ExtendedErrorCode;
use domain::base::iana::{Class, OptRcode, Rtype};
use domain::base::message_builder::{
    AdditionalBuilder, AnswerBuilder, AuthorityBuilder, MessageBuilder, PushError, StaticCompressor,
};
use domain::base::name::ToName;
use domain::base::opt::keepalive::IdleTimeout;
use domain::base::{Message, Serial, Ttl};
use domain::rdata::tsig::Time48;
use domain::rdata::{A, Aaaa, Ns, Ptr, Soa as SoaData, Srv};

use super::engine::Signer;
use super::request::{Edns, Rejection, Request};
use crate::zone::{Data, Lookup, Soa, TTL, Zone, Zones};

/// Builder of messages without allocation, except that of a buffer that grows.
pub type Target = StaticCompressor<Vec<u8>>;

/// Largest message without EDNS over UDP, in bytes (RFC 1035, section 4.2.1).
const SIZE_WITHOUT_EDNS: u16 = 512;

/// Room for an OPT record: header, cookie, keepalive and an extended error, in bytes.
const OPT_ROOM: usize = 11 + (4 + 8 + 16) + (4 + 2) + (4 + 2);

/// Time that a valid cookie of this server may be old, and ahead of this host's clock, in seconds
/// (RFC 9018, section 4.3).
const COOKIE_AGE: (u32, u32) = (3600, 300);

/// Transport of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP, with the time that an idle connection stays open.
    Tcp(Duration),
}

/// Client of a request: its address and transport.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Address.
    pub address: IpAddr,
    /// Transport.
    pub transport: Transport,
}

/// Answers for one client and moment.
#[derive(Debug)]
pub struct Responder<'a> {
    /// Largest UDP message, in bytes.
    pub udp_size: u16,
    /// Secret of the cookies.
    pub cookie_secret: &'a [u8; 16],
    /// Unix time, in seconds. It wraps around.
    pub now: u32,
    /// Client.
    pub client: Client,
    /// Other names are asked of upstream resolvers.
    pub recursion: bool,
    /// Signature of the request, with which the answer is signed.
    pub signer: RefCell<Option<Signer>>,
}

/// Result of looking for a question's name in the zones.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// Not a name of any zone.
    Outside,
    /// Name of a zone.
    Inside(&'a Zone, Lookup<'a>),
}

/// Looks for the name of a question.
pub fn find<'a>(zones: &'a Zones, request: &Request<'_>) -> Found<'a> {
    let name = request.name.as_slice();
    match zones.zone_of(name) {
        None => Found::Outside,
        Some(zone) => Found::Inside(zone, zone.find(name)),
    }
}

impl Found<'_> {
    /// Tells whether there is a record that answers the question.
    pub fn has_records(&self, request: &Request<'_>) -> bool {
        let rtype = request.question.qtype();
        match self {
            Found::Inside(_, Lookup::Name(data)) => data
                .iter()
                .any(|data| rtype == Rtype::ANY || rtype_of(data) == rtype),
            _ => false,
        }
    }
}

impl Responder<'_> {
    /// Writes the answer from a zone.
    pub fn answer(
        &self,
        zones: &Zones,
        zone: &Zone,
        lookup: Lookup<'_>,
        request: &Request<'_>,
        out: &mut Vec<u8>,
    ) -> OptRcode {
        let code = match lookup {
            Lookup::Name(_) => OptRcode::NOERROR,
            Lookup::NoName => OptRcode::NXDOMAIN,
        };
        let builder = self.start(request.message, request.edns.as_ref(), code, out);
        let mut builder = builder.question();
        builder.header_mut().set_aa(true);
        if builder.push(request.question).is_err() {
            return self.finish(builder.additional(), request.edns.as_ref(), code, None, out);
        }
        let found = match lookup {
            Lookup::Name(data) => data,
            Lookup::NoName => &[],
        };
        let builder = match push_answers(builder.answer(), zone, found, request) {
            Pushed::All(builder) => push_targets(builder.additional(), zones, found, request),
            Pushed::Nothing(builder) => {
                push_soa(builder.authority(), zone.soa(), zone).additional()
            }
            Pushed::Some(mut builder) => {
                builder.header_mut().set_tc(true);
                builder.additional()
            }
        };
        self.finish(builder, request.edns.as_ref(), code, None, out)
    }

    /// Writes the start of authority of a zone.
    pub fn answer_soa(&self, zone: &Zone, request: &Request<'_>, out: &mut Vec<u8>) -> OptRcode {
        let (edns, code) = (request.edns.as_ref(), OptRcode::NOERROR);
        let mut builder = self.start(request.message, edns, code, out).question();
        builder.header_mut().set_aa(true);
        let _ = builder.push(request.question);
        let mut builder = builder.answer();
        let soa = zone.soa();
        if builder
            .push((zone.apex(), Class::IN, soa_ttl(), soa_data(soa)))
            .is_err()
        {
            builder.header_mut().set_tc(true);
        }
        self.finish(builder.additional(), edns, code, None, out)
    }

    /// Tells whether a key of this server signed the request.
    pub fn is_signed(&self) -> bool {
        self.signer.borrow().is_some()
    }

    /// Writes an answer without records.
    pub fn refuse(
        &self,
        request: &Request<'_>,
        code: OptRcode,
        reason: Option<ExtendedErrorCode>,
        out: &mut Vec<u8>,
    ) -> OptRcode {
        let edns = request.edns.as_ref();
        let mut builder = self.start(request.message, edns, code, out).question();
        // It fits: it is no longer than the request.
        let _ = builder.push(request.question);
        self.finish(builder.additional(), edns, code, reason, out)
    }

    /// Writes an empty answer that sends the client to TCP.
    pub fn truncate(&self, request: &Request<'_>, out: &mut Vec<u8>) -> OptRcode {
        let edns = request.edns.as_ref();
        let mut builder = self
            .start(request.message, edns, OptRcode::NOERROR, out)
            .question();
        builder.header_mut().set_tc(true);
        let _ = builder.push(request.question);
        self.finish(builder.additional(), edns, OptRcode::NOERROR, None, out)
    }

    /// Writes the error for a message that is no request with one question. Returns `None` where
    /// nothing is to be sent.
    pub fn reject(
        &self,
        message: &[u8],
        rejection: &Rejection,
        out: &mut Vec<u8>,
    ) -> Option<OptRcode> {
        let Rejection::Error { code, edns } = rejection else {
            return None;
        };
        let message = Message::from_slice(message).ok()?;
        let mut builder = self.start(message, edns.as_ref(), *code, out).question();
        if let Ok(question) = message.sole_question() {
            let _ = builder.push(question);
        }
        Some(self.finish(builder.additional(), edns.as_ref(), *code, None, out))
    }

    /// Tells whether the client sent a cookie of this server, so that its address is its own.
    pub fn has_valid_cookie(&self, request: &Request<'_>) -> bool {
        let cookie = request.edns.as_ref().and_then(|edns| edns.cookie.as_ref());
        let is_young = |time: Serial| {
            let age = self.now.wrapping_sub(time.into_int());
            age <= COOKIE_AGE.0 || age.wrapping_neg() <= COOKIE_AGE.1
        };
        cookie.is_some_and(|cookie| {
            cookie.check_server_hash(self.client.address, self.cookie_secret, is_young)
        })
    }

    /// Returns the most bytes that the client takes.
    pub fn size_limit(&self, edns: Option<&Edns>) -> usize {
        let size = match (self.client.transport, edns) {
            (Transport::Tcp(_), _) => u16::MAX,
            (Transport::Udp, None) => SIZE_WITHOUT_EDNS,
            (Transport::Udp, Some(edns)) => edns.size.min(self.udp_size).max(SIZE_WITHOUT_EDNS),
        };
        usize::from(size)
    }

    /// Begins an answer.
    pub fn start(
        &self,
        message: &Message<[u8]>,
        edns: Option<&Edns>,
        code: OptRcode,
        out: &mut Vec<u8>,
    ) -> MessageBuilder<Target> {
        let target = StaticCompressor::new(std::mem::take(out));
        let Ok(mut builder) = MessageBuilder::from_target(target);
        let signature = self
            .signer
            .borrow()
            .as_ref()
            .map_or(0, |s| s.key().compose_len());
        let room = edns.map_or(0, |_| OPT_ROOM) + usize::from(signature);
        // A push may end one byte before the limit.
        builder.set_push_limit(self.size_limit(edns).saturating_sub(room) + 1);
        let asked = message.header();
        let header = builder.header_mut();
        header.set_id(asked.id());
        header.set_qr(true);
        header.set_opcode(asked.opcode());
        header.set_rd(asked.rd());
        header.set_ra(self.recursion);
        header.set_cd(asked.cd());
        header.set_rcode(code.rcode());
        builder
    }

    /// Adds EDNS where the client speaks it.
    pub fn push_opt(
        &self,
        builder: &mut AdditionalBuilder<Target>,
        edns: Option<&Edns>,
        code: OptRcode,
        reason: Option<ExtendedErrorCode>,
    ) {
        let Some(edns) = edns else { return };
        // The room for it is reserved, and the buffer grows.
        let _ = builder.opt(|opt| {
            opt.set_udp_payload_size(self.udp_size);
            opt.set_rcode(code);
            opt.set_dnssec_ok(edns.dnssec_ok);
            if let Some(cookie) = &edns.cookie {
                let now = Serial(self.now);
                let address = self.client.address;
                opt.cookie(cookie.create_response(now, address, self.cookie_secret))?;
            }
            if let (Transport::Tcp(idle), true) = (self.client.transport, edns.keepalive) {
                opt.tcp_keepalive(IdleTimeout::try_from(idle).ok())?;
            }
            if let Some(reason) = reason {
                let _ = opt.extended_error::<&[u8]>(reason, None);
            }
            Ok(())
        });
    }

    /// Adds EDNS and a signature, and gives the bytes back.
    pub fn finish(
        &self,
        mut builder: AdditionalBuilder<Target>,
        edns: Option<&Edns>,
        code: OptRcode,
        reason: Option<ExtendedErrorCode>,
        out: &mut Vec<u8>,
    ) -> OptRcode {
        builder.clear_push_limit();
        self.push_opt(&mut builder, edns, code, reason);
        if let Some(signer) = self.signer.take()
            && signer.answer(&mut builder, Time48::now()).is_err()
        {
            log::warn!("an answer has no room for a signature");
        }
        *out = builder.finish().into_target();
        code
    }
}

/// Share of the records that belong into an answer and are in it.
enum Pushed {
    /// None: no records belong into it.
    Nothing(AnswerBuilder<Target>),
    /// All.
    All(AnswerBuilder<Target>),
    /// Records that fitted.
    Some(AnswerBuilder<Target>),
}

/// Adds the records of the type asked for, beginning with another one for each message id. Of all
/// types, the answer has those of one (RFC 8482, section 4.1).
fn push_answers(
    mut builder: AnswerBuilder<Target>,
    zone: &Zone,
    data: &[Data],
    request: &Request<'_>,
) -> Pushed {
    let owner = request.question.qname();
    let mut rtype = request.question.qtype();
    let is_apex = request.name.as_slice() == zone.apex().as_slice();
    if rtype == Rtype::ANY {
        rtype = match data.first() {
            Some(data) if !is_apex => rtype_of(data),
            _ => Rtype::SOA,
        };
    }
    if rtype == Rtype::SOA {
        if !is_apex {
            return Pushed::Nothing(builder);
        }
        let soa = soa_data(zone.soa());
        return match builder.push((owner, Class::IN, soa_ttl(), soa)) {
            Ok(()) => Pushed::All(builder),
            Err(_) => Pushed::Some(builder),
        };
    }
    let matching = || data.iter().filter(|data| rtype_of(data) == rtype);
    let count = matching().count();
    if count == 0 {
        return Pushed::Nothing(builder);
    }
    let first = usize::from(request.message.header().id()) % count;
    for data in matching().skip(first).chain(matching().take(first)) {
        if push_record(&mut builder, owner, data).is_err() {
            return Pushed::Some(builder);
        }
    }
    Pushed::All(builder)
}

/// Adds the addresses of the hosts of SRV and NS records, as many as fit.
fn push_targets(
    mut builder: AdditionalBuilder<Target>,
    zones: &Zones,
    data: &[Data],
    request: &Request<'_>,
) -> AdditionalBuilder<Target> {
    let rtype = request.question.qtype();
    let mut added: Vec<&[u8]> = Vec::new();
    for data in data.iter().filter(|data| rtype_of(data) == rtype) {
        let (Data::Srv { target, .. } | Data::Ns(target)) = data else {
            break;
        };
        let name = target.as_slice();
        if added.contains(&name) {
            continue;
        }
        added.push(name);
        let Some(Lookup::Name(addresses)) = zones.zone_of(name).map(|zone| zone.find(name)) else {
            continue;
        };
        for address in addresses {
            let pushed = match address {
                Data::A(ip) => builder.push((target, Class::IN, ttl_of(address), A::new(*ip))),
                Data::Aaaa(ip) => {
                    builder.push((target, Class::IN, ttl_of(address), Aaaa::new(*ip)))
                }
                _ => Ok(()),
            };
            if pushed.is_err() {
                return builder;
            }
        }
    }
    builder
}

/// Adds the start of authority to an answer without records. It may be kept no longer than the zone
/// says (RFC 2308, section 3).
fn push_soa(
    mut builder: AuthorityBuilder<Target>,
    soa: &Soa,
    zone: &Zone,
) -> AuthorityBuilder<Target> {
    let ttl = soa_ttl().min(Ttl::from_duration_lossy(soa.minimum));
    // It fits into every message: the question and the record have at most two names of 255 bytes
    // that are not compressed, and a name that long has no room for a zone of its own.
    if builder
        .push((zone.apex(), Class::IN, ttl, soa_data(soa)))
        .is_err()
    {
        builder.header_mut().set_tc(true);
    }
    builder
}

/// Adds a record.
pub fn push_record<N: ToName>(
    builder: &mut AnswerBuilder<Target>,
    owner: N,
    data: &Data,
) -> Result<(), PushError> {
    let ttl = ttl_of(data);
    match data {
        Data::A(address) => builder.push((owner, Class::IN, ttl, A::new(*address))),
        Data::Aaaa(address) => builder.push((owner, Class::IN, ttl, Aaaa::new(*address))),
        Data::Srv { port, target } => {
            builder.push((owner, Class::IN, ttl, Srv::new(0, 0, *port, target)))
        }
        Data::Ptr(name) => builder.push((owner, Class::IN, ttl, Ptr::new(name))),
        Data::Ns(name) => builder.push((owner, Class::IN, ttl, Ns::new(name))),
    }
}

/// Returns the data of a start of authority.
pub fn soa_data(soa: &Soa) -> SoaData<&crate::zone::DomainName> {
    SoaData::new(
        &soa.mname,
        &soa.rname,
        soa.serial,
        Ttl::from_duration_lossy(soa.refresh),
        Ttl::from_duration_lossy(soa.retry),
        Ttl::from_duration_lossy(soa.expire),
        Ttl::from_duration_lossy(soa.minimum),
    )
}

/// Returns the time that a record may be kept.
fn ttl_of(data: &Data) -> Ttl {
    Ttl::from_duration_lossy(data.ttl())
}

/// Returns the time that a start of authority may be kept.
pub fn soa_ttl() -> Ttl {
    Ttl::from_duration_lossy(TTL)
}

/// Returns the type of a record.
fn rtype_of(data: &Data) -> Rtype {
    match data {
        Data::A(_) => Rtype::A,
        Data::Aaaa(_) => Rtype::AAAA,
        Data::Srv { .. } => Rtype::SRV,
        Data::Ptr(_) => Rtype::PTR,
        Data::Ns(_) => Rtype::NS,
    }
}
