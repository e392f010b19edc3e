//! Requests: one message of a client, checked.

use domain::base::iana::{Class, Opcode, OptRcode, Rtype};
use domain::base::name::ParsedName;
use domain::base::opt::{Cookie, Opt, TcpKeepalive};
use domain::base::{Message, Question, ToName};

/// Longest name in wire form (RFC 1035, section 2.3.4).
const MAX_NAME_LENGTH: usize = 255;

/// A request with one question, and EDNS as far as the server knows it.
#[derive(Debug)]
pub struct Request<'a> {
    /// Message.
    pub message: &'a Message<[u8]>,
    /// Question, with the letters as they were asked.
    pub question: Question<ParsedName<&'a [u8]>>,
    /// Name of the question in lower case.
    pub name: LowerName,
    /// EDNS, if the client speaks it.
    pub edns: Option<Edns>,
    /// The last record is a signature (TSIG).
    pub is_signed: bool,
}

/// Content of the OPT record of a request.
#[derive(Clone, Debug, Default)]
pub struct Edns {
    /// Largest UDP message that the client takes, in bytes.
    pub size: u16,
    /// DNSSEC records are wanted.
    pub dnssec_ok: bool,
    /// Cookie.
    pub cookie: Option<Cookie>,
    /// The client asks how long an idle connection stays open.
    pub keepalive: bool,
}

/// Reason why a message is not answered from the zones.
#[derive(Debug)]
pub enum Rejection {
    /// No answer is sent: the message is not a request, or has no whole header.
    Silence,
    /// An error is sent.
    Error {
        /// Code of the error.
        code: OptRcode,
        /// The client speaks EDNS.
        edns: Option<Edns>,
    },
}

/// A name in wire form and in lower case.
#[derive(Clone, Debug)]
pub struct LowerName {
    bytes: [u8; MAX_NAME_LENGTH],
    length: u8,
}

impl LowerName {
    fn new(name: &impl ToName) -> Self {
        let mut bytes = [0; MAX_NAME_LENGTH];
        let mut length = 0;
        for label in name.iter_labels() {
            let label = label.as_slice();
            // The length of a label is at most 63, which is no capital letter, and a parsed name is
            // never too long for the buffer.
            let end = length + 1 + label.len();
            if let (Ok(size), Some(room)) = (u8::try_from(label.len()), bytes.get_mut(length..end))
            {
                room[0] = size;
                room[1..].copy_from_slice(label);
                length = end;
            }
        }
        bytes[..length].make_ascii_lowercase();
        Self {
            bytes,
            length: u8::try_from(length).unwrap_or(u8::MAX),
        }
    }

    /// Returns the wire form.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl<'a> Request<'a> {
    /// Reads a message.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Rejection> {
        let Ok(message) = Message::from_slice(bytes) else {
            return Err(Rejection::Silence);
        };
        if message.header().qr() {
            return Err(Rejection::Silence);
        }
        let (edns, is_signed) = Edns::of(message)?;
        let error = |code, edns| Err(Rejection::Error { code, edns });
        if message.header().opcode() != Opcode::QUERY {
            return error(OptRcode::NOTIMP, edns);
        }
        let Ok(question) = message.sole_question() else {
            return error(OptRcode::FORMERR, edns);
        };
        if let Some(code) = unanswerable(question.qtype(), question.qclass()) {
            return error(code, edns);
        }
        Ok(Self {
            message,
            name: LowerName::new(question.qname()),
            question,
            edns,
            is_signed,
        })
    }

    /// Tells whether a whole zone or its changes are asked for.
    pub fn is_transfer(&self) -> bool {
        matches!(self.question.qtype(), Rtype::AXFR | Rtype::IXFR)
    }
}

/// Returns the error for types and classes that have no records here.
fn unanswerable(rtype: Rtype, class: Class) -> Option<OptRcode> {
    match rtype {
        Rtype::OPT | Rtype::TSIG | Rtype::TKEY => Some(OptRcode::FORMERR),
        Rtype::MAILA | Rtype::MAILB => Some(OptRcode::NOTIMP),
        _ if class != Class::IN => Some(OptRcode::REFUSED),
        _ => None,
    }
}

impl Edns {
    /// Reads the OPT record of a message, and whether its last record is a signature. A message has at
    /// most one of each. An error is returned too where records before them cannot be read.
    fn of(message: &Message<[u8]>) -> Result<(Option<Self>, bool), Rejection> {
        let counts = message.header_counts();
        if (counts.ancount(), counts.nscount(), counts.arcount()) == (0, 0, 0) {
            return Ok((None, false));
        }
        let bad = |edns| Rejection::Error {
            code: OptRcode::FORMERR,
            edns,
        };
        let mut found: Option<Self> = None;
        let mut is_signed = false;
        for record in message.additional().map_err(|_| bad(None))? {
            let record = record.map_err(|_| bad(found.clone()))?;
            if is_signed {
                return Err(bad(found));
            }
            is_signed = record.rtype() == Rtype::TSIG;
            if record.rtype() != Rtype::OPT {
                continue;
            }
            if found.is_some() || !record.owner().is_root() {
                return Err(bad(Some(Self::default())));
            }
            let record = record
                .into_record::<Opt<_>>()
                .map_err(|_| bad(Some(Self::default())))?;
            let Some(record) = record else { continue };
            let record = domain::base::opt::OptRecord::from_record(record);
            if record.version() != 0 {
                return Err(Rejection::Error {
                    code: OptRcode::BADVERS,
                    edns: Some(Self::default()),
                });
            }
            found = Some(Self::read(&record).ok_or_else(|| bad(Some(Self::default())))?);
        }
        Ok((found, is_signed))
    }

    fn read(record: &domain::base::opt::OptRecord<&[u8]>) -> Option<Self> {
        let options = record.opt();
        let cookie = options.iter::<Cookie>().next().transpose().ok()?;
        let keepalive = options.iter::<TcpKeepalive>().next().is_some();
        Some(Self {
            size: record.udp_payload_size(),
            dnssec_ok: record.dnssec_ok(),
            cookie,
            keepalive,
        })
    }
}
