//! The replicated log as the machine sees it.

use bytes::Bytes;
use overlay_core::{Input, Io, StoreOutcome};

use super::{Action, LogSettings};

/// Passes reads and writes of the state to the driver, or keeps the state in memory if no
/// replicated log is configured.
///
/// Writes keep the machine's number: numbers of different machines differ (see
/// [`overlay_core::machine::first_number`]), and a machine ignores numbers that are not
/// its own. Reads have no number in the machine, which counts their answers, so they get
/// an id here.
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
        overtaken: u32,
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
                overtaken: 0,
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

    /// Reads the state.
    pub(super) fn fetch(&mut self) -> LogStep {
        match self {
            LogProxy::Volatile(state) => LogStep::Answer(Input::Fetched(Ok(state.clone()))),
            LogProxy::Replicated {
                last_fetch,
                fetching,
                overtaken,
                ..
            } => {
                *last_fetch += 1;
                *overtaken += u32::from(fetching.replace(*last_fetch).is_some());
                LogStep::Action(Action::Fetch { id: *last_fetch })
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
            LogProxy::Replicated { .. } => LogStep::Action(Action::Io(Io::Store { number, state })),
        }
    }

    /// Returns the machine's answers for the driver's answer to the read `id`: none for an
    /// id that is not the newest, else one for each read that it replaced and its own.
    pub(super) fn fetched(&mut self, id: u64, result: Result<Bytes, String>) -> Vec<Input> {
        let LogProxy::Replicated {
            fetching,
            overtaken,
            ..
        } = self
        else {
            return Vec::new();
        };
        if fetching.take_if(|fetching| *fetching == id).is_none() {
            return Vec::new();
        }
        let replaced = || Input::Fetched(Err("overtaken by a newer attempt".to_owned()));
        let count = std::mem::take(overtaken) as usize;
        std::iter::repeat_with(replaced)
            .take(count)
            .chain([Input::Fetched(result)])
            .collect()
    }

    /// Forgets the reads of a machine that is gone.
    pub(super) fn forget_reads(&mut self) {
        if let LogProxy::Replicated {
            fetching,
            overtaken,
            ..
        } = self
        {
            *fetching = None;
            *overtaken = 0;
        }
    }
}
