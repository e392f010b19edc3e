//! Source of random seeds.

use overlay_core::Seed;

/// Source of the seeds of a node and of its machines.
#[derive(Debug)]
pub enum Seeds {
    /// Random bytes of the kernel.
    System,
    /// Numbers that follow from a seed, for tests. Others can guess them.
    Fixed(fastrand::Rng),
}

impl Seeds {
    /// Creates the source for a seed of the ABI: 0 stands for random bytes of the kernel.
    pub fn of(seed: u64) -> Seeds {
        match seed {
            0 => Seeds::System,
            seed => Seeds::Fixed(fastrand::Rng::with_seed(seed)),
        }
    }

    /// Returns a new seed.
    pub(super) fn draw(&mut self) -> Seed {
        match self {
            Seeds::System => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes).expect("the kernel has random bytes after its start");
                bytes.into()
            }
            Seeds::Fixed(random) => random.u64(..).into(),
        }
    }
}
