//! The list of peers. A copy costs nothing, one change costs the same however long
//! the list is, and so does finding what differs between a list and a later one.

use std::fmt;
use std::net::Ipv4Addr;
use std::slice;
use std::sync::Arc;

use super::desired::Peer;

/// Bits of an address that choose among the children of a node.
const BITS: u32 = 4;
const CHILDREN: usize = 1 << BITS;

/// The other agents by underlay address, in order.
///
/// A tree over the addresses' bits whose unchanged parts are shared from list to
/// list. Its shape follows from its content alone, so that lists that were made in
/// different ways can be compared part by part too.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PeerMap {
    root: Child,
    len: usize,
}

type Child = Option<Arc<Node>>;

#[derive(Clone, PartialEq, Eq)]
enum Node {
    Leaf(Ipv4Addr, Arc<Peer>),
    /// There are at least two leaves below it.
    Branch([Child; CHILDREN]),
}

/// A peer and its address.
pub type Entry<'a> = (&'a Ipv4Addr, &'a Arc<Peer>);

/// What one list has and another has not, or not in this way.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences<'a> {
    /// Entries of the first one only, in order.
    pub gone: Vec<Entry<'a>>,
    /// Entries of the second one only, in order.
    pub come: Vec<Entry<'a>>,
}

impl PeerMap {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The peer of this address.
    pub fn get(&self, ip: &Ipv4Addr) -> Option<&Arc<Peer>> {
        let mut node = self.root.as_deref()?;
        let mut depth = 0;
        loop {
            match node {
                Node::Leaf(there, peer) => return (there == ip).then_some(peer),
                Node::Branch(children) => node = children[place(*ip, depth)].as_deref()?,
            }
            depth += 1;
        }
    }

    /// Adds or replaces one; gives the one that was there.
    pub fn insert(&mut self, ip: Ipv4Addr, peer: Arc<Peer>) -> Option<Arc<Peer>> {
        let before = self.get(&ip).cloned();
        // What is the same stays the same object.
        if before.as_ref() != Some(&peer) {
            put(&mut self.root, 0, ip, peer);
            self.len += usize::from(before.is_none());
        }
        before
    }

    /// Removes one; gives it.
    pub fn remove(&mut self, ip: &Ipv4Addr) -> Option<Arc<Peer>> {
        let before = self.get(ip).cloned()?;
        take(&mut self.root, 0, *ip);
        self.len -= 1;
        Some(before)
    }

    /// All of them, by address.
    pub fn iter(&self) -> Iter<'_> {
        Iter::of(&self.root)
    }

    /// The addresses, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Ipv4Addr> {
        self.iter().map(|(ip, _)| ip)
    }

    /// What differs between this list and a later one. No more than a little over
    /// `most` in each direction is looked for.
    pub fn differences<'a>(&'a self, later: &'a PeerMap, most: usize) -> Differences<'a> {
        let mut differences = Differences::default();
        compare(&self.root, &later.root, most, &mut differences);
        differences
    }
}

/// Which child of a node at this depth an address belongs to.
fn place(ip: Ipv4Addr, depth: u32) -> usize {
    (ip.to_bits() << (BITS * depth) >> (u32::BITS - BITS)) as usize
}

fn put(child: &mut Child, depth: u32, ip: Ipv4Addr, peer: Arc<Peer>) {
    let Some(node) = child else {
        *child = Some(Arc::new(Node::Leaf(ip, peer)));
        return;
    };
    let node = Arc::make_mut(node);
    match node {
        Node::Leaf(there, old) if *there == ip => *old = peer,
        Node::Leaf(there, _) => {
            let at = place(*there, depth);
            let mut children = [const { None }; CHILDREN];
            let leaf = std::mem::replace(node, Node::Branch([const { None }; CHILDREN]));
            children[at] = Some(Arc::new(leaf));
            put(&mut children[place(ip, depth)], depth + 1, ip, peer);
            *node = Node::Branch(children);
        }
        Node::Branch(children) => put(&mut children[place(ip, depth)], depth + 1, ip, peer),
    }
}

/// Removes what is known to be there.
fn take(child: &mut Child, depth: u32, ip: Ipv4Addr) {
    let Some(node) = child else { return };
    if let Node::Leaf(..) = **node {
        *child = None;
        return;
    }
    if let Node::Branch(children) = Arc::make_mut(node) {
        take(&mut children[place(ip, depth)], depth + 1, ip);
        // A single leaf needs no branch.
        let mut left = children.iter().flatten();
        if let (Some(one), None) = (left.next(), left.next())
            && let Node::Leaf(..) = **one
        {
            *child = Some(one.clone());
        }
    }
}

fn compare<'a>(from: &'a Child, to: &'a Child, most: usize, differences: &mut Differences<'a>) {
    if differences.gone.len().max(differences.come.len()) > most {
        return;
    }
    match (from, to) {
        (Some(from), Some(to)) if Arc::ptr_eq(from, to) => return,
        (Some(from), Some(to)) => {
            if let (Node::Branch(from), Node::Branch(to)) = (&**from, &**to) {
                from.iter()
                    .zip(to)
                    .for_each(|(from, to)| compare(from, to, most, differences));
                return;
            }
        }
        _ => {}
    }
    walk(from, to, most, differences);
}

/// The same by a walk over both.
fn walk<'a>(from: &'a Child, to: &'a Child, most: usize, differences: &mut Differences<'a>) {
    let Differences { gone, come } = differences;
    let (mut from, mut to) = (Iter::of(from).peekable(), Iter::of(to).peekable());
    while gone.len().max(come.len()) <= most {
        match (from.peek(), to.peek()) {
            (None, None) => break,
            (Some(old), Some(new)) if old == new => _ = (from.next(), to.next()),
            (Some(old), Some(new)) if old.0 == new.0 => {
                gone.extend(from.next());
                come.extend(to.next());
            }
            (Some(old), Some(new)) if old.0 > new.0 => come.extend(to.next()),
            (Some(_), _) => gone.extend(from.next()),
            (None, Some(_)) => come.extend(to.next()),
        }
    }
}

/// Goes through a [`PeerMap`] by address.
#[derive(Clone)]
pub struct Iter<'a> {
    /// What is left of the nodes that it is in.
    stack: Vec<slice::Iter<'a, Child>>,
}

impl<'a> Iter<'a> {
    fn of(child: &'a Child) -> Iter<'a> {
        Iter {
            stack: vec![slice::from_ref(child).iter()],
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            match self.stack.last_mut()?.next() {
                None => _ = self.stack.pop(),
                Some(None) => {}
                Some(Some(node)) => match &**node {
                    Node::Leaf(ip, peer) => return Some((ip, peer)),
                    Node::Branch(children) => self.stack.push(children.iter()),
                },
            }
        }
    }
}

impl<'a> IntoIterator for &'a PeerMap {
    type Item = Entry<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl Extend<(Ipv4Addr, Arc<Peer>)> for PeerMap {
    fn extend<I: IntoIterator<Item = (Ipv4Addr, Arc<Peer>)>>(&mut self, peers: I) {
        for (ip, peer) in peers {
            self.insert(ip, peer);
        }
    }
}

impl FromIterator<(Ipv4Addr, Arc<Peer>)> for PeerMap {
    fn from_iter<I: IntoIterator<Item = (Ipv4Addr, Arc<Peer>)>>(peers: I) -> PeerMap {
        let mut map = PeerMap::default();
        map.extend(peers);
        map
    }
}

impl<const N: usize> From<[(Ipv4Addr, Arc<Peer>); N]> for PeerMap {
    fn from(peers: [(Ipv4Addr, Arc<Peer>); N]) -> PeerMap {
        peers.into_iter().collect()
    }
}

impl fmt::Debug for PeerMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::host_api::desired::Mac;

    fn peer(n: u8) -> Arc<Peer> {
        Arc::new(Peer {
            vtep_ips: Vec::new(),
            vtep_mac: Mac([n; 6]),
            subnets: Vec::new(),
        })
    }

    /// Changes of addresses that are close to each other, or far away.
    fn changes() -> impl Strategy<Value = Vec<(Ipv4Addr, Option<u8>)>> {
        let ip = prop_oneof![0..20_u32, (0..20_u32).prop_map(|n| n << 27), any::<u32>()];
        vec(
            (ip.prop_map(Ipv4Addr::from_bits), option::of(0..3_u8)),
            0..60,
        )
    }

    fn change(
        map: &mut PeerMap,
        model: &mut BTreeMap<Ipv4Addr, Arc<Peer>>,
        (ip, n): (Ipv4Addr, Option<u8>),
    ) {
        match n.map(peer) {
            Some(peer) => assert_eq!(map.insert(ip, peer.clone()), model.insert(ip, peer)),
            None => assert_eq!(map.remove(&ip), model.remove(&ip)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn is_a_map_and_knows_what_changed(first in changes(), then in changes()) {
            let (mut map, mut model) = (PeerMap::default(), BTreeMap::new());
            first.into_iter().for_each(|one| change(&mut map, &mut model, one));
            let (before, old) = (map.clone(), model.clone());
            then.into_iter().for_each(|one| change(&mut map, &mut model, one));
            prop_assert!(map.iter().eq(&model));
            prop_assert!(before.iter().eq(&old), "a copy changed");
            prop_assert_eq!(map.len(), model.len());
            // Made in another way it is the same.
            let again = PeerMap::from_iter(model.clone().into_iter().rev());
            prop_assert_eq!(&again, &map);
            let expected = Differences {
                gone: old.iter().filter(|(ip, peer)| model.get(ip) != Some(peer)).collect(),
                come: model.iter().filter(|(ip, peer)| old.get(ip) != Some(peer)).collect(),
            };
            prop_assert_eq!(&before.differences(&map, usize::MAX), &expected);
            prop_assert_eq!(&before.differences(&again, usize::MAX), &expected);
            let few = before.differences(&map, 3);
            let more = few.gone.len().max(few.come.len()) > 3;
            prop_assert!(few == expected || more, "not all, and it cannot be seen");
            prop_assert!(few.gone.iter().all(|one| expected.gone.contains(one)));
            prop_assert!(few.come.iter().all(|one| expected.come.contains(one)));
        }
    }

    /// Whatever the number of peers, one more shares all but a few nodes.
    #[test]
    fn what_did_not_change_is_shared() {
        fn nodes(child: &Child, into: &mut Vec<*const Node>) {
            let Some(node) = child else { return };
            into.push(Arc::as_ptr(node));
            if let Node::Branch(children) = &**node {
                children.iter().for_each(|child| nodes(child, into));
            }
        }
        let before: PeerMap = (0..10_000)
            .map(|n| (Ipv4Addr::from_bits(n), peer(1)))
            .collect();
        let mut after = before.clone();
        after.insert(Ipv4Addr::from_bits(10_000), peer(1));
        let (mut old, mut new) = (Vec::new(), Vec::new());
        nodes(&before.root, &mut old);
        nodes(&after.root, &mut new);
        old.sort();
        let own = new
            .iter()
            .filter(|node| old.binary_search(node).is_err())
            .count();
        assert!(own <= 9, "{own} new nodes");
        assert_eq!(before.differences(&after, 100).come.len(), 1);
    }
}
