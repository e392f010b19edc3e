//! Names of the messages between agents and masters, by which libprocess delivers them.

use prost::Message;

use crate::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, PeersReceivedMessage,
    RegisterAgentMessage, RegistrationRefusedMessage, UpdateAgentOverlaysMessage,
    UpdatePeersMessage,
};
use crate::{Effect, Io, Upid};

/// A message between agent and master.
pub trait Named: Message + Default {
    /// Full name of the protobuf type.
    const NAME: &'static str;
}

macro_rules! named {
    ($($message:ident),* $(,)?) => {
        $(impl Named for $message {
            const NAME: &'static str = concat!("mesos.modules.overlay.internal.", stringify!($message));
        })*

        /// Names of all messages.
        pub const NAMES: &[&str] = &[$($message::NAME),*];
    };
}

named![
    RegisterAgentMessage,
    UpdateAgentOverlaysMessage,
    AgentRegisteredMessage,
    AgentRegisteredAcknowledgement,
    RegistrationRefusedMessage,
    UpdatePeersMessage,
    PeersReceivedMessage,
];

impl Io {
    /// Returns the effect that sends `message` to `to`.
    pub fn send<M: Named>(to: Upid, message: &M) -> Io {
        Io::Send {
            to,
            name: M::NAME,
            body: message.encode_to_vec().into(),
        }
    }
}

impl Effect {
    /// Returns the effect that sends `message` to `to`.
    pub fn send<M: Named>(to: Upid, message: &M) -> Effect {
        Effect::Io(Io::send(to, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<M: Named + prost::Name>() {
        assert_eq!(<M as Named>::NAME, M::full_name());
    }

    #[test]
    fn names_are_those_of_the_proto_files() {
        check::<RegisterAgentMessage>();
        check::<UpdateAgentOverlaysMessage>();
        check::<AgentRegisteredMessage>();
        check::<AgentRegisteredAcknowledgement>();
        check::<RegistrationRefusedMessage>();
        check::<UpdatePeersMessage>();
        check::<PeersReceivedMessage>();
    }
}
