//! Changes of a zone since earlier serials, bounded.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::Arc;

use domain::base::Serial;

use super::{Change, Data, Record};

/// Memory of the changes of one zone, in bytes. The oldest ones go first.
pub const MAX_BYTES: usize = 8 << 20;

/// The last changes, which follow each other.
#[derive(Clone, Debug)]
pub struct Journal {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    limit: usize,
}

impl Journal {
    /// Creates an empty journal. It takes up to `limit` bytes.
    pub fn new(limit: usize) -> Journal {
        Journal {
            changes: VecDeque::new(),
            bytes: 0,
            limit,
        }
    }

    /// Adds the change after the last one.
    pub fn push(&mut self, change: Change) {
        self.bytes += size(&change);
        self.changes.push_back(Arc::new(change));
        while self.bytes > self.limit
            && let Some(oldest) = self.changes.pop_front()
        {
            self.bytes -= size(&oldest);
        }
    }

    /// Forgets all changes.
    pub fn clear(&mut self) {
        self.changes.clear();
        self.bytes = 0;
    }

    /// Returns the changes from a serial on. `None`: none begins with it.
    pub fn since(&self, serial: Serial) -> Option<Vec<Arc<Change>>> {
        let from = self
            .changes
            .iter()
            .rposition(|change| change.from == serial)?;
        Some(self.changes.range(from..).cloned().collect())
    }
}

/// Returns the memory of a change, in bytes.
fn size(change: &Change) -> usize {
    let records = change.removed.iter().chain(&change.added);
    size_of::<Change>() + records.map(size_of_record).sum::<usize>()
}

fn size_of_record(record: &Record) -> usize {
    let target = match &record.data {
        Data::A(_) | Data::Aaaa(_) => 0,
        Data::Srv { target, .. } | Data::Ptr(target) | Data::Ns(target) => target.len(),
    };
    size_of::<Record>() + record.owner.len() + target
}
