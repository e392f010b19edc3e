//! Peers whose values are wrong.

use std::collections::BTreeMap;

/// Number of peers of which there are sentences. The others are counted.
const SENTENCES: usize = 100;

/// Longest address of a peer that is kept, in characters. What is longer is no address.
const MAX_KEY: usize = 64;

/// Peers with wrong values, by the address in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PeerFaults {
    /// Sentence about each peer; `None`: there were enough sentences.
    peers: BTreeMap<String, Option<Box<str>>>,
    /// Number of sentences.
    sentences: usize,
}

fn key(address: &str) -> &str {
    match address.char_indices().nth(MAX_KEY) {
        Some((end, _)) => &address[..end],
        None => address,
    }
}

impl PeerFaults {
    /// Returns whether all peers are right.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Returns a sentence about each peer, or about the number of those without one.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        let sentences = self.peers.values().flatten();
        let more = self.peers.len() - self.sentences;
        let more = (more > 0).then(|| format!("{more} more peers have wrong values"));
        sentences.map(|text| text.to_string()).chain(more)
    }

    /// Records that a peer is wrong.
    pub fn insert(&mut self, address: &str, sentence: impl FnOnce() -> String) {
        self.remove(address);
        let sentence = (self.sentences < SENTENCES).then(|| sentence().into());
        self.sentences += usize::from(sentence.is_some());
        self.peers.insert(key(address).to_owned(), sentence);
    }

    /// Records that a peer is right or gone.
    pub fn remove(&mut self, address: &str) {
        if let Some(Some(_)) = self.peers.remove(key(address)) {
            self.sentences -= 1;
        }
    }

    /// Forgets all peers.
    pub fn clear(&mut self) {
        *self = PeerFaults::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_few_however_many_peers_are_wrong() {
        let mut faults = PeerFaults::default();
        for n in 0..100_000 {
            faults.insert(&format!("peer {n}"), || format!("wrong {n}"));
        }
        let sentences: Vec<String> = faults.sentences().collect();
        assert_eq!(sentences.len(), SENTENCES + 1);
        assert_eq!(sentences[SENTENCES], "99900 more peers have wrong values");
        for n in 0..100_000 {
            faults.remove(&format!("peer {n}"));
        }
        assert!(faults.is_empty() && faults.sentences().next().is_none());
        assert_eq!(faults, PeerFaults::default());
    }

    #[test]
    fn long_addresses_are_cut() {
        let mut faults = PeerFaults::default();
        let long = "ä".repeat(10_000);
        faults.insert(&long, || "wrong".to_owned());
        assert!(faults.peers.keys().all(|key| key.len() == 2 * MAX_KEY));
        faults.insert(&long, || "wrong again".to_owned());
        assert_eq!(faults.sentences().collect::<Vec<_>>(), ["wrong again"]);
        faults.remove(&long);
        assert!(faults.is_empty());
    }
}
