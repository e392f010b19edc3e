//! The trust in an agent: whether it has shown that it receives what is sent to its address.

use crate::proto;

/// The trust in an agent with an allocation. Stored with the allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// An agent of an earlier release that has shown nothing yet. It is nobody's peer, and others
    /// may get its allocation.
    Provisional,
    /// An agent of an earlier release. Anybody can send messages in its name.
    #[default]
    Legacy,
    /// An agent that has confirmed a registration. Messages outside of its session are not from
    /// it.
    Confirmed,
}

impl Trust {
    /// Returns the trust that is stored with an agent.
    pub fn stored(info: &proto::AgentInfo) -> Trust {
        if info.confirmed() {
            Trust::Confirmed
        } else if info.provisional() {
            Trust::Provisional
        } else {
            Trust::Legacy
        }
    }

    /// Returns the fields `confirmed` and `provisional` of a stored agent.
    pub fn to_stored(self) -> (Option<bool>, Option<bool>) {
        let flag = |trust| (self == trust).then_some(true);
        (flag(Trust::Confirmed), flag(Trust::Provisional))
    }
}
