//! Places: a limit of what is done at once, in all and for one client.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// Places for clients.
#[derive(Debug)]
pub struct Places<K> {
    /// Places in all.
    limit: usize,
    /// Places of one client.
    limit_of_client: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    all: usize,
    by_client: HashMap<K, usize>,
}

/// A place, which is free again when this is dropped.
#[derive(Debug)]
pub struct Place<K: Copy + Eq + Hash> {
    places: Arc<Places<K>>,
    client: K,
}

impl<K: Copy + Eq + Hash> Places<K> {
    /// Makes places, of which all are free.
    pub fn new(limit: usize, limit_of_client: usize) -> Self {
        let taken = Taken {
            all: 0,
            by_client: HashMap::new(),
        };
        Self {
            limit,
            limit_of_client,
            taken: Mutex::new(taken),
        }
    }

    /// Takes a place for a client, if there is one.
    pub fn enter(self: &Arc<Self>, client: K) -> Option<Place<K>> {
        let mut taken = self.taken.lock();
        let number = taken.by_client.get(&client).copied().unwrap_or_default();
        if taken.all >= self.limit || number >= self.limit_of_client {
            return None;
        }
        taken.all += 1;
        taken.by_client.insert(client, number + 1);
        Some(Place {
            places: Arc::clone(self),
            client,
        })
    }

    /// Returns the number of places that are taken.
    pub fn taken(&self) -> usize {
        self.taken.lock().all
    }
}

impl<K: Copy + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Some(number) = taken.by_client.get_mut(&self.client) {
            *number -= 1;
            if *number == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_take_all_places() {
        let places = Arc::new(Places::new(5, 3));
        let mut own: Vec<_> = (0..4).filter_map(|_| places.enter(1)).collect();
        assert_eq!(own.len(), 3);
        let others: Vec<_> = (0..4).filter_map(|_| places.enter(2)).collect();
        assert_eq!((others.len(), places.taken()), (2, 5));
        assert!(places.enter(3).is_none());
        own.pop();
        assert!(places.enter(1).is_some());
        drop((own, others));
        assert_eq!(places.taken(), 0);
        assert!(places.taken.lock().by_client.is_empty());
    }
}
