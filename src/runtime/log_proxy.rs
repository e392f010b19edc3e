//! The replicated log as the machine sees it.

use bytes::Bytes;
use overlay_core::{Input, Io, StoreOutcome};

use super::{Action, LogSettings};

/// Passes reads and writes of the state to the driver, or keeps the state in memory if no
/// replicated log is configured.
///
/// A machine gets one answer to each read and write of its own, and none to those of a
/// machine before it. Writes keep the machine's number, which is different from those of
/// other machines (see [`overlay_core::machine::number_base`]). Reads have no number in the
/// machine, which counts their answers, so they get an id here.
pub(super) enum LogProxy {
    /// State in memory. It is kept over restarts of the machine only.
    Volatile(Bytes),
    Replicated {
        settings: LogSettings,
        /// Id of the last read. Ids are not reused after a restart.
        last_fetch: u64,
        /// Id of the read that the driver has not answered yet.
        fetching: Option<u64>,
        /// Number of reads of the machine that newer reads replaced. The driver answers
        /// only the newest read, the machine gets an answer for each.
        superseded_reads: u32,
        /// Number of the write that the driver has not answered yet.
        storing: Option<u64>,
    },
}

/// Result of a read or write: an action for the driver, or the immediate answer.
pub(super) enum LogStep {
    Action(Action),
    Answer(Input),
}

impl LogProxy {
    pub(super) fn new(settings: Option<LogSettings>) -> LogProxy {
        match settings {
            None => LogProxy::Volatile(Bytes::new()),
            Some(settings) => LogProxy::Replicated {
                settings,
                last_fetch: 0,
                fetching: None,
                superseded_reads: 0,
                storing: None,
            },
        }
    }

    /// Returns the action that opens the log.
    pub(super) fn open(&self) -> Option<Action> {
        match self {
            LogProxy::Volatile(_) => None,
            LogProxy::Replicated { settings, .. } => Some(Action::OpenLog(settings.clone())),
        }
    }

    /// Reads the state; with `reopen` from a log that is opened anew.
    pub(super) fn fetch(&mut self, reopen: bool) -> LogStep {
        match self {
            LogProxy::Volatile(state) => LogStep::Answer(Input::Fetched(Ok(state.clone()))),
            LogProxy::Replicated {
                last_fetch,
                fetching,
                superseded_reads,
                ..
            } => {
                *last_fetch += 1;
                *superseded_reads += u32::from(fetching.replace(*last_fetch).is_some());
                LogStep::Action(Action::Fetch {
                    id: *last_fetch,
                    reopen,
                })
            }
        }
    }

    /// Writes the state.
    pub(super) fn store(&mut self, number: u64, state: Bytes) -> LogStep {
        match self {
            LogProxy::Volatile(volatile) => {
                *volatile = state;
                LogStep::Answer(Input::Stored {
                    number,
                    outcome: StoreOutcome::Stored,
                })
            }
            LogProxy::Replicated { storing, .. } => {
                *storing = Some(number);
                LogStep::Action(Action::Io(Io::Store { number, state }))
            }
        }
    }

    /// Returns the answers for the machine when the driver answers the read `id`: none unless
    /// `id` is the newest; else an error for each superseded read, and the result.
    pub(super) fn fetched(&mut self, id: u64, result: Result<Bytes, String>) -> Vec<Input> {
        let LogProxy::Replicated {
            fetching,
            superseded_reads,
            ..
        } = self
        else {
            return Vec::new();
        };
        if fetching.take_if(|fetching| *fetching == id).is_none() {
            return Vec::new();
        }
        let replaced = || Input::Fetched(Err("overtaken by a newer attempt".to_owned()));
        let count = std::mem::take(superseded_reads) as usize;
        std::iter::repeat_with(replaced)
            .take(count)
            .chain([Input::Fetched(result)])
            .collect()
    }

    /// Returns the machine's answer for the driver's answer to the write `number`; `None` if
    /// it does not wait for that.
    pub(super) fn stored(&mut self, number: u64, outcome: StoreOutcome) -> Option<Input> {
        let LogProxy::Replicated { storing, .. } = self else {
            return None;
        };
        storing.take_if(|storing| *storing == number)?;
        Some(Input::Stored { number, outcome })
    }

    /// Forgets the reads and writes of the machine that panicked.
    pub(super) fn forget(&mut self) {
        if let LogProxy::Replicated {
            fetching,
            superseded_reads,
            storing,
            ..
        } = self
        {
            *fetching = None;
            *superseded_reads = 0;
            *storing = None;
        }
    }
}
