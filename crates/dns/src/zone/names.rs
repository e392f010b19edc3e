//! Names of a zone with their records, in parts that clones share.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::slice;
use std::sync::Arc;

use super::{Data, DomainName, Lookup, Record};

/// Number of parts. A change copies one part if a clone still has it.
const PARTS: usize = 256;

/// Name as a key of a map, found by its wire form.
#[derive(Clone, Debug)]
pub struct Owner(pub DomainName);

impl Borrow<[u8]> for Owner {
    fn borrow(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl Hash for Owner {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_slice().hash(state);
    }
}

impl PartialEq for Owner {
    fn eq(&self, other: &Owner) -> bool {
        self.0.as_slice() == other.0.as_slice()
    }
}

impl Eq for Owner {}

/// Names with their records, and the names between them.
#[derive(Clone, Debug)]
pub struct Names {
    parts: Vec<Arc<HashMap<Owner, Entry>>>,
    apex_len: usize,
    records: usize,
}

/// Content of a name.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// Number of existing names that have one label more.
    below: u32,
    set: Set,
}

/// Records of a name, with the number of claims on each. Most names have one.
#[derive(Clone, Debug, Default)]
enum Set {
    #[default]
    Empty,
    One(Data, u32),
    Many(Box<Many>),
}

/// Several records, sorted, and the claims on each.
#[derive(Clone, Debug)]
struct Many {
    data: Vec<Data>,
    claims: Vec<u32>,
}

impl Names {
    /// Creates the names of a zone without records.
    pub fn new(apex: &DomainName) -> Names {
        let mut names = Names {
            parts: vec![Arc::default(); PARTS],
            apex_len: apex.len(),
            records: 0,
        };
        names
            .part(apex.as_slice())
            .insert(Owner(apex.clone()), Entry::default());
        names
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Returns true if a clone has the same names.
    pub fn is_shared(&self) -> bool {
        let is_shared = |part: &Arc<HashMap<_, _>>| Arc::strong_count(part) > 1;
        // Parts without names share one map from the beginning.
        let mut used = self.parts.iter().filter(|part| !part.is_empty());
        used.any(is_shared)
    }

    /// Returns what is at a name in wire form and in lower case.
    pub fn find(&self, name: &[u8]) -> Lookup<'_> {
        match self.parts[part_of(name)].get(name) {
            Some(entry) => Lookup::Name(entry.set.data()),
            None => Lookup::NoName,
        }
    }

    /// Returns all records, those of one name after another.
    pub fn records(&self) -> impl Iterator<Item = (&DomainName, &Data)> {
        let names = self.parts.iter().flat_map(|part| part.iter());
        names.flat_map(|(owner, entry)| entry.set.data().iter().map(move |data| (&owner.0, data)))
    }

    /// Begins a claim on a record, whose owner is in the zone. Returns true if the record is new.
    pub fn claim(&mut self, record: &Record) -> bool {
        let name = record.owner.as_slice();
        let part = self.part(name);
        if let Some(entry) = part.get_mut(name) {
            let is_new = entry.set.claim(&record.data);
            self.records += usize::from(is_new);
            return is_new;
        }
        let entry = Entry {
            below: 0,
            set: Set::One(record.data.clone(), 1),
        };
        part.insert(Owner(record.owner.clone()), entry);
        self.records += 1;
        self.count_in_parent(name);
        true
    }

    /// Ends a claim on a record, whose owner is in the zone. Returns true if the record is gone.
    pub fn release(&mut self, record: &Record) -> bool {
        let name = record.owner.as_slice();
        let Some(entry) = self.part(name).get_mut(name) else {
            return false;
        };
        let is_gone = entry.set.release(&record.data);
        if is_gone {
            self.records -= 1;
            self.forget_if_empty(name);
        }
        is_gone
    }

    /// Counts a new name in the names above it, which it makes exist.
    fn count_in_parent(&mut self, name: &[u8]) {
        let mut name = name;
        while let Some(parent) = parent(name).filter(|parent| parent.len() >= self.apex_len) {
            let part = self.part(parent);
            if let Some(entry) = part.get_mut(parent) {
                entry.below += 1;
                return;
            }
            let Ok(owner) = DomainName::from_octets(parent.into()) else {
                return;
            };
            let entry = Entry {
                below: 1,
                set: Set::Empty,
            };
            part.insert(Owner(owner), entry);
            name = parent;
        }
    }

    /// Forgets a name with neither records nor names below it, and the names above it that exist for
    /// its sake.
    fn forget_if_empty(&mut self, name: &[u8]) {
        let mut name = name;
        while name.len() > self.apex_len {
            let part = self.part(name);
            let is_empty = |entry: &Entry| entry.below == 0 && matches!(entry.set, Set::Empty);
            if !part.get(name).is_some_and(is_empty) {
                return;
            }
            part.remove(name);
            // Room for names that are gone would otherwise stay forever.
            if part.len() * 4 < part.capacity() {
                part.shrink_to(part.len() * 2);
            }
            let Some(parent) = parent(name) else {
                return;
            };
            if let Some(entry) = self.part(parent).get_mut(parent) {
                entry.below = entry.below.saturating_sub(1);
            }
            name = parent;
        }
    }

    /// Returns the part of a name, for a change.
    fn part(&mut self, name: &[u8]) -> &mut HashMap<Owner, Entry> {
        Arc::make_mut(&mut self.parts[part_of(name)])
    }
}

impl Set {
    fn data(&self) -> &[Data] {
        match self {
            Set::Empty => &[],
            Set::One(data, _) => slice::from_ref(data),
            Set::Many(many) => &many.data,
        }
    }

    /// Begins a claim. Returns true if the record is new.
    fn claim(&mut self, data: &Data) -> bool {
        match self {
            Set::Empty => *self = Set::One(data.clone(), 1),
            Set::One(own, claims) if own == data => {
                *claims += 1;
                return false;
            }
            Set::One(own, claims) => {
                let mut many = Many {
                    data: vec![own.clone()],
                    claims: vec![*claims],
                };
                many.claim(data);
                *self = Set::Many(Box::new(many));
            }
            Set::Many(many) => return many.claim(data),
        }
        true
    }

    /// Ends a claim. Returns true if the record is gone.
    fn release(&mut self, data: &Data) -> bool {
        match self {
            Set::One(own, claims) if own == data => {
                *claims -= 1;
                if *claims > 0 {
                    return false;
                }
                *self = Set::Empty;
                true
            }
            Set::Empty | Set::One(..) => false,
            Set::Many(many) => {
                let is_gone = many.release(data);
                if let ([data], [claims]) = (&many.data[..], &many.claims[..]) {
                    *self = Set::One(data.clone(), *claims);
                }
                is_gone
            }
        }
    }
}

impl Many {
    fn claim(&mut self, data: &Data) -> bool {
        match self.data.binary_search(data) {
            Ok(at) => {
                self.claims[at] += 1;
                false
            }
            Err(at) => {
                self.data.insert(at, data.clone());
                self.claims.insert(at, 1);
                true
            }
        }
    }

    fn release(&mut self, data: &Data) -> bool {
        let Ok(at) = self.data.binary_search(data) else {
            return false;
        };
        self.claims[at] -= 1;
        if self.claims[at] > 0 {
            return false;
        }
        self.data.remove(at);
        self.claims.remove(at);
        true
    }
}

/// Returns the name without its first label. `None`: it is the root.
pub fn parent(name: &[u8]) -> Option<&[u8]> {
    match name.first() {
        None | Some(0) => None,
        Some(length) => name.get(usize::from(*length) + 1..),
    }
}

/// Returns the part that a name is in (FNV-1a of its beginning).
fn part_of(name: &[u8]) -> usize {
    let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = name.iter().take(64).fold(0x811c_9dc5, mix);
    (hash ^ (hash >> 16)) as usize % PARTS
}
