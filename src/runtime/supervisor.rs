//! Ownership of the machine, and its restart after a panic.

use std::time::Duration;

use overlay_core::util::backoff::Backoff;
use overlay_core::{Input, Machine, Seed, Time, Upid};

use super::{Panic, catch};

/// Time without a panic after which the delay before a restart is the shortest again.
pub(super) const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Creates a machine.
pub type MachineFactory = Box<dyn Fn(MachineContext<'_>) -> Box<dyn Machine + Send> + Send>;

/// Arguments of a machine besides its configuration.
#[derive(Clone, Copy, Debug)]
pub struct MachineContext<'a> {
    /// Pid of the machine's process.
    pub me: &'a Upid,
    /// Source of the machine's random numbers and secrets.
    pub seed: Seed,
    /// Number of machines that this process created before.
    pub restarts: u64,
}

/// The machine, or the time of its restart.
enum State {
    Running {
        machine: Box<dyn Machine + Send>,
        since: Time,
    },
    Down {
        restart_at: Time,
    },
}

/// Owner of the machine. Catches its panics, discards it after one, and creates another.
pub(super) struct Supervisor {
    factory: MachineFactory,
    state: State,
    restart_delay: Backoff,
    /// Number of machines created so far.
    created: u64,
    /// Set by a panic, cleared by [`take_panicked`](Supervisor::take_panicked).
    panicked: bool,
    /// Number of inputs dropped since the last panic.
    lost_inputs: u64,
}

impl Supervisor {
    pub(super) fn new(factory: MachineFactory) -> Supervisor {
        Supervisor {
            factory,
            state: State::Down {
                restart_at: Time::default(),
            },
            restart_delay: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
            created: 0,
            panicked: false,
            lost_inputs: 0,
        }
    }

    /// Creates a machine. After a panic in the factory the supervisor is still down, and
    /// the caller must call [`crashed`](Supervisor::crashed).
    pub(super) fn create(&mut self, now: Time, me: &Upid, seed: Seed) -> Result<(), Panic> {
        let context = MachineContext {
            me,
            seed,
            restarts: self.created,
        };
        let machine = catch(|| (self.factory)(context))?;
        self.state = State::Running {
            machine,
            since: now,
        };
        self.created += 1;
        Ok(())
    }

    /// Returns the number of machines that were created before the current one.
    pub(super) fn restarts(&self) -> u64 {
        self.created.saturating_sub(1)
    }

    /// Returns when to create the next machine; `None` while there is one.
    pub(super) fn restart_at(&self) -> Option<Time> {
        match self.state {
            State::Running { .. } => None,
            State::Down { restart_at } => Some(restart_at),
        }
    }

    /// Gives `input` to the machine. Counts it as lost if there is none.
    pub(super) fn handle(&mut self, now: Time, input: Input) -> Result<(), Panic> {
        if matches!(self.state, State::Down { .. }) {
            self.lost_inputs += 1;
            return Ok(());
        }
        self.call(|machine| {
            #[cfg(feature = "fault-injection")]
            super::fault::inject(&input);
            machine.handle(now, input);
        })?;
        Ok(())
    }

    /// Calls the machine; `None` if there is none. After a panic the caller must call
    /// [`crashed`](Supervisor::crashed).
    pub(super) fn call<R>(
        &mut self,
        call: impl FnOnce(&mut dyn Machine) -> R,
    ) -> Result<Option<R>, Panic> {
        match &mut self.state {
            State::Running { machine, .. } => catch(|| call(machine.as_mut())).map(Some),
            State::Down { .. } => Ok(None),
        }
    }

    /// Discards the machine. Returns the delay before the restart.
    pub(super) fn crashed(&mut self, now: Time, random: &mut fastrand::Rng) -> Duration {
        self.panicked = true;
        if let State::Running { since, .. } = self.state
            && now.since(since) >= HEALTHY_AFTER
        {
            self.restart_delay.reset();
        }
        let delay = self.restart_delay.next(random);
        let down = State::Down {
            restart_at: now + delay,
        };
        let broken = std::mem::replace(&mut self.state, down);
        // The destructor of a machine in an undefined state may panic, too. The panic that
        // came first has been reported, and that is enough.
        let _ = catch(|| drop(broken));
        delay
    }

    /// Returns whether there was a panic since the last call.
    pub(super) fn take_panicked(&mut self) -> bool {
        std::mem::take(&mut self.panicked)
    }

    #[cfg(test)]
    pub(super) fn lost_inputs(&self) -> u64 {
        self.lost_inputs
    }

    /// Returns the number of inputs dropped since the last panic, and resets it.
    pub(super) fn take_lost_inputs(&mut self) -> u64 {
        std::mem::take(&mut self.lost_inputs)
    }
}
