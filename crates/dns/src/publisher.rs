//! Publisher: keeps the zones like the table of the cluster.
//!
//! Changes are collected for [`INTERVAL`] and published together, so that a storm of them costs few
//! serials. Time is an argument, of which there are two: the time since any fixed moment for
//! intervals, and that of the calendar for serials and ages.

mod contact;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use domain::base::Serial;
use ipnet::IpNet;

use crate::cluster::Cluster;
use crate::events::Item;
use crate::records::{Rules, compose, data, reverse_zones};
use crate::server::authority::Authority;
use crate::snapshot::{self, Snapshot};
use crate::zone::{
    Batch, Data, DomainName, Knowledge, Record, Soa, Zones, parse_name, serial_at, suffixes,
};

use contact::Contact;

/// Time between a change and its publication, at most.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// Number of records of a batch that is published early, to bound memory.
const LARGE: usize = 8192;
/// Number of records that are changed while questions wait. A larger change is made in a copy.
const SMALL: usize = 1024;
/// Limit of reverse zones. Ranges beyond it have no PTR records.
const MAX_REVERSE_ZONES: usize = 1024;

/// Settings of the zones.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Domains. The first one is in PTR records.
    pub domains: Vec<DomainName>,
    /// Ranges of addresses that have PTR records, besides those of the overlays.
    pub ranges: Vec<IpNet>,
    /// Primary name server; `None`: `ns` in each domain.
    pub mname: Option<DomainName>,
    /// Mailbox of the person responsible; `None`: `hostmaster` in each domain.
    pub rname: Option<DomainName>,
    /// Name servers; empty: the primary one.
    pub name_servers: Vec<DomainName>,
    /// Addresses of the primary name server, where its name is in one of the domains.
    pub addresses: Vec<IpAddr>,
    /// Age from which the last known records are not answered any more.
    pub max_age: Duration,
}

/// Moment of a call.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Time since any fixed moment.
    pub clock: Duration,
    /// Time of the calendar.
    pub calendar: SystemTime,
}

/// Table of the cluster, and the zones made of it.
#[derive(Debug)]
pub struct Publisher {
    settings: Settings,
    cluster: Cluster,
    authority: Arc<Authority>,
    /// Reverse zones that are there.
    reverse: BTreeSet<Box<[u8]>>,
    /// Ranges of the overlays.
    overlays: Vec<IpNet>,
    /// Time at which collected changes are published.
    due: Option<Duration>,
    /// Times when masters were heard, and the time missed meanwhile.
    contact: Contact,
    /// Serials that secondaries can have of an earlier process.
    serials: Vec<(DomainName, Serial)>,
}

impl Publisher {
    /// Creates the zones, with the records of a snapshot if there is one.
    pub fn new(
        settings: Settings,
        snapshot: Option<Snapshot>,
        authority: Arc<Authority>,
        now: Now,
    ) -> Publisher {
        let rules = Publisher::rules(&settings);
        let mut publisher = Publisher {
            cluster: Cluster::new(rules),
            authority,
            reverse: BTreeSet::new(),
            overlays: Vec::new(),
            due: None,
            contact: Contact::default(),
            serials: Vec::new(),
            settings,
        };
        if let Some(snapshot) = snapshot {
            publisher.cluster = snapshot.cluster;
            publisher.serials = snapshot.serials;
            publisher.overlays = snapshot.ranges;
            publisher.contact = Contact::restored(snapshot.time, now.clock);
        }
        let overlays = std::mem::take(&mut publisher.overlays);
        publisher.change(|publisher, zones| {
            for domain in publisher.settings.domains.clone() {
                publisher.insert_zone(zones, domain, now);
            }
            // The table of the snapshot has made the records, but no zone had room for them. Those of
            // reverse zones have none yet, and are made again with the ranges.
            let batch = publisher.cluster.take_batch();
            zones.apply(batch, now.calendar);
            publisher.replace_ranges(zones, overlays, now);
        });
        publisher.tell_knowledge(now);
        publisher
    }

    /// Returns the rules of the records by settings.
    pub fn rules(settings: &Settings) -> Rules {
        Rules {
            domains: settings.domains.clone(),
            ranges: settings.ranges.clone(),
        }
    }

    /// Returns the table.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Handles an item of the master's events.
    pub fn handle(&mut self, item: Item, now: Now) {
        let ends = matches!(item, Item::StateEnds { .. });
        if matches!(item, Item::StateBegins) {
            self.contact.begin();
        }
        self.cluster.handle(item, now.clock);
        if ends {
            self.contact.complete(now.calendar);
            self.publish(now);
            self.tell_knowledge(now);
        }
        self.collect(now);
    }

    /// Takes note that the stream of events ended, and when it was heard last.
    pub fn lose(&mut self, heard: SystemTime, now: Now) {
        self.contact.lose(heard);
        self.cluster.lose();
        self.publish(now);
        self.tell_knowledge(now);
    }

    /// Sets the addresses of the leading master and of all masters.
    pub fn set_masters(&mut self, leader: Option<IpAddr>, masters: Vec<IpAddr>, now: Now) {
        self.cluster.set_masters(leader, masters);
        self.collect(now);
    }

    /// Sets the address of an agent's host name; see [`Cluster::resolve`].
    pub fn resolve(&mut self, hostname: &str, ip: Option<IpAddr>, now: Now) {
        self.cluster.resolve(hostname, ip);
        self.collect(now);
    }

    /// Sets the ranges of the overlays.
    pub fn set_overlays(&mut self, ranges: Vec<IpNet>, now: Now) {
        if ranges == self.overlays {
            return;
        }
        self.publish(now);
        self.change(|publisher, zones| publisher.replace_ranges(zones, ranges, now));
    }

    /// Does what is due. Returns the time of the next call.
    pub fn tick(&mut self, now: Now) -> Option<Duration> {
        let was_settled = self.cluster.is_settled();
        let waits = self.cluster.tick(now.clock);
        self.collect(now);
        if self.due.is_some_and(|due| due <= now.clock) {
            self.publish(now);
        }
        if self.cluster.is_settled() != was_settled {
            self.publish(now);
            self.tell_knowledge(now);
        }
        if !self.contact.is_connected() {
            self.tell_knowledge(now);
        }
        waits.into_iter().chain(self.due).min()
    }

    /// Returns the content of a snapshot. `None`: there are no complete records to keep.
    pub fn snapshot(&self, now: SystemTime) -> Option<Vec<u8>> {
        let time = self.contact.complete_at(now)?;
        let zones = self.authority.zones().clone();
        Some(snapshot::encode(
            &self.cluster,
            &zones,
            &self.overlays,
            time,
        ))
    }

    /// Sets a time for the publication of what was collected, or publishes it at once if it is much.
    fn collect(&mut self, now: Now) {
        match self.cluster.batch_len() {
            0 => {}
            1..LARGE => {
                self.due.get_or_insert(now.clock + INTERVAL);
            }
            _ => self.publish(now),
        }
    }

    /// Publishes what was collected.
    fn publish(&mut self, now: Now) {
        self.due = None;
        let batch = self.cluster.take_batch();
        if batch.is_empty() {
            return;
        }
        // What a transfer reads is copied before it is changed, which must not let questions wait.
        let is_slow = {
            let zones = self.authority.zones();
            zones.knowledge() != Knowledge::Nothing && (batch.len() > SMALL || zones.is_shared())
        };
        if is_slow {
            self.change(|_, zones| {
                zones.apply(batch, now.calendar);
            });
        } else {
            self.authority
                .update(|zones| zones.apply(batch, now.calendar));
        }
    }

    /// Changes a copy of the zones, which takes their place afterwards.
    fn change(&mut self, change: impl FnOnce(&mut Publisher, &mut Zones)) {
        let mut zones = self.authority.zones().clone();
        change(self, &mut zones);
        // The former zones are freed when nobody waits any more.
        self.authority
            .update(|current| std::mem::swap(current, &mut zones));
    }

    /// Sets what the zones know.
    fn tell_knowledge(&mut self, now: Now) {
        if self.cluster.is_settled() {
            self.contact.settle();
        }
        let knowledge = self.contact.knowledge(now, self.settings.max_age);
        if self.authority.zones().knowledge() != knowledge {
            self.authority
                .update(|zones| zones.set_knowledge(knowledge));
        }
    }

    /// Replaces the ranges of the overlays, their zones and their records.
    fn replace_ranges(&mut self, zones: &mut Zones, overlays: Vec<IpNet>, now: Now) {
        let mut ranges = self.settings.ranges.clone();
        ranges.extend(overlays.iter().copied());
        self.overlays = overlays;
        let wanted = reverse_apexes(&ranges);
        zones.set_ranges(&ranges);
        let Batch { removed, added } = self.cluster.set_ranges(ranges);
        let (of_former, of_new) = (
            Batch {
                removed,
                added: Vec::new(),
            },
            Batch {
                removed: Vec::new(),
                added,
            },
        );
        zones.apply(of_former, now.calendar);
        for apex in self.reverse.difference(&wanted) {
            zones.remove(apex);
        }
        for apex in wanted.difference(&self.reverse) {
            if let Ok(apex) = DomainName::from_octets(apex.clone()) {
                self.insert_zone(zones, apex, now);
            }
        }
        self.reverse = wanted;
        zones.apply(of_new, now.calendar);
    }

    /// Inserts a zone with its name servers.
    fn insert_zone(&self, zones: &mut Zones, apex: DomainName, now: Now) {
        let home = match self.settings.domains.contains(&apex) {
            true => Some(&apex),
            false => self.settings.domains.first(),
        };
        let in_home = |label: &str| {
            home.and_then(|domain| compose(&[label], domain))
                .unwrap_or_else(DomainName::root)
        };
        let settings = &self.settings;
        let mname = settings.mname.clone().unwrap_or_else(|| in_home("ns"));
        let rname = settings
            .rname
            .clone()
            .unwrap_or_else(|| in_home("hostmaster"));
        let former = self.serials.iter().find(|(zone, _)| *zone == apex);
        // Without a former serial, the zone gets that of the time.
        let of_time = Serial(serial_at(now.calendar).into_int().wrapping_sub(1));
        let serial = former.map_or(of_time, |(_, serial)| *serial);
        zones.insert(
            apex.clone(),
            Soa::new(mname.clone(), rname, serial),
            now.calendar,
        );
        let mut name_servers = settings.name_servers.clone();
        if name_servers.is_empty() {
            name_servers.push(mname.clone());
        }
        let mut added: Vec<Record> = name_servers
            .into_iter()
            .map(|server| Record {
                owner: apex.clone(),
                data: Data::Ns(server),
            })
            .collect();
        let is_here = suffixes(mname.as_slice()).any(|suffix| suffix == apex.as_slice());
        let addresses = settings.addresses.iter().filter(|_| is_here);
        added.extend(addresses.map(|ip| Record {
            owner: mname.clone(),
            data: data(*ip),
        }));
        let batch = Batch {
            removed: Vec::new(),
            added,
        };
        zones.apply(batch, now.calendar);
    }
}

/// Returns the names of the reverse zones of ranges, without those inside others.
fn reverse_apexes(ranges: &[IpNet]) -> BTreeSet<Box<[u8]>> {
    let mut names: Vec<DomainName> = ranges.iter().copied().flat_map(reverse_zones).collect();
    names.sort_by_key(|name| name.label_count());
    let mut apexes: BTreeSet<Box<[u8]>> = BTreeSet::new();
    for name in names {
        let is_inside = suffixes(name.as_slice()).any(|suffix| apexes.contains(suffix));
        if !is_inside && apexes.len() < MAX_REVERSE_ZONES {
            apexes.insert(name.as_slice().into());
        }
    }
    apexes
}

/// Returns the zones of settings without records. Until a [`Publisher`] takes their place, their names are
/// answered with SERVFAIL.
pub fn unknown(settings: &Settings, now: SystemTime) -> Zones {
    let mut zones = Zones::default();
    let domains = settings.domains.iter().cloned();
    let reverse = reverse_apexes(&settings.ranges);
    let reverse = reverse
        .into_iter()
        .filter_map(|apex| DomainName::from_octets(apex).ok());
    for apex in domains.chain(reverse) {
        let root = DomainName::root;
        zones.insert(apex, Soa::new(root(), root(), serial_at(now)), now);
    }
    zones.set_ranges(&settings.ranges);
    zones
}

/// Returns the domain of DC/OS's names.
pub fn default_domain() -> DomainName {
    parse_name("dcos.thisdcos.directory").unwrap_or_else(|_| DomainName::root())
}
