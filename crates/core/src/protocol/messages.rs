//! Names of the messages between agents and masters, by which libprocess delivers them.

use bytes::Bytes;
use prost::Message;

use crate::proto::internal::{
    AgentRegisteredAcknowledgement, AgentRegisteredMessage, PeersReceivedMessage,
    RegisterAgentMessage, RegistrationChallengeMessage, RegistrationRefusedMessage, Session,
    UpdateAgentOverlaysMessage, UpdatePeersMessage,
};
use crate::{Effect, Io, Upid};

/// A message between agent and master.
pub trait Named: Message + Default {
    /// Full name of the protobuf type.
    const NAME: &'static str;

    /// Returns the session and authentication of the message.
    fn session(&self) -> Option<&Session>;
}

macro_rules! named {
    ($($message:ident),* $(,)?) => {
        $(impl Named for $message {
            const NAME: &'static str = concat!("mesos.modules.overlay.internal.", stringify!($message));

            fn session(&self) -> Option<&Session> {
                self.session.as_ref()
            }
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
    RegistrationChallengeMessage,
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
            session: Bytes::new(),
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
        check::<RegistrationChallengeMessage>();
        check::<RegistrationRefusedMessage>();
        check::<UpdatePeersMessage>();
        check::<PeersReceivedMessage>();
    }
}
