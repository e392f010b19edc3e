//! Reconciliation of the engine's networks with their desired state: observe, plan, apply,
//! report.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use overlay_core::EngineReport;
use overlay_core::host_api::engine::{EngineDesired, Network};
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::host_api::usage::InUse;

use super::client::{Client, Failure};
use super::observed::{ExistingNetwork, Observed};
use super::plan::{Op, plan};

/// Result of a reconciliation.
#[derive(Debug)]
pub(super) struct Outcome {
    pub report: EngineReport,
    /// Set if the engine exists, but could not be talked to.
    pub silent: bool,
    /// Names of the networks that were created.
    pub created: Vec<String>,
}

impl Outcome {
    /// Returns the outcome of a reconciliation that could not observe the engine.
    fn unobserved(desired: &EngineDesired, failure: &Failure) -> Outcome {
        Outcome {
            report: unobserved_report(desired, failure),
            silent: !matches!(failure, Failure::Absent(_)),
            created: Vec::new(),
        }
    }

    /// Returns the outcome of a reconciliation that failed for a reason other than the engine.
    pub fn failed(report: EngineReport) -> Outcome {
        Outcome {
            report,
            silent: false,
            created: Vec::new(),
        }
    }
}

/// Makes the engine's networks match `desired` as far as possible.
pub(super) async fn reconcile(desired: &EngineDesired) -> Outcome {
    match observe(desired).await {
        Ok((client, observed)) => apply(&client, desired, &observed).await,
        Err(failure) => Outcome::unobserved(desired, &failure),
    }
}

/// Upper bound of the timeout of a probe. A probe may hang although the engine answers again.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between two probes.
const PROBE_PAUSE: Duration = Duration::from_secs(2);

/// Probes an engine that did not answer until it does. A probe that waits for a hanging
/// engine is answered as soon as the engine continues.
pub(super) async fn probe_until_alive(desired: Arc<EngineDesired>) {
    let timeout = desired.timeout.min(PROBE_TIMEOUT);
    let desired = EngineDesired {
        timeout,
        ..EngineDesired::clone(&desired)
    };
    while observe(&desired).await.is_err() {
        tokio::time::sleep(PROBE_PAUSE).await;
    }
}

/// Observes the engine. Stopped containers are asked for only if a network is to be removed: there
/// may be thousands of them.
pub(super) async fn observe(desired: &EngineDesired) -> Result<(Client, Observed), Failure> {
    let client = Client::new(&desired.socket, desired.timeout)?;
    let mut observed = client.observe(desired).await?;
    let ops = plan(desired, &observed).ops;
    if ops.iter().any(|op| matches!(op, Op::Remove { .. })) {
        client.stopped(&mut observed.networks).await?;
    }
    Ok((client, observed))
}

/// Returns the report about an engine that could not be observed. An engine that does not
/// exist has no networks, which is as desired if none are desired.
fn unobserved_report(desired: &EngineDesired, failure: &Failure) -> EngineReport {
    if desired.networks.is_empty() && matches!(failure, Failure::Absent(_)) {
        return EngineReport::default();
    }
    EngineReport::failed(desired, failure.sentence().to_owned())
}

/// Plans and applies the operations in order. After the first one that the engine does not
/// answer the others are given up.
async fn apply(client: &Client, desired: &EngineDesired, observed: &Observed) -> Outcome {
    let plan = plan(desired, observed);
    let mut report = EngineReport {
        overlays: plan.conflicts,
        notes: plan.notes,
        draining_networks: not_desired(desired, observed),
        usage: usage(desired, observed),
        ..EngineReport::default()
    };
    let mut created = Vec::new();
    for (index, op) in plan.ops.iter().enumerate() {
        let result = match op {
            Op::Remove { id, .. } => client.remove(id).await,
            Op::Create { name, network } => client.create(observed.api, name, network).await,
        };
        let Err(failure) = result else {
            log::info!("{op}");
            report.operations += 1;
            report.draining_networks.remove(op.name());
            created.extend(matches!(op, Op::Create { .. }).then(|| op.name().to_owned()));
            continue;
        };
        add_failure(&mut report, desired, op, &failure);
        if !matches!(failure, Failure::Refused(_)) {
            // Each further call would wait for its timeout as well.
            for op in &plan.ops[index + 1..] {
                add_failure(&mut report, desired, op, &failure);
            }
            break;
        }
    }
    Outcome {
        report,
        silent: false,
        created,
    }
}

/// Returns the names of our networks that exist and are not desired.
fn not_desired(desired: &EngineDesired, observed: &Observed) -> BTreeSet<String> {
    let own = observed.networks.iter().filter(|network| network.is_own());
    own.map(|network| network.name.clone())
        .filter(|name| !desired.networks.contains_key(name))
        .collect()
}

/// Adds a failed operation to a report. A failed removal of a network that is to be replaced
/// is a failure of the desired network.
fn add_failure(report: &mut EngineReport, desired: &EngineDesired, op: &Op, failure: &Failure) {
    let sentence = format!("cannot {op}: {}", failure.sentence());
    if desired.networks.contains_key(op.name()) {
        report
            .overlays
            .entry(op.name().to_owned())
            .or_insert(sentence);
    } else {
        let problem = Problem::new(ProblemKind::Operation, op.to_string(), sentence);
        report.notes.push(problem);
    }
}

/// Returns the number of addresses in use of each desired network.
pub(super) fn usage(desired: &EngineDesired, observed: &Observed) -> BTreeMap<String, InUse> {
    let usage = desired.networks.iter().map(|(name, network)| {
        let mut networks = observed.networks.iter();
        let existing = networks.find(|existing| existing.name == *name);
        (name.clone(), usage_of(network, existing))
    });
    usage.collect()
}

/// Returns the number of addresses in use of one network.
fn usage_of(network: &Network, existing: Option<&ExistingNetwork>) -> InUse {
    let endpoints = existing.map_or(&[][..], |existing| &existing.endpoints);
    let addresses = endpoints
        .iter()
        .flat_map(|endpoint| &endpoint.addresses)
        .map(|address| address.addr());
    let counted = addresses.filter(|address| {
        network
            .subnets
            .iter()
            .any(|subnet| subnet.contains(address))
    });
    let (v4, v6): (Vec<_>, Vec<_>) = counted.partition(|address| address.is_ipv4());
    InUse {
        v4: v4.len() as u64,
        v6: v6.len() as u64,
        leaked: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::observed::{ApiVersion, Endpoint, LABEL};

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
    fn counts_addresses_of_the_networks_subnets_by_family() {
        let endpoint = |addresses: &[&str]| Endpoint {
            container: "c".into(),
            addresses: addresses
                .iter()
                .map(|address| address.parse().unwrap())
                .collect(),
        };
        let existing = ExistingNetwork {
            endpoints: vec![
                endpoint(&["9.0.1.130/25", "fd01:b::8000:0:2/81"]),
                endpoint(&["9.0.1.131/25"]),
                endpoint(&["172.18.0.2/16", "fd77::2/64"]),
            ],
            ..ExistingNetwork::default()
        };
        assert_eq!(
            usage_of(&network("d-dcos"), Some(&existing)),
            InUse {
                v4: 2,
                v6: 1,
                leaked: 0
            }
        );
        assert_eq!(usage_of(&network("d-dcos"), None), InUse::default());
    }

    /// An absent engine has no own networks, a silent one may have some.
    #[test]
    fn absent_engine_is_fine_if_no_network_is_desired() {
        let (absent, silent) = (
            Failure::Absent("absent".into()),
            Failure::Silent("silent".into()),
        );
        let nothing = EngineDesired::default();
        assert_eq!(
            unobserved_report(&nothing, &absent),
            EngineReport::default()
        );
        assert_eq!(
            unobserved_report(&nothing, &silent).engine.as_deref(),
            Some("silent")
        );
        assert_eq!(
            unobserved_report(&desired(), &absent).engine.as_deref(),
            Some("absent")
        );
    }

    #[test]
    fn first_failure_of_a_network_is_reported() {
        let mut report = EngineReport::default();
        let refused = |text: &str| Failure::Refused(text.into());
        let remove = |name: &str| Op::Remove {
            id: "7f".into(),
            name: name.into(),
        };
        add_failure(&mut report, &desired(), &remove("dcos"), &refused("first"));
        let create = Op::Create {
            name: "dcos".into(),
            network: network("d-dcos"),
        };
        add_failure(&mut report, &desired(), &create, &refused("second"));
        add_failure(&mut report, &desired(), &remove("gone"), &refused("third"));
        assert_eq!(
            report.overlays["dcos"],
            "cannot remove Docker network dcos: first"
        );
        assert_eq!(
            report.notes,
            [Problem::new(
                ProblemKind::Operation,
                "remove Docker network gone",
                "cannot remove Docker network gone: third"
            )]
        );
    }

    #[test]
    fn own_networks_that_are_not_desired_are_reported() {
        let existing = |name: &str, labelled| ExistingNetwork {
            name: name.into(),
            labelled,
            ..ExistingNetwork::default()
        };
        let networks = vec![
            existing("dcos", true),
            existing("gone", true),
            existing("lan", false),
        ];
        let observed = Observed {
            networks,
            ..Observed::default()
        };
        assert_eq!(
            not_desired(&desired(), &observed),
            ["gone".to_owned()].into()
        );
        assert!(LABEL.ends_with("mesos-overlay.overlay"));
    }

    #[test]
    fn mtus_are_lowered_unless_the_operator_set_them() {
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
                desired.with_mtu_at_most(fits).networks["dcos"].mtu,
                expected,
                "{fit_mtu} {fits:?}"
            );
        }
    }

    /// An engine that listens and does not answer is silent, one that does not listen is absent.
    #[test]
    fn silent_is_not_absent() {
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
        let silent = || runtime.block_on(reconcile(&desired)).silent;
        assert!(!silent());
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(silent());
    }

    /// Returns an own network that is not desired.
    fn leftover(name: &str) -> ExistingNetwork {
        ExistingNetwork {
            id: name.into(),
            name: name.into(),
            labelled: true,
            ..ExistingNetwork::default()
        }
    }

    /// Applies the removal of the leftovers `a` and `b`. `response` is the engine's response
    /// to each removal. Returns the report and the number of requests.
    fn remove_leftovers(response: Option<(u16, String)>) -> (EngineReport, usize) {
        let timeout = match response {
            Some(_) => Duration::from_secs(10),
            None => Duration::from_millis(100),
        };
        let engine = testkit::engine::FakeEngine::new(move |_| response.clone());
        let desired = EngineDesired::default();
        let observed = Observed {
            api: ApiVersion::V28,
            networks: vec![leftover("a"), leftover("b")],
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let outcome = runtime.block_on(async {
            let client = Client::new(&engine.socket, timeout).unwrap();
            apply(&client, &desired, &observed).await
        });
        let requests = engine.requests.lock().unwrap().len();
        (outcome.report, requests)
    }

    #[test]
    fn removed_network_is_not_reported_as_used() {
        let (report, requests) = remove_leftovers(Some((204, String::new())));
        assert_eq!(
            (report.draining_networks, report.notes.len()),
            (BTreeSet::new(), 0)
        );
        assert_eq!((report.operations, requests), (2, 2));
        let refusal = Some((403, r#"{"message": "in use"}"#.to_owned()));
        let (report, requests) = remove_leftovers(refusal);
        assert_eq!(
            report.draining_networks,
            ["a".to_owned(), "b".to_owned()].into()
        );
        assert_eq!((report.notes.len(), requests), (2, 2), "each is tried");
        assert_eq!(report.operations, 0, "nothing was done");
    }

    #[test]
    fn silent_engine_is_not_asked_again() {
        let (report, requests) = remove_leftovers(None);
        assert_eq!(report.notes.len(), 2, "{:?}", report.notes);
        assert_eq!(report.operations, 0, "nothing was done");
        assert!(requests < 2, "{requests} requests");
    }
}
