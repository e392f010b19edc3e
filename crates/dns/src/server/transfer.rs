//! Zone transfers: a whole zone (AXFR, RFC 5936), or its changes (IXFR, RFC 1995).

use std::sync::Arc;

use domain::base::iana::{Class, OptRcode, Rtype};
use domain::base::message_builder::AnswerBuilder;
use domain::base::{Message, Serial};
use domain::rdata::Soa as SoaData;
use domain::rdata::tsig::Time48;
use domain::tsig::{Key, ServerSequence};

use super::answer::{Client, Responder, Target, push_record, soa_data, soa_ttl};
use super::engine::Engine;
use super::metrics::{Counters, add};
use super::request::Request;
use crate::zone::{Change, Data, DomainName, Soa, Zone};

/// Messages that wait for a slow client.
pub const QUEUE: usize = 4;

/// Size of the messages, in bytes. Larger ones would not be compressed better: names are only
/// pointed at in the first 16 KiB.
const MESSAGE_SIZE: usize = 32_768;

/// The client has gone.
struct Gone;

/// Makes the messages for a request that [`Engine::answer`] has allowed. `send` takes each, and returns
/// false if no more are wanted.
pub fn run(
    engine: &Engine,
    client: Client,
    message: &[u8],
    counters: &Counters,
    send: &mut dyn FnMut(Vec<u8>) -> bool,
) {
    let Ok(mut message) = Message::from_octets(message.to_vec()) else {
        return;
    };
    let Ok(signer) = engine.verify(&mut message) else {
        return;
    };
    let Ok(request) = Request::parse(message.as_slice()) else {
        return;
    };
    let Some(content) = content(engine, &request) else {
        return;
    };
    let mut writer = Writer {
        responder: engine.responder(client, None),
        request: &request,
        signer: signer.map(ServerSequence::from),
        builder: None,
        is_first: true,
        send,
    };
    let sent = match &content {
        Content::Zone(zone) => {
            add(&counters.axfr, 1);
            writer.whole_zone(zone)
        }
        Content::Changes(head, changes) => {
            add(&counters.ixfr, 1);
            writer.changes(head, changes)
        }
    };
    if sent.and_then(|()| writer.flush()).is_err() {
        let apex = request.question.qname();
        log::info!("{} did not take the zone {apex}", client.address);
    }
    counters.answer(OptRcode::NOERROR);
}

/// Name and start of authority of a zone.
struct Head {
    apex: DomainName,
    soa: Soa,
}

impl Head {
    fn of(zone: &Zone) -> Self {
        Self {
            apex: zone.apex().clone(),
            soa: zone.soa().clone(),
        }
    }
}

/// Records that are sent, of one moment. The zones go on changing meanwhile.
enum Content {
    /// All records, which are shared with the zones.
    Zone(Zone),
    /// Changes.
    Changes(Head, Vec<Arc<Change>>),
}

/// Returns what a client is sent. Only a whole zone is cloned: changes of it copy records as long as the
/// clone is there.
fn content(engine: &Engine, request: &Request<'_>) -> Option<Content> {
    let zones = engine.authority.zones();
    let zone = zones.zone(request.name.as_slice())?;
    Some(match changes(zone, request) {
        None => Content::Zone(zone.clone()),
        Some(changes) => Content::Changes(Head::of(zone), changes),
    })
}

/// Returns the changes that the client lacks. `None`: it gets the whole zone, because it asks for it,
/// because the changes are not known any more, or because they are more than the zone.
fn changes(zone: &Zone, request: &Request<'_>) -> Option<Vec<Arc<Change>>> {
    if request.question.qtype() != Rtype::IXFR {
        return None;
    }
    let serial = serial_of(request)?;
    if serial >= zone.soa().serial {
        return Some(Vec::new());
    }
    let changes = zone.changes_since(serial)?;
    let records = |change: &Arc<Change>| change.removed.len() + change.added.len();
    (changes.iter().map(records).sum::<usize>() <= zone.len()).then_some(changes)
}

/// Returns the serial that the client has.
fn serial_of(request: &Request<'_>) -> Option<Serial> {
    let authority = request.message.authority().ok()?;
    let mut records = authority.limit_to::<SoaData<_>>();
    Some(records.next()?.ok()?.data().serial())
}

/// Messages of one transfer.
struct Writer<'a> {
    responder: Responder<'a>,
    request: &'a Request<'a>,
    signer: Option<ServerSequence<Key>>,
    builder: Option<AnswerBuilder<Target>>,
    is_first: bool,
    send: &'a mut dyn FnMut(Vec<u8>) -> bool,
}

impl Writer<'_> {
    fn whole_zone(&mut self, zone: &Zone) -> Result<(), Gone> {
        let head = Head::of(zone);
        self.soa(&head, head.soa.serial)?;
        for (owner, data) in zone.records() {
            self.record(owner, data)?;
        }
        self.soa(&head, head.soa.serial)
    }

    /// A client that has the present serial, or a later one, gets the start of authority alone.
    fn changes(&mut self, head: &Head, changes: &[Arc<Change>]) -> Result<(), Gone> {
        self.soa(head, head.soa.serial)?;
        if changes.is_empty() {
            return Ok(());
        }
        for change in changes {
            self.soa(head, change.from)?;
            for record in &change.removed {
                self.record(&record.owner, &record.data)?;
            }
            self.soa(head, change.to)?;
            for record in &change.added {
                self.record(&record.owner, &record.data)?;
            }
        }
        self.soa(head, head.soa.serial)
    }

    fn record(&mut self, owner: &DomainName, data: &Data) -> Result<(), Gone> {
        self.push(|builder| push_record(builder, owner, data).is_ok())
    }

    fn soa(&mut self, head: &Head, serial: Serial) -> Result<(), Gone> {
        let soa = Soa {
            serial,
            ..head.soa.clone()
        };
        let data = soa_data(&soa);
        self.push(|builder| {
            builder
                .push((&head.apex, Class::IN, soa_ttl(), &data))
                .is_ok()
        })
    }

    /// Adds a record to the present message, or to the next one if it does not fit.
    fn push(&mut self, push: impl Fn(&mut AnswerBuilder<Target>) -> bool) -> Result<(), Gone> {
        for _ in 0..2 {
            let mut builder = self.builder.take().unwrap_or_else(|| self.start());
            let is_pushed = push(&mut builder);
            self.builder = Some(builder);
            if is_pushed {
                return Ok(());
            }
            self.flush()?;
        }
        // A record is never larger than a message.
        Err(Gone)
    }

    fn start(&self) -> AnswerBuilder<Target> {
        let edns = self.request.edns.as_ref();
        let message = self.request.message;
        let mut out = Vec::with_capacity(MESSAGE_SIZE);
        let mut builder = self
            .responder
            .start(message, edns, OptRcode::NOERROR, &mut out);
        builder.set_push_limit(MESSAGE_SIZE);
        builder.header_mut().set_aa(true);
        builder.header_mut().set_ra(false);
        let mut builder = builder.question();
        if self.is_first {
            // It fits into an empty message.
            let _ = builder.push(self.request.question);
        }
        builder.answer()
    }

    /// Sends the present message.
    fn flush(&mut self) -> Result<(), Gone> {
        let Some(builder) = self.builder.take() else {
            return Ok(());
        };
        self.is_first = false;
        let mut builder = builder.additional();
        builder.clear_push_limit();
        let edns = self.request.edns.as_ref();
        self.responder
            .push_opt(&mut builder, edns, OptRcode::NOERROR, None);
        if let Some(signer) = &mut self.signer {
            signer
                .answer(&mut builder, Time48::now())
                .map_err(|_| Gone)?;
        }
        let message = builder.finish().into_target();
        if (self.send)(message) {
            Ok(())
        } else {
            Err(Gone)
        }
    }
}
