//! Zones: records by name, a serial, and the changes since earlier serials.
//!
//! Readers hold a read guard of a lock around [`Zones`] for some questions. Who needs many records (a
//! zone transfer) clones the zone, which copies no record, and lets go of the lock.

mod journal;
mod names;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use domain::base::Serial;
use domain::base::name::{FromStrError, Name};
use ipnet::IpNet;

use journal::Journal;
use names::{Names, Owner};

/// Time that a record may be kept, except one of a name server.
pub const TTL: Duration = Duration::from_secs(5);
/// Time that a record of a name server may be kept.
pub const NS_TTL: Duration = Duration::from_secs(3600);
/// Unit of serials: a serial is at least the time since 1970 in this unit.
const SERIAL_UNIT: Duration = Duration::from_millis(100);

/// A domain name. In this crate all names are in lower case.
pub type DomainName = Name<Box<[u8]>>;

/// Returns the name of a text such as `dcos.thisdcos.directory`, with or without a dot at its end, in
/// lower case.
///
/// # Errors
/// The text is no domain name.
pub fn parse_name(text: &str) -> Result<DomainName, FromStrError> {
    let mut name = Name::<Vec<u8>>::vec_from_str(text)?;
    name.make_canonical();
    Ok(to_boxed(name))
}

/// Returns the name in memory of its exact size.
pub(crate) fn to_boxed(name: Name<Vec<u8>>) -> DomainName {
    let octets = name.into_octets().into_boxed_slice();
    // Those of a name always make a name.
    DomainName::from_octets(octets).unwrap_or_else(|_| DomainName::root())
}

/// Data of a record, without the SOA record, which [`Zone::soa`] returns.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Data {
    /// IPv4 address.
    A(Ipv4Addr),
    /// IPv6 address.
    Aaaa(Ipv6Addr),
    /// Port of a service, and the name whose addresses have it. Priority and weight are 0.
    Srv {
        /// Port number.
        port: u16,
        /// Name of the host.
        target: DomainName,
    },
    /// Name of an address.
    Ptr(DomainName),
    /// Name server of the zone.
    Ns(DomainName),
}

impl Data {
    /// Returns the time that a record may be kept.
    pub fn ttl(&self) -> Duration {
        match self {
            Data::Ns(_) => NS_TTL,
            Data::A(_) | Data::Aaaa(_) | Data::Srv { .. } | Data::Ptr(_) => TTL,
        }
    }
}

/// A record of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record {
    /// Owner: the name that has the record. In lower case.
    pub owner: DomainName,
    /// Data.
    pub data: Data,
}

/// Start of authority of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Soa {
    /// Primary name server.
    pub mname: DomainName,
    /// Mailbox of the person responsible.
    pub rname: DomainName,
    /// Version of the zone.
    pub serial: Serial,
    /// Time between two questions of a secondary for the serial.
    pub refresh: Duration,
    /// Time between two tries after a failure.
    pub retry: Duration,
    /// Time after which a secondary without answer stops answering.
    pub expire: Duration,
    /// Time that "no such name" may be kept.
    pub minimum: Duration,
}

impl Soa {
    /// Returns the start of authority with DC/OS's times.
    pub fn new(mname: DomainName, rname: DomainName, serial: Serial) -> Soa {
        Soa {
            mname,
            rname,
            serial,
            refresh: Duration::from_secs(60),
            retry: Duration::from_secs(180),
            expire: Duration::from_secs(86_400),
            minimum: Duration::from_secs(1),
        }
    }
}

/// Result of looking for a name in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The name exists. No records: a name between others, or of the zone itself.
    Name(&'a [Data]),
    /// The name does not exist.
    NoName,
}

/// Difference between two consecutive serials of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Serial before it.
    pub from: Serial,
    /// Serial after it.
    pub to: Serial,
    /// Records that went away.
    pub removed: Vec<Record>,
    /// Records that are new.
    pub added: Vec<Record>,
}

/// Claims on records: what tasks begin and cease to need. A record exists while at least one claim
/// on it does, so that tasks can share records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Claims that end.
    pub removed: Vec<Record>,
    /// Claims that begin.
    pub added: Vec<Record>,
}

impl Batch {
    /// Returns true if nothing changes.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    /// Returns the number of claims that begin or end.
    pub fn len(&self) -> usize {
        self.removed.len() + self.added.len()
    }
}

/// Knowledge of the zones about the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Knowledge {
    /// No knowledge: no answer can be given (SERVFAIL), and no transfer.
    #[default]
    Nothing,
    /// A part: records are right, but a name or record that is absent may exist (SERVFAIL instead of
    /// NXDOMAIN and NODATA). No transfer.
    Partial,
    /// All records, as they are now.
    Complete,
    /// All records, as they were at this time. Since then no master is heard.
    Since(SystemTime),
}

/// Zones with one moment's answers, behind a lock for readers.
#[derive(Clone, Debug, Default)]
pub struct Zones {
    zones: Vec<Zone>,
    by_apex: HashMap<Owner, usize>,
    knowledge: Knowledge,
    ranges: Arc<[IpNet]>,
}

/// Records of one domain. A clone shares the records, until one of them changes.
#[derive(Clone, Debug)]
pub struct Zone {
    apex: DomainName,
    soa: Soa,
    names: Names,
    journal: Journal,
}

impl Zones {
    /// Adds a zone without records, or replaces the one of this name. Its serial is later than the one
    /// in `soa`, the last one that secondaries may have, and not earlier than that of the time.
    pub fn insert(&mut self, apex: DomainName, mut soa: Soa, now: SystemTime) {
        if let Some(old) = self.zone(apex.as_slice()) {
            soa.serial = soa.serial.max_of(old.soa.serial);
        }
        soa.serial = next_serial(soa.serial, now);
        let zone = Zone {
            names: Names::new(&apex),
            apex: apex.clone(),
            soa,
            journal: Journal::new(journal::MAX_BYTES),
        };
        match self.by_apex.get(apex.as_slice()) {
            Some(index) => self.zones[*index] = zone,
            None => {
                self.by_apex.insert(Owner(apex), self.zones.len());
                self.zones.push(zone);
            }
        }
    }

    /// Removes a zone.
    pub fn remove(&mut self, apex: &[u8]) {
        self.zones.retain(|zone| zone.apex.as_slice() != apex);
        let apexes = self.zones.iter().map(|zone| Owner(zone.apex.clone()));
        self.by_apex = apexes.zip(0..).collect();
    }

    /// Returns all zones.
    pub fn iter(&self) -> impl Iterator<Item = &Zone> {
        self.zones.iter()
    }

    /// Returns the zone of this name, which is in wire form and in lower case.
    pub fn zone(&self, apex: &[u8]) -> Option<&Zone> {
        self.zones.get(*self.by_apex.get(apex)?)
    }

    /// Returns the zone with the longest apex that the name is in. The name is in wire form and in
    /// lower case.
    pub fn zone_of(&self, name: &[u8]) -> Option<&Zone> {
        self.zones.get(self.index_of(name)?)
    }

    /// Returns true if a clone has records of these zones, which a change copies then.
    pub fn is_shared(&self) -> bool {
        self.zones.iter().any(|zone| zone.names.is_shared())
    }

    /// Returns what the zones know about the cluster.
    pub fn knowledge(&self) -> Knowledge {
        self.knowledge
    }

    /// Sets what the zones know about the cluster.
    pub fn set_knowledge(&mut self, knowledge: Knowledge) {
        self.knowledge = knowledge;
    }

    /// Tells whether an address is in a range whose addresses have names here.
    pub fn has_names_of(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&address))
    }

    /// Sets the ranges whose addresses have names here. Their zones may be wider.
    pub fn set_ranges(&mut self, ranges: &[IpNet]) {
        self.ranges = ranges.into();
    }

    /// Returns the time since the records were right for the last time. `None`: they never were.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        match self.knowledge {
            Knowledge::Nothing | Knowledge::Partial => None,
            Knowledge::Complete => Some(Duration::ZERO),
            Knowledge::Since(time) => Some(now.duration_since(time).unwrap_or_default()),
        }
    }

    /// Begins and ends claims. In each zone that changes the serial grows by one step. Records that
    /// are in no zone are left out. Returns true if a zone changed.
    pub fn apply(&mut self, batch: Batch, now: SystemTime) -> bool {
        let mut changes: Vec<(Vec<Record>, Vec<Record>)> =
            vec![Default::default(); self.zones.len()];
        for record in batch.added {
            if let Some(index) = self.index_of(record.owner.as_slice())
                && self.zones[index].names.claim(&record)
            {
                changes[index].1.push(record);
            }
        }
        for record in batch.removed {
            if let Some(index) = self.index_of(record.owner.as_slice())
                && self.zones[index].names.release(&record)
            {
                changes[index].0.push(record);
            }
        }
        // Before the first answer there are no secondaries.
        let is_secret = matches!(self.knowledge, Knowledge::Nothing | Knowledge::Partial);
        let mut is_changed = false;
        for (zone, (removed, added)) in self.zones.iter_mut().zip(changes) {
            let (removed, added) = without_common(removed, added);
            if removed.is_empty() && added.is_empty() {
                continue;
            }
            is_changed = true;
            let (from, to) = (zone.soa.serial, next_serial(zone.soa.serial, now));
            zone.soa.serial = to;
            let change = Change {
                from,
                to,
                removed,
                added,
            };
            match is_secret {
                true => zone.journal.clear(),
                false => zone.journal.push(change),
            }
        }
        is_changed
    }

    /// Returns the position of the zone that a name is in.
    fn index_of(&self, name: &[u8]) -> Option<usize> {
        suffixes(name).find_map(|suffix| self.by_apex.get(suffix).copied())
    }
}

/// Returns a name in wire form and the names above it.
pub(crate) fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(name), |name| names::parent(name))
}

impl Zone {
    /// Returns the name of the zone.
    pub fn apex(&self) -> &DomainName {
        &self.apex
    }

    /// Returns the start of authority with the present serial.
    pub fn soa(&self) -> &Soa {
        &self.soa
    }

    /// Returns what the zone has at a name in it, in wire form and in lower case.
    pub fn find(&self, name: &[u8]) -> Lookup<'_> {
        self.names.find(name)
    }

    /// Returns all records without the SOA record, those of one name after another.
    pub fn records(&self) -> impl Iterator<Item = (&DomainName, &Data)> {
        self.names.records()
    }

    /// Returns the number of records without the SOA record.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns true if the zone has no record but the SOA record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the changes from an earlier serial to the present one, oldest first. `None`: the zone
    /// does not know them any more.
    pub fn changes_since(&self, serial: Serial) -> Option<Vec<Arc<Change>>> {
        if serial == self.soa.serial {
            return Some(Vec::new());
        }
        self.journal.since(serial)
    }
}

/// Choice of the later one of two serials.
trait LaterSerial {
    /// Returns the later one; the first one if they cannot be compared.
    fn max_of(self, other: Serial) -> Serial;
}

impl LaterSerial for Serial {
    fn max_of(self, other: Serial) -> Serial {
        if other > self { other } else { self }
    }
}

/// Returns the serial of the time, or the next one where that is not later.
fn next_serial(serial: Serial, now: SystemTime) -> Serial {
    serial.add(1).max_of(serial_at(now))
}

/// Returns the serial of a time: it grows with the clock, so that it grows over restarts, too. It is
/// comparable with those of the 6 years before and after.
pub fn serial_at(now: SystemTime) -> Serial {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    // Serials are numbers modulo 2^32.
    Serial((since.as_millis() / SERIAL_UNIT.as_millis()) as u32)
}

/// Leaves out the records that are in both lists.
fn without_common(mut removed: Vec<Record>, mut added: Vec<Record>) -> (Vec<Record>, Vec<Record>) {
    if !removed.is_empty() && !added.is_empty() {
        let before: HashSet<Record> = added.iter().cloned().collect();
        let common: HashSet<Record> = removed
            .iter()
            .filter(|record| before.contains(record))
            .cloned()
            .collect();
        removed.retain(|record| !common.contains(record));
        added.retain(|record| !common.contains(record));
    }
    (removed, added)
}
