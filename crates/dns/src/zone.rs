//! Zones: records by name, a serial, and the changes since earlier serials.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use domain::base::Serial;
use domain::base::name::Name;

/// A domain name.
pub type DomainName = Name<Box<[u8]>>;

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

/// A record of a zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// What a zone has at a name.
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

/// Zones with one moment's answers, behind a lock for readers.
#[derive(Debug, Default)]
pub struct Zones {
    zones: Vec<Zone>,
}

/// Records of one domain.
#[derive(Debug)]
pub struct Zone {
    apex: DomainName,
    soa: Soa,
}

impl Zones {
    /// Returns the zone with the longest apex that the name is in. The name is in wire form and in
    /// lower case.
    pub fn zone_of(&self, name: &[u8]) -> Option<&Zone> {
        let is_in = |zone: &&Zone| name.ends_with(zone.apex.as_slice());
        self.zones
            .iter()
            .filter(is_in)
            .max_by_key(|zone| zone.apex.len())
    }
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
        let _ = name;
        todo!()
    }

    /// Returns all records without the SOA record.
    pub fn records(&self) -> impl Iterator<Item = (&DomainName, &Data)> {
        std::iter::empty()
    }

    /// Returns the changes from an earlier serial to the present one, oldest first. `None`: the zone
    /// does not know them any more.
    pub fn changes_since(&self, serial: Serial) -> Option<Vec<&Change>> {
        let _ = serial;
        todo!()
    }
}
