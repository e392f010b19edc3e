//! Reconciliation of the host with its desired state: observe, plan, apply, report.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_core::HostReport;
use overlay_core::host_api::desired::{Bridge, Desired};
use overlay_core::host_api::problem::Problem;
use overlay_core::host_api::usage::Containerizer;
use overlay_core::util::family::Family;
use tokio::runtime::Runtime;

use crate::executor::{Executor, Reconciler, UnderlayMtu};
use crate::firewall::{self, Firewall, Forwarding};
use crate::kernel::netlink::Netlink;
use crate::kernel::watch::{WaitFor, Watch};
use crate::kernel::{request, sysctl};
use crate::operation::Operation;
use crate::progress;
use crate::reconcile::observed::{Observed, Underlay};
use crate::reconcile::{
    ChecksumOffload, Draining, ExpectedState, Op, Reaction, WantedObjects, feasible, max_inner_mtu,
    plan,
};

use crate::supervisor::Limits;

use attempt::Attempt;
use rejected_peers::RejectedPeers;

mod attempt;
mod clues;
mod rejected_peers;
mod verdict;

/// Attempts in one reconciliation. The second one is for a host that somebody else changed
/// during the first.
const ATTEMPTS: usize = 2;

/// Makes the host match `desired` once, in the network namespace of the calling thread.
/// Returns when that is done. See [`Executor`] for a thread that keeps the host so.
pub fn reconcile_once(desired: &Desired) -> HostReport {
    KernelReconciler::with_events(Watch::silent()).reconcile(desired)
}

/// Makes the host match `desired` once, and also returns the operations that failed. See
/// [`reconcile_once`].
pub(crate) fn reconcile_with_failures(desired: &Desired) -> (HostReport, Vec<Operation>) {
    let mut reconciler = KernelReconciler::with_events(Watch::silent());
    let report = reconciler.reconcile(desired);
    let mut failed: Vec<Operation> = reconciler.failed.iter().map(Operation::from).collect();
    failed.extend(reconciler.firewall.failed());
    (report, failed)
}

/// Changes that [`reconcile_once`] would make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Operations, in the order of their application.
    pub operations: Vec<Operation>,
    /// Overlays whose removal waits for their containers, one sentence each.
    pub draining: Vec<String>,
    /// Parts of the host that cannot be read or cannot be made as desired, one sentence
    /// each.
    pub problems: Vec<String>,
    /// Errors of the desired overlays, by name, one sentence each.
    pub overlays: BTreeMap<String, String>,
    /// Numbers of objects that the host should have.
    pub wanted: WantedObjects,
    /// Largest MTU of a packet in the tunnel, in bytes; `None`: the underlay is not known.
    pub max_mtu: Option<u32>,
}

/// Returns what [`reconcile_once`] would do, in the network namespace of the calling
/// thread.
pub fn preview(desired: &Desired) -> Preview {
    let mut attempt = Attempt::new(desired);
    let plan = match event_loop() {
        Ok(runtime) => runtime.block_on(attempt.plan()),
        Err(error) => {
            return Preview {
                problems: vec![format!("cannot start an event loop: {error}")],
                ..Preview::default()
            };
        }
    };
    let firewall = Firewall::default().preview(
        &with_draining(desired, &plan.draining),
        &forwarding(&plan.ops),
        attempt.failures(),
    );
    let max_mtu = attempt.take_underlay().as_ref().map(max_inner_mtu);
    let report = attempt.into_report();
    Preview {
        operations: firewall
            .into_iter()
            .chain(plan.ops.iter().map(Operation::from))
            .collect(),
        draining: plan.draining.iter().map(Draining::to_string).collect(),
        problems: Problem::texts(&report.host),
        overlays: report.overlays,
        wanted: plan.wanted,
        max_mtu,
    }
}

impl Executor {
    /// Starts the thread. It calls `wake` whenever there is a report to
    /// [`poll`](Executor::poll); `wake` must not wait for the thread that drops the executor.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn spawn(wake: impl Fn() + Send + 'static) -> io::Result<Executor> {
        let reconciler = || KernelReconciler::with_events(Watch::new());
        Executor::spawn_with(Limits::default(), reconciler, wake)
    }
}

/// Reconciler of a host's kernel configuration, firewall and CNI files.
///
/// Its memory serves the log and the time until the next reconciliation; no reconciliation
/// relies on it.
struct KernelReconciler {
    events: Watch,
    expected: ExpectedState,
    /// Warnings that were logged already.
    warned: Vec<String>,
    firewall: Firewall,
    /// Operations that failed in the last reconciliation. A quick check does not report them
    /// again.
    failed: Vec<Op>,
    /// Peers that the kernel rejected in the last reconciliation; `None`: the host differs
    /// from the desired state otherwise, too.
    rejected: Option<RejectedPeers>,
    /// Overlays whose CNI configuration had an obstacle in the last reconciliation.
    cni_obstacles: BTreeSet<String>,
    /// Other files that defined networks of overlays' names in the last reconciliation.
    rivals: BTreeSet<String>,
    /// Underlay of the last reconciliation.
    underlay: Option<Underlay>,
    /// True if the overlays could not have IPv6 in the last reconciliation.
    is_without_ipv6: bool,
    /// Removed overlays of the last reconciliation that still have containers.
    draining: Vec<Draining>,
    /// Networks of the host's other devices in the last reconciliation.
    networks: BTreeSet<IpNet>,
}

/// Returns a new event loop. Each use has its own event loop and netlink socket, so that a
/// broken socket is not reused.
pub(crate) fn event_loop() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

impl KernelReconciler {
    fn with_events(events: Watch) -> KernelReconciler {
        KernelReconciler {
            events,
            expected: ExpectedState::default(),
            warned: Vec::new(),
            firewall: Firewall::default(),
            failed: Vec::new(),
            rejected: None,
            cni_obstacles: BTreeSet::new(),
            rivals: BTreeSet::new(),
            underlay: None,
            is_without_ipv6: false,
            draining: Vec::new(),
            networks: BTreeSet::new(),
        }
    }

    /// Attempts to reconcile, once more if somebody else interfered.
    async fn attempts(&mut self, desired: &Desired) -> HostReport {
        let mut operations = 0;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let start = Instant::now();
            let mut attempt = Attempt::new(desired);
            let mut plan = attempt.plan().await;
            self.warn(std::mem::take(&mut plan.warnings));
            // The firewall comes before the CNI files, which tell Mesos that the network
            // works.
            let feasible = feasible(desired, attempt.is_without_ipv6());
            let outcome = self.firewall.reconcile(
                &with_draining(&feasible, &plan.draining),
                &forwarding(&plan.ops),
                attempt.failures(),
            );
            operations += outcome.operations;
            for family in outcome.unfiltered {
                attempt.leave_out(
                    &mut plan,
                    &Op::EnableForwarding(family),
                    firewall::unfiltered(family),
                );
            }
            attempt.apply(&plan).await;
            operations += attempt.done();
            if !plan.ops.is_empty() {
                log::info!(
                    "configured the host: {} operations in {:.0?}, {} failed",
                    attempt.done(),
                    start.elapsed(),
                    attempt.failures().count()
                );
            }
            if !attempt.has_raced() || attempts == ATTEMPTS || progress::is_abandoned() {
                return self.finish(attempt, plan.draining, operations).await;
            }
        }
    }

    /// Keeps what is needed until the next reconciliation, and returns the report.
    async fn finish(
        &mut self,
        mut attempt: Attempt<'_>,
        draining: Vec<Draining>,
        operations: usize,
    ) -> HostReport {
        self.expected = attempt.expected(&draining).await;
        self.is_without_ipv6 = attempt.is_without_ipv6();
        self.failed = attempt.take_failed();
        self.underlay = attempt.take_underlay();
        self.cni_obstacles = attempt.take_cni_obstacles();
        self.rivals = attempt.take_rivals();
        self.draining = draining;
        // A peer that collides with the host is like one that the kernel rejects: the others
        // do not depend on it.
        let failures = attempt.failures().count() - attempt.peer_problems();
        let rejected = attempt.take_rejected();
        let removed = self.draining.iter().filter(|part| part.is_removed());
        self.networks = attempt.networks();
        let report = HostReport {
            operations,
            networks: self.networks.clone(),
            draining_bridges: self
                .draining
                .iter()
                .map(|part| (part.bridge.clone(), part.to_string()))
                .collect(),
            draining_overlays: removed.map(|part| part.overlay.clone()).collect(),
            ..attempt.into_report()
        };
        self.rejected = RejectedPeers::new(&rejected, failures, &report.host);
        self.failed.extend(rejected);
        report
    }

    /// Logs each warning once, until it is over.
    fn warn(&mut self, warnings: Vec<String>) {
        for warning in &warnings {
            if !self.warned.contains(warning) {
                log::warn!("{warning}");
            }
        }
        self.warned = warnings;
    }
}

impl Reconciler for KernelReconciler {
    fn reconcile(&mut self, desired: &Desired) -> HostReport {
        // The reconciliation sees the effect of every event that came before it.
        self.events.discard();
        self.rejected = None;
        self.expected = ExpectedState::default();
        let report = match event_loop() {
            Ok(runtime) => runtime.block_on(self.attempts(desired)),
            Err(error) => HostReport::failed(
                desired,
                format!("cannot configure the host: cannot start an event loop: {error}"),
            ),
        };
        progress::step("watch the directory of the CNI configurations");
        self.events.watch_directory(&desired.cni.dir);
        report
    }

    fn change_peers(&mut self, from: &Desired, to: &Desired) -> Option<HostReport> {
        let rejected = self.rejected.as_ref()?;
        if !self.leads_to_new_peers(from, to) {
            return None;
        }
        let (index, ops) = self.expected.change_peers(from, to)?;
        // Only a full reconciliation finds out what became of a rejected peer.
        if rejected.concerns(&ops) {
            return None;
        }
        let requests: Vec<_> = ops
            .iter()
            .filter_map(|op| request::request(op, index))
            .collect();
        let runtime = event_loop().ok()?;
        progress::step("change peers");
        let results =
            runtime.block_on(async { Some(Netlink::open().ok()?.execute(requests).await) })?;
        // The kernel must have been as expected: even an object to be removed that does not
        // exist is a surprise.
        let ok = results.iter().all(Result::is_ok);
        let host = rejected.problems().to_vec();
        ok.then(|| HostReport {
            operations: ops.len(),
            host,
            networks: self.networks.clone(),
            ..HostReport::default()
        })
    }

    fn quick_check(&mut self, desired: &Desired) -> bool {
        let mut attempt = Attempt::new(desired);
        let (cni, cni_obstacles) = attempt.observe_cni();
        if cni_obstacles != self.cni_obstacles || attempt.take_rivals() != self.rivals {
            return true;
        }
        let observed = Observed {
            forwarding: sysctl::forwarding(),
            cni,
            cni_obstacles,
            underlay: self.underlay.clone(),
            not_forwarding: sysctl::not_forwarding(desired),
            ipv6_obstacle: sysctl::ipv6_obstacle(),
            ..Observed::default()
        };
        // The kernel sends no event for a changed feature of a device.
        let wanted = ChecksumOffload::desired(desired.tx_checksum);
        let checksum = wanted.and_then(|wanted| {
            let name = desired.vtep.as_ref()?.name.as_str();
            let differs = attempt::tx_checksum(desired)? != wanted;
            differs.then(|| Op::SetTxChecksum(name.into(), wanted))
        });
        checksum
            .into_iter()
            .chain(plan(desired, &observed).ops)
            .any(|op| !self.failed.contains(&op))
            || self.firewall.quick_check(&with_draining(
                &feasible(desired, self.is_without_ipv6),
                &self.draining,
            ))
            || self.follow_clues(desired)
    }

    fn wait(
        &mut self,
        wakeup: BorrowedFd<'_>,
        timeout: Duration,
        wait_for: WaitFor,
    ) -> io::Result<Reaction> {
        self.events.wait(wakeup, timeout, &self.expected, wait_for)
    }

    fn is_without_events(&self) -> bool {
        self.events.is_without_events()
    }

    fn underlay_mtu(&self) -> UnderlayMtu {
        let mtu = self.underlay.as_ref().map(max_inner_mtu);
        mtu.map_or(UnderlayMtu::Unknown, UnderlayMtu::Bytes)
    }
}

/// Returns which families are forwarded now, and which ones operations turn on.
fn forwarding(ops: &[Op]) -> Forwarding {
    let opened = ops.iter().filter_map(|op| match op {
        Op::EnableForwarding(family) => Some(*family),
        _ => None,
    });
    let now = sysctl::forwarding();
    let is_on = |family: &Family| family.pick(now.v4, now.v6) == Some(true);
    Forwarding {
        on: Family::BOTH.into_iter().filter(is_on).collect(),
        opened: opened.collect(),
    }
}

/// Returns the desired state with the removed overlays that still have containers, as far
/// as the firewall needs it.
fn with_draining<'a>(desired: &'a Desired, draining: &[Draining]) -> Cow<'a, Desired> {
    if draining.is_empty() {
        return Cow::Borrowed(desired);
    }
    // The firewall does not depend on the peers.
    let mut with = Desired {
        firewall: desired.firewall,
        underlay_ip: desired.underlay_ip,
        vtep: desired.vtep.clone(),
        overlays: desired.overlays.clone(),
        ..Desired::default()
    };
    for part in draining {
        let bridge = Some(Bridge {
            name: part.bridge.clone(),
            subnets: part.subnets.clone(),
        });
        let overlay = with.overlays.entry(part.overlay.clone()).or_default();
        for (all, more) in [
            (&mut overlay.ranges, &part.ranges),
            (&mut overlay.subnets, &part.subnets),
        ] {
            for net in more {
                if !all.contains(net) {
                    all.push(*net);
                }
            }
        }
        match part.containerizer {
            Containerizer::Mesos => overlay.mesos_bridge = bridge,
            Containerizer::Docker => overlay.docker_bridge = bridge,
        }
    }
    Cow::Owned(with)
}

#[cfg(test)]
mod tests;
