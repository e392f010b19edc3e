//! Mesos's replicated log for masters: one value, one writer.

use bytes::Bytes;
use fastrand::Rng;
use overlay_core::StoreOutcome;

use crate::cluster::Incarnation;

/// Simulated log.
pub struct ReplicatedLog {
    value: Bytes,
    writer: Option<Incarnation>,
    /// Failed write that a few replicas may have. The next reader decides whether it is in the
    /// log.
    undecided: Option<Bytes>,
    /// Percentage of operations that fail.
    pub failures: u8,
    /// Failed writes are not answered, as if the other replicas went away meanwhile.
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

    /// Replaces the value by that of another writer. The previous writer has to read it again.
    pub fn rewrite(&mut self, change: impl FnOnce(Bytes) -> Vec<u8>) {
        self.value = change(std::mem::take(&mut self.value)).into();
        self.writer = None;
        self.undecided = None;
    }

    fn fails(&self, random: &mut Rng) -> bool {
        random.u8(0..100) < self.failures
    }

    /// Takes over the log and reads it.
    pub fn fetch(&mut self, reader: Incarnation, random: &mut Rng) -> Result<Bytes, String> {
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

    /// Writes a value, unless another process took over the log.
    pub fn store(&mut self, writer: Incarnation, value: Bytes, random: &mut Rng) -> StoreOutcome {
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
