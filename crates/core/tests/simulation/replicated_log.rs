//! Mesos's replicated log as a master sees it: one value, one writer.

use bytes::Bytes;
use fastrand::Rng;
use overlay_core::StoreOutcome;

use crate::cluster::Life;

/// The log.
pub struct ReplicatedLog {
    value: Bytes,
    writer: Option<Life>,
    /// A write that failed, and of which the next reader decides whether it is
    /// there: a replica or two may have it.
    undecided: Option<Bytes>,
    /// How many of a hundred operations fail.
    pub failures: u8,
    /// A write that fails is never answered, as one that was under way when the other
    /// replicas went away.
    pub unanswered: bool,
}

impl ReplicatedLog {
    pub fn new() -> ReplicatedLog {
        ReplicatedLog {
            value: Bytes::new(),
            writer: None,
            undecided: None,
            failures: 0,
            unanswered: false,
        }
    }

    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// Somebody else writes it; whoever wrote before has to read it anew.
    pub fn rewrite(&mut self, change: impl FnOnce(Bytes) -> Vec<u8>) {
        self.value = change(std::mem::take(&mut self.value)).into();
        self.writer = None;
        self.undecided = None;
    }

    fn fails(&self, random: &mut Rng) -> bool {
        random.u8(0..100) < self.failures
    }

    /// Takes the log over and reads it.
    pub fn fetch(&mut self, reader: Life, random: &mut Rng) -> Result<Bytes, String> {
        if self.fails(random) {
            if random.bool() {
                // It came as far as pushing the writer out.
                self.writer = None;
            }
            return Err("no quorum".into());
        }
        self.writer = Some(reader);
        if let Some(value) = self.undecided.take().filter(|_| random.bool()) {
            self.value = value;
        }
        Ok(self.value.clone())
    }

    /// Writes, if `writer` still is the one who may.
    pub fn store(&mut self, writer: Life, value: Bytes, random: &mut Rng) -> StoreOutcome {
        if self.writer != Some(writer) {
            return StoreOutcome::Superseded;
        }
        if self.fails(random) {
            self.writer = None;
            match random.u8(0..3) {
                0 => self.value = value,
                1 => self.undecided = Some(value),
                _ => {}
            }
            return StoreOutcome::Failed("no quorum".into());
        }
        self.undecided = None;
        self.value = value;
        StoreOutcome::Stored
    }
}
