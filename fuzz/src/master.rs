//! The master: messages, requests, answers of the log and other inputs, in any order. The invariants
//! hold after each step (see `testkit::checked_master`), and the master serves at the end.

use std::time::Duration;

use overlay_core::proto::internal::{AgentNetworkConfig, PeersVersion, RegisterAgentMessage};
use overlay_core::protocol::http::{Request, RequestId};
use overlay_core::protocol::messages::NAMES;
use overlay_core::{Input, StoreOutcome, Upid};
use testkit::checked_master::{CheckedMaster, Fetched, agent};

use crate::steps;
use crate::steps::{Asked, Step};

pub(crate) fn run(data: &[u8]) {
    let mut master = CheckedMaster::new(1);
    for step in steps::read(data) {
        happens(&mut master, &step);
    }
    // In the end reads and writes finish, all requests are answered, and a leader serves, or
    // reports that the log contradicts itself.
    master.is_leading = true;
    master.input(Input::Leader(Some(pid(0))));
    for _ in 0..4 {
        master.fetched(Fetched::Log);
        master.stored(StoreOutcome::Stored, true);
        master.wait(Duration::from_secs(30));
    }
    master.request("GET", "/overlay-master/state".to_owned(), None, Vec::new());
    master.stored(StoreOutcome::Stored, true);
    assert!(
        master.unanswered.is_empty(),
        "never answered: {:?}",
        master.unanswered
    );
    assert!(
        [200, 500, 503].contains(&master.status),
        "{}",
        master.status
    );
}

/// Mesos masters; the first one is in the process of the machine.
fn pid(number: u8) -> Upid {
    Upid::new(
        "master",
        format!("10.0.0.25{}:5050", number % 5)
            .parse()
            .expect("an address"),
    )
}

fn happens(master: &mut CheckedMaster, step: &Step<'_>) {
    let Step {
        kind,
        argument,
        bytes,
    } = *step;
    match kind % 9 {
        // A message: the first byte of the payload selects its type.
        0 => {
            let [which, body @ ..] = bytes else { return };
            let name = NAMES
                .get(usize::from(*which))
                .map_or("unheard.of", |name| *name)
                .to_owned();
            let body = body.to_vec().into();
            master.input(Input::Message {
                from: agent(argument, 5051),
                name,
                body,
            });
        }
        1 => request(master, steps::asked(step)),
        2 => {
            let leader = argument.checked_sub(1).map(pid);
            master.is_leading = argument % 5 == 1;
            master.input(Input::Leader(leader));
        }
        3 => master.fetched(match argument {
            0..128 => Fetched::Log,
            128..192 => Fetched::Error,
            _ => Fetched::Garbage(bytes.to_vec()),
        }),
        4 => match argument % 4 {
            0 | 1 => master.stored(StoreOutcome::Stored, true),
            2 => master.stored(StoreOutcome::Superseded, false),
            _ => master.stored(
                StoreOutcome::Failed("disk full".to_owned()),
                argument & 4 == 0,
            ),
        },
        5 => master.input(Input::Exited(agent(argument, 5051))),
        6 => master.wait(Duration::from_millis(u64::from(argument) * 100)),
        // A valid registration.
        _ => {
            let flag = |bit: u8| Some(bytes.first().is_none_or(|flags| flags & (1 << bit) == 0));
            let network_config = AgentNetworkConfig {
                allocate_subnet: flag(0),
                mesos_bridge: flag(1),
                docker_bridge: flag(2),
                enable_ipv6: flag(3),
                ..AgentNetworkConfig::default()
            };
            let peers = Some(PeersVersion::default()).filter(|_| flag(4) == Some(true));
            master.message(
                agent(argument, 5051),
                &RegisterAgentMessage {
                    network_config,
                    peers,
                    unpacks_peers: flag(5),
                    ..Default::default()
                },
            );
        }
    }
}

fn request(master: &mut CheckedMaster, asked: Asked) {
    let Asked {
        method,
        path,
        query,
        accept,
        body,
    } = asked;
    let (method, query) = (method.to_owned(), query.into_iter().collect());
    master.send_request(Request {
        id: RequestId(0),
        method,
        path,
        query,
        accept,
        body: body.into(),
    });
}
