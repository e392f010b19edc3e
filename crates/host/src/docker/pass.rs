//! One pass over the engine: ask what it has, plan, carry out, report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use overlay_core::EngineReport;
use overlay_core::host_api::engine::{EngineDesired, Network};
use overlay_core::host_api::usage::InUse;

use super::client::{Client, Failure};
use super::observed::{Engine, Existing};
use super::plan::{Op, plan};

/// What became of a pass.
pub(super) struct Outcome {
    pub report: EngineReport,
    /// The engine is there, and could not be talked to.
    pub silent: bool,
    /// Networks that were made.
    pub made: Vec<String>,
}

impl Outcome {
    /// Nothing could be done, whatever the engine is like.
    pub fn hopeless(desired: &EngineDesired, sentence: String) -> Outcome {
        let report = EngineReport::failed(desired, sentence);
        Outcome {
            report,
            silent: false,
            made: Vec::new(),
        }
    }
}

/// Makes the engine's networks as `desired`, as far as that can be done now.
pub(super) async fn run(desired: &EngineDesired) -> Outcome {
    match observe(desired).await {
        Ok((client, engine)) => carry_out(&client, desired, &engine).await,
        Err(failure) => Outcome {
            silent: !matches!(failure, Failure::Absent(_)),
            report: hopeless(desired, &failure),
            made: Vec::new(),
        },
    }
}

/// Asks an engine that did not answer, until it does. A question that is pending when
/// a hung engine goes on is answered at once.
pub(super) async fn until_it_answers(desired: Arc<EngineDesired>) {
    let timeout = desired.timeout.min(PATIENCE);
    let desired = EngineDesired {
        timeout,
        ..EngineDesired::clone(&desired)
    };
    while observe(&desired).await.is_err() {
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// How long one question is pending at most. It may be the question that hangs, and not
/// the engine any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long after a question that came to nothing the next one is asked.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What became of [`remove_all`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// What was done, or would be, one line each.
    pub done: Vec<String>,
    /// What could not be removed, and why, one sentence each.
    pub kept: Vec<String>,
}

/// Removes every network of ours from the engine at `socket`, except those in use;
/// with `dry_run` says only what that would be. No engine is nothing to do. Blocks for
/// at most `timeout` with each call to the engine; not to be called on a thread that
/// drives an event loop.
///
/// # Errors
/// The engine cannot be talked to; why, in one sentence.
pub fn remove_all(socket: &Path, timeout: Duration, dry_run: bool) -> Result<Removal, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("cannot start an event loop: {error}"))?;
    let none = EngineDesired {
        socket: socket.into(),
        timeout,
        ..EngineDesired::default()
    };
    runtime.block_on(async {
        let (client, engine) = match observe(&none).await {
            Ok(found) => found,
            Err(Failure::Absent(_)) => return Ok(Removal::default()),
            Err(failure) => return Err(failure.sentence().to_owned()),
        };
        let plan = plan(&none, &engine);
        let mut removal = Removal {
            done: Vec::new(),
            kept: plan.notes,
        };
        for op in plan.ops {
            let result = match &op {
                Op::Remove { id, .. } if !dry_run => client.remove(id).await,
                _ => Ok(()),
            };
            match result {
                Ok(()) => removal.done.push(op.to_string()),
                Err(failure) => removal
                    .kept
                    .push(format!("cannot {op}: {}", failure.sentence())),
            }
        }
        Ok(removal)
    })
}

async fn observe(desired: &EngineDesired) -> Result<(Client, Engine), Failure> {
    let client = Client::new(&desired.socket, desired.timeout)?;
    let engine = client.observe(desired).await?;
    Ok((client, engine))
}

/// Nothing could be done. An engine that is not there has none of our networks, so
/// where none are wanted all is well.
fn hopeless(desired: &EngineDesired, failure: &Failure) -> EngineReport {
    if desired.networks.is_empty() && matches!(failure, Failure::Absent(_)) {
        return EngineReport::default();
    }
    EngineReport::failed(desired, failure.sentence().to_owned())
}

async fn carry_out(client: &Client, desired: &EngineDesired, engine: &Engine) -> Outcome {
    let plan = plan(desired, engine);
    let mut report = EngineReport {
        overlays: plan.conflicts,
        notes: plan.notes,
        used: unwanted(desired, engine),
        usage: usage(desired, engine),
        operations: plan.ops.len(),
        ..EngineReport::default()
    };
    let mut made = Vec::new();
    for (done, op) in plan.ops.iter().enumerate() {
        let result = match op {
            Op::Remove { id, .. } => client.remove(id).await,
            Op::Create { name, network } => client.create(engine.api, name, network).await,
        };
        let Err(failure) = result else {
            log::info!("{op}");
            report.used.remove(op.name());
            made.extend(matches!(op, Op::Create { .. }).then(|| op.name().to_owned()));
            continue;
        };
        report_failure(&mut report, desired, op, &failure);
        if !matches!(failure, Failure::Refused(_)) {
            // The next call would wait just as long for nothing.
            for op in &plan.ops[done + 1..] {
                report_failure(&mut report, desired, op, &failure);
            }
            break;
        }
    }
    Outcome {
        report,
        silent: false,
        made,
    }
}

/// The networks of ours that are not wanted any more.
fn unwanted(desired: &EngineDesired, engine: &Engine) -> BTreeSet<String> {
    let ours = engine.networks.iter().filter(|existing| existing.is_ours());
    let unwanted = ours.filter(|existing| !desired.networks.contains_key(&existing.name));
    unwanted.map(|existing| existing.name.clone()).collect()
}

/// An operation did not work out. What was to be removed for something else to take
/// its place is told there.
fn report_failure(report: &mut EngineReport, desired: &EngineDesired, op: &Op, failure: &Failure) {
    let sentence = format!("cannot {op}: {}", failure.sentence());
    if desired.networks.contains_key(op.name()) {
        report
            .overlays
            .entry(op.name().to_owned())
            .or_insert(sentence);
    } else {
        report.notes.push(sentence);
    }
}

/// How many addresses of the wanted networks are taken.
fn usage(desired: &EngineDesired, engine: &Engine) -> BTreeMap<String, InUse> {
    let usage = desired.networks.iter().map(|(name, network)| {
        let existing = engine
            .networks
            .iter()
            .find(|existing| existing.name == *name);
        (name.clone(), usage_of(network, existing))
    });
    usage.collect()
}

/// Those of one network.
fn usage_of(network: &Network, existing: Option<&Existing>) -> InUse {
    let endpoints = existing.map_or(&[][..], |existing| &existing.endpoints);
    let addresses = endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.addresses)
        .map(|address| address.addr());
    let ours = addresses.filter(|address| {
        network
            .subnets
            .iter()
            .any(|subnet| subnet.contains(address))
    });
    let (v4, v6): (Vec<_>, Vec<_>) = ours.partition(|address| address.is_ipv4());
    InUse {
        v4: v4.len() as u64,
        v6: v6.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::observed::{Endpoint, LABEL};

    fn network(bridge: &str) -> Network {
        let subnets = ["9.0.1.128/25", "fd01:b::8000:0:0/81"].map(|subnet| subnet.parse().unwrap());
        Network {
            bridge: bridge.into(),
            subnets: subnets.into(),
            mtu: 1420,
            trusted: Vec::new(),
        }
    }

    fn desired() -> EngineDesired {
        EngineDesired {
            networks: [("dcos".to_owned(), network("d-dcos"))].into(),
            ..EngineDesired::default()
        }
    }

    #[test]
    fn addresses_in_use_are_counted_by_family_and_only_of_our_subnets() {
        let endpoint = |addresses: &[&str]| Endpoint {
            container: "c".into(),
            addresses: addresses
                .iter()
                .map(|address| address.parse().unwrap())
                .collect(),
        };
        let existing = Existing {
            endpoints: vec![
                endpoint(&["9.0.1.130/25", "fd01:b::8000:0:2/81"]),
                endpoint(&["9.0.1.131/25"]),
                endpoint(&["172.18.0.2/16", "fd77::2/64"]),
            ],
            ..Existing::default()
        };
        assert_eq!(
            usage_of(&network("d-dcos"), Some(&existing)),
            InUse { v4: 2, v6: 1 }
        );
        assert_eq!(usage_of(&network("d-dcos"), None), InUse::default());
    }

    /// An engine that is not there has nothing of ours, one that is silent may have.
    #[test]
    fn an_absent_engine_is_fine_where_nothing_is_wanted() {
        let (absent, silent) = (
            Failure::Absent("absent".into()),
            Failure::Silent("silent".into()),
        );
        let nothing = EngineDesired::default();
        assert_eq!(hopeless(&nothing, &absent), EngineReport::default());
        assert_eq!(
            hopeless(&nothing, &silent).engine.as_deref(),
            Some("silent")
        );
        assert_eq!(
            hopeless(&desired(), &absent).engine.as_deref(),
            Some("absent")
        );
    }

    #[test]
    fn a_failure_is_told_where_it_matters_once() {
        let mut report = EngineReport::default();
        let refused = |text: &str| Failure::Refused(text.into());
        let remove = |name: &str| Op::Remove {
            id: "7f".into(),
            name: name.into(),
        };
        report_failure(&mut report, &desired(), &remove("dcos"), &refused("first"));
        let create = Op::Create {
            name: "dcos".into(),
            network: network("d-dcos"),
        };
        report_failure(&mut report, &desired(), &create, &refused("second"));
        report_failure(&mut report, &desired(), &remove("gone"), &refused("third"));
        assert_eq!(
            report.overlays["dcos"],
            "cannot remove Docker network dcos: first"
        );
        assert_eq!(report.notes, ["cannot remove Docker network gone: third"]);
    }

    #[test]
    fn networks_of_ours_that_nobody_wants_are_told() {
        let existing = |name: &str, labelled| Existing {
            name: name.into(),
            labelled,
            ..Existing::default()
        };
        let networks = vec![
            existing("dcos", true),
            existing("gone", true),
            existing("lan", false),
        ];
        let engine = Engine {
            networks,
            ..Engine::default()
        };
        assert_eq!(unwanted(&desired(), &engine), ["gone".to_owned()].into());
        assert!(LABEL.ends_with("mesos-overlay.overlay"));
    }

    #[test]
    fn mtus_are_lowered_where_the_operator_left_them_open() {
        for (fit_mtu, fits, expected) in [
            (true, Some(1419), 1419),
            (true, Some(1421), 1420),
            (true, None, 1420),
            (false, Some(1350), 1420),
        ] {
            let desired = EngineDesired {
                fit_mtu,
                ..desired()
            };
            assert_eq!(
                desired.fitted(fits).networks["dcos"].mtu,
                expected,
                "{fit_mtu} {fits:?}"
            );
        }
    }

    /// One who listens and never answers is silent, one who does not listen is absent.
    #[test]
    fn silence_is_not_absence() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let timeout = Duration::from_millis(50);
        let desired = EngineDesired {
            socket: socket.clone(),
            timeout,
            ..desired()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let silent = || runtime.block_on(run(&desired)).silent;
        assert!(!silent());
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(silent());
    }
}
