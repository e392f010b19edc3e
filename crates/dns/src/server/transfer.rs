//! Zone transfers: a whole zone (AXFR, RFC 5936), or its changes (IXFR, RFC 1995).

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
    // The records are shared with the zones, which go on changing.
    let zone = engine
        .authority
        .zones()
        .zone(request.name.as_slice())
        .cloned();
    let Some(zone) = zone else { return };
    let mut writer = Writer {
        responder: engine.responder(client, None),
        request: &request,
        signer: signer.map(ServerSequence::from),
        builder: None,
        is_first: true,
        send,
    };
    let sent = match changes(&zone, &request) {
        None => {
            add(&counters.axfr, 1);
            writer.whole_zone(&zone)
        }
        Some(changes) => {
            add(&counters.ixfr, 1);
            writer.changes(&zone, &changes)
        }
    };
    if sent.and_then(|()| writer.flush()).is_err() {
        log::info!("{} did not take the zone {}", client.address, zone.apex());
    }
    counters.answer(OptRcode::NOERROR);
}

/// Returns the changes that the client lacks. `None`: it gets the whole zone, because it asks for it,
/// because the changes are not known any more, or because they are more than the zone.
fn changes<'a>(zone: &'a Zone, request: &Request<'_>) -> Option<Vec<&'a Change>> {
    if request.question.qtype() != Rtype::IXFR {
        return None;
    }
    let serial = serial_of(request)?;
    if serial >= zone.soa().serial {
        return Some(Vec::new());
    }
    let changes = zone.changes_since(serial)?;
    let records = |change: &&Change| change.removed.len() + change.added.len();
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
        self.soa(zone, zone.soa().serial)?;
        for (owner, data) in zone.records() {
            self.record(owner, data)?;
        }
        self.soa(zone, zone.soa().serial)
    }

    /// A client that has the present serial, or a later one, gets the start of authority alone.
    fn changes(&mut self, zone: &Zone, changes: &[&Change]) -> Result<(), Gone> {
        self.soa(zone, zone.soa().serial)?;
        if changes.is_empty() {
            return Ok(());
        }
        for change in changes {
            self.soa(zone, change.from)?;
            for record in &change.removed {
                self.record(&record.owner, &record.data)?;
            }
            self.soa(zone, change.to)?;
            for record in &change.added {
                self.record(&record.owner, &record.data)?;
            }
        }
        self.soa(zone, zone.soa().serial)
    }

    fn record(&mut self, owner: &DomainName, data: &Data) -> Result<(), Gone> {
        self.push(|builder| push_record(builder, owner, data).is_ok())
    }

    fn soa(&mut self, zone: &Zone, serial: Serial) -> Result<(), Gone> {
        let soa = Soa {
            serial,
            ..zone.soa().clone()
        };
        let data = soa_data(&soa);
        self.push(|builder| {
            builder
                .push((zone.apex(), Class::IN, soa_ttl(), &data))
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
