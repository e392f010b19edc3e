//! Unsolicited lists of overlays, with retransmission until agents confirm them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::confirmed::SenderProof;
use super::counters::Outbox;
use super::leadership::add_echo;
use super::sessions::Sessions;
use crate::Time;
use crate::proto::internal::UpdateAgentOverlaysMessage;
use crate::protocol::session::secrets::TokenIssuer;

/// Delay before the first retransmission if the agent has not reported.
const RESEND_FIRST: Duration = Duration::from_secs(2);
/// Longest delay between two retransmissions. The delay doubles up to this limit; after that
/// the agent's own refresh is relied on.
const RESEND_LIMIT: Duration = Duration::from_secs(32);

/// Lists that were sent and not confirmed by a report yet.
#[derive(Debug, Default)]
pub struct UnconfirmedPushes {
    lists: BTreeMap<Ipv4Addr, UpdateAgentOverlaysMessage>,
    resend: Option<Resend>,
}

#[derive(Clone, Copy, Debug)]
struct Resend {
    at: Time,
    /// The delay before `at`. The next one is twice as long.
    delay: Duration,
}

impl UnconfirmedPushes {
    /// Returns when the lists are sent again.
    pub fn due(&self) -> Option<Time> {
        self.resend.map(|resend| resend.at)
    }

    /// Drops the list of an agent that has reported, gets another list, or is gone.
    pub fn remove(&mut self, ip: Ipv4Addr) {
        self.lists.remove(&ip);
        if self.lists.is_empty() {
            self.resend = None;
        }
    }

    /// Sends lists, and schedules their retransmission until agents confirm them.
    pub fn send(
        &mut self,
        out: &mut Outbox,
        sessions: &mut Sessions,
        tokens: &TokenIssuer,
        lists: BTreeMap<Ipv4Addr, UpdateAgentOverlaysMessage>,
    ) {
        for (ip, list) in lists {
            if send(out, sessions, tokens, ip, &list) {
                self.lists.insert(ip, list);
                self.resend = Some(Resend {
                    at: out.now() + RESEND_FIRST,
                    delay: RESEND_FIRST,
                });
            }
        }
    }

    /// Retransmits the lists that are due.
    pub fn tick(&mut self, out: &mut Outbox, sessions: &mut Sessions, tokens: &TokenIssuer) {
        let Some(Resend { delay, .. }) = self.resend.filter(|resend| resend.at <= out.now()) else {
            return;
        };
        self.lists
            .retain(|ip, list| delay <= RESEND_LIMIT && send(out, sessions, tokens, *ip, list));
        let delay = delay * 2;
        self.resend = (!self.lists.is_empty()).then(|| Resend {
            at: out.now() + delay,
            delay,
        });
    }
}

/// Sends a list to an agent. Returns `false` if the agent cannot be reached.
fn send(
    out: &mut Outbox,
    sessions: &mut Sessions,
    tokens: &TokenIssuer,
    ip: Ipv4Addr,
    list: &UpdateAgentOverlaysMessage,
) -> bool {
    let Some(session) = sessions
        .get(ip)
        .filter(|session| session.is_connected && session.has_allocation_this_term)
    else {
        return false;
    };
    // Every list has the notices until the agent confirms them.
    let notices = session.notices.clone();
    let mut message = UpdateAgentOverlaysMessage {
        notices,
        ..list.clone()
    };
    if session.proof == SenderProof::None {
        add_echo(&mut message, tokens, &session.pid);
    }
    out.send(&session.pid, &message);
    sessions.record_list_sent(ip, list.revision());
    true
}
