//! Entries with numbers, which are used again.

/// Entries by number.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    /// Adds an entry. Returns its number.
    pub fn insert(&mut self, entry: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.entries[index as usize] = Some(entry);
            return index;
        }
        self.entries.push(Some(entry));
        // Tables are bounded far below 2^32.
        (self.entries.len() - 1) as u32
    }

    /// Adds an entry with the next number, or a later one below `limit`; numbers between are free.
    /// Returns false if the number is not free.
    pub fn insert_at(&mut self, index: u32, entry: T, limit: usize) -> bool {
        let at = index as usize;
        if at < self.entries.len() || at >= limit {
            return false;
        }
        // Not more than `limit` numbers can be free.
        self.free.extend(self.entries.len() as u32..index);
        self.entries.resize_with(at, || None);
        self.entries.push(Some(entry));
        true
    }

    /// Removes an entry.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let entry = self.entries.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(entry)
    }

    /// Returns an entry.
    pub fn get(&self, index: u32) -> Option<&T> {
        self.entries.get(index as usize)?.as_ref()
    }

    /// Returns an entry, for a change.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)?.as_mut()
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Returns all entries with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let entries = (0..).zip(&self.entries);
        entries.filter_map(|(index, entry)| Some((index, entry.as_ref()?)))
    }

    /// Returns all entries with their numbers, for changes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        let entries = (0..).zip(&mut self.entries);
        entries.filter_map(|(index, entry)| Some((index, entry.as_mut()?)))
    }
}
