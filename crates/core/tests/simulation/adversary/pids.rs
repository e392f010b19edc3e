//! Forged senders.

use fastrand::Rng;
use overlay_core::{AGENT_ID, MASTER_ID, Upid};

use super::Public;
use crate::cluster::Process;

/// Addresses from which no agent can come.
const IMPOSSIBLE: &[&str] = &[
    "0.0.0.0:5051",
    "0.1.2.3:5051",
    "127.0.0.1:5051",
    "127.0.0.1:0",
    "169.254.169.254:5051",
    "224.0.0.1:5051",
    "240.0.0.1:5051",
    "255.255.255.255:5051",
    "44.128.0.1:5051",
    "44.128.0.200:5051",
    "9.0.0.5:5051",
    "9.128.1.5:5051",
    "[::1]:5051",
    "[fd01:a::1]:5051",
    "[fd01::77]:5051",
    "[::ffff:10.0.2.1]:5051",
];

/// Ids of processes that are no agents or masters of overlays.
const IDS: &[&str] = &[
    "slave(1)",
    "master",
    "overlay-agent(1)",
    "Overlay-Agent",
    "overlay-agent ",
    "v1.40/containers/create?name=x&a=@10.77.0.66:2375",
    "a\r\nX-Header: b",
    "\u{202e}overlay-agent",
    "",
];

/// Returns a random sender of a message to `receiver`.
pub fn sender(random: &mut Rng, public: &Public<'_>, receiver: &Process) -> Upid {
    let any = |random: &mut Rng, is_master: bool| {
        let of_role = public
            .processes
            .iter()
            .filter(|it| it.is_master() == is_master);
        let of_role: Vec<_> = of_role.collect();
        of_role[random.usize(0..of_role.len())].upid.clone()
    };
    let expected = match receiver.is_master() {
        true => any(random, false),
        // Mostly the leader as the agent knows it.
        false => match receiver.leader.clone().filter(|_| random.u8(0..4) > 0) {
            Some(leader) => leader,
            None => any(random, true),
        },
    };
    match random.u8(0..20) {
        0 => any(random, receiver.is_master()),
        1 => receiver.upid.clone(),
        2 => with_other_port(random, expected),
        3 => Upid::new(IDS[random.usize(0..IDS.len())], expected.address),
        4 => {
            let id = if random.bool() { AGENT_ID } else { MASTER_ID };
            Upid::new(id, expected.address)
        }
        5 => Upid::new(AGENT_ID, random_of(random, IMPOSSIBLE)),
        6..9 if receiver.is_master() => made_up(random),
        _ => expected,
    }
}

fn random_of(random: &mut Rng, texts: &[&str]) -> std::net::SocketAddr {
    texts[random.usize(0..texts.len())].parse().unwrap()
}

fn with_other_port(random: &mut Rng, mut pid: Upid) -> Upid {
    pid.address.set_port(random.u16(..));
    pid
}

/// Returns an agent that does not exist.
fn made_up(random: &mut Rng) -> Upid {
    let port = 5051 + u16::from(random.bool());
    let address = match random.u8(0..4) {
        // Some register again and again.
        0 => format!("10.0.3.{}:{port}", random.u8(1..20)),
        1 => format!("10.0.2.{}:{port}", random.u8(100..250)),
        _ => format!(
            "10.{}.{}.{}:{port}",
            random.u8(1..),
            random.u8(..),
            random.u8(..)
        ),
    };
    Upid::new(AGENT_ID, address.parse().unwrap())
}
