//! Attempt of a reconciliation: reads the host, plans, applies the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::HostReport;
use overlay_core::host_api::desired::{Backend, Checksum, Cni, Desired};
use overlay_core::host_api::problem::{Problem, ProblemKind};

use crate::cni;
use crate::cni::content::DefinedNetwork;
use crate::cni::files::{Obstacle, Rival};
use crate::failures::Failures;
use crate::files;
use crate::files::exposure;
use crate::kernel::ethtool::Ethtool;
use crate::kernel::netlink::Netlink;
use crate::kernel::{observe, request, router_advertisements, sysctl, underlay};
use crate::progress;
use crate::reconcile::observed::{CniFile, Kernel, Observed, Underlay};
use crate::reconcile::{
    ChecksumOffload, Draining, ExpectedState, Op, Plan, Scope, Surroundings, feasible,
    former_ranges, forwards_ipv6, nexthops_after, plan_and_count,
};

use super::verdict::{is_harmless, is_race, reason};

/// State of an attempt.
pub(super) struct Attempt<'a> {
    desired: &'a Desired,
    netlink: Option<Netlink>,
    underlay: Option<Underlay>,
    /// Overlays whose CNI configuration has an obstacle.
    cni_obstacles: BTreeSet<String>,
    failures: Failures<'a>,
    /// Ids of our nexthop objects after the plan was applied; `None`: the kernel has none.
    nexthops: Option<BTreeSet<u32>>,
    /// Networks and routes of others.
    surroundings: Surroundings,
    /// Number of failures that are problems with single peers.
    peer_problems: usize,
    /// Other files with networks of overlays' names.
    rivals: BTreeSet<String>,
    /// Warnings about what was observed.
    warnings: Vec<String>,
    /// True if an operation met an object that another program had just created or removed.
    raced: bool,
    /// Failed operations that a quick check would find again.
    failed: Vec<Op>,
    /// Operations that the kernel rejected.
    rejected: Vec<Op>,
    /// Number of operations that changed the host.
    done: usize,
    /// True if the overlays cannot have IPv6 on this host.
    is_without_ipv6: bool,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(desired: &'a Desired) -> Attempt<'a> {
        Attempt {
            desired,
            netlink: None,
            underlay: None,
            cni_obstacles: BTreeSet::new(),
            failures: Failures::new(desired),
            nexthops: None,
            surroundings: Surroundings::default(),
            peer_problems: 0,
            rivals: BTreeSet::new(),
            warnings: Vec::new(),
            raced: false,
            failed: Vec::new(),
            rejected: Vec::new(),
            done: 0,
            is_without_ipv6: false,
        }
    }

    pub(super) fn failures(&mut self) -> &mut Failures<'a> {
        &mut self.failures
    }

    pub(super) fn has_raced(&self) -> bool {
        self.raced
    }

    /// Returns the number of failures that are problems with single peers.
    pub(super) fn peer_problems(&self) -> usize {
        self.peer_problems
    }

    /// Returns the number of operations that changed the host.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// Returns whether the overlays cannot have IPv6 on this host.
    pub(super) fn is_without_ipv6(&self) -> bool {
        self.is_without_ipv6
    }

    /// Returns the networks of the host's devices that are not the overlays'.
    pub(super) fn networks(&self) -> BTreeSet<IpNet> {
        let networks = self.surroundings.networks.iter();
        networks.map(|own| own.net.trunc()).collect()
    }

    pub(super) fn take_rejected(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.rejected)
    }

    /// Leaves an operation out of a plan, and reports it like one that failed.
    pub(super) fn leave_out(&mut self, plan: &mut Plan, op: &Op, reason: String) {
        let count = plan.ops.len();
        plan.ops.retain(|planned| planned != op);
        if plan.ops.len() < count {
            self.failures.add_op(op, reason);
            self.failed.push(op.clone());
        }
    }

    pub(super) fn take_failed(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.failed)
    }

    pub(super) fn take_underlay(&mut self) -> Option<Underlay> {
        self.underlay.take()
    }

    pub(super) fn take_cni_obstacles(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.cni_obstacles)
    }

    pub(super) fn take_rivals(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.rivals)
    }

    pub(super) fn into_report(self) -> HostReport {
        self.failures.into_report()
    }

    /// Reads the host as far as it can be read, and plans.
    pub(super) async fn plan(&mut self) -> Plan {
        let observed = self.observe().await;
        let mut plan = plan_and_count(self.desired, &observed);
        self.cni_obstacles.clone_from(&observed.cni_obstacles);
        let dir = &self.desired.cni.dir;
        progress::step(format!("look at the permissions of {}", dir.display()));
        plan.warnings.extend(exposure("cni_dir", dir, cni::DANGER));
        plan.warnings.append(&mut self.warnings);
        let kernel = observed.kernel.as_ref();
        self.nexthops = kernel.and_then(|kernel| nexthops_after(kernel, &plan));
        if let Some(obstacle) = &plan.obstacle {
            let problem = Problem::new(ProblemKind::Vtep, "", obstacle);
            self.failures.add(Scope::Overlays, problem);
        }
        for problem in &plan.problems {
            self.failures.add(Scope::Host, problem.clone());
        }
        for (overlay, sentence) in &plan.refused {
            let problem = Problem::new(ProblemKind::Bridge, overlay, sentence);
            self.failures.add(Scope::Overlay(overlay), problem);
        }
        if let Some(sentence) = &plan.ipv6_fault {
            let problem = Problem::new(ProblemKind::Ipv6, "", sentence);
            self.failures.add(Scope::Ipv6, problem);
        }
        self.is_without_ipv6 = plan.ipv6_fault.is_some();
        for (overlay, sentence) in &plan.overlay_faults {
            let problem = Problem::new(ProblemKind::Bridge, overlay, sentence);
            self.failures.add(Scope::Overlay(overlay), problem);
        }
        self.failed.extend(plan.left_out.iter().cloned());
        self.peer_problems = plan.peer_problems;
        let is_new_device = plan.ops.iter().any(|op| matches!(op, Op::AddDevice(_)));
        let surroundings = observed.kernel.map(|kernel| {
            let former_ranges = former_ranges(&kernel);
            let device = kernel.device.filter(|_| !is_new_device);
            Surroundings {
                former_ranges,
                networks: kernel.networks,
                routes: kernel.foreign_routes,
                on_vtep: device.map_or_else(BTreeSet::new, |device| device.routes),
            }
        });
        self.surroundings = surroundings.unwrap_or_default();
        plan
    }

    async fn observe(&mut self) -> Observed {
        progress::step("read whether the kernel forwards packets");
        let forwarding = sysctl::forwarding();
        let (cni, cni_obstacles) = self.observe_cni();
        let kernel = match self.observe_kernel().await {
            Ok(kernel) => kernel,
            Err(sentence) => {
                let problem = Problem::new(ProblemKind::Observation, "kernel", sentence);
                self.failures.add(Scope::Overlays, problem);
                None
            }
        };
        Observed {
            forwarding,
            cni,
            cni_obstacles,
            underlay: self.underlay.clone(),
            tx_checksum: tx_checksum(self.desired),
            losing_routers: self.losing_routers().await,
            not_forwarding: sysctl::not_forwarding(self.desired),
            defaults: sysctl::defaults(),
            ipv6_obstacle: sysctl::ipv6_obstacle(),
            kernel,
        }
    }

    /// Returns the devices that have addresses or routes from router advertisements, which the kernel
    /// ignores once it forwards IPv6; none where that cannot be read.
    async fn losing_routers(&self) -> BTreeSet<String> {
        match &self.netlink {
            Some(netlink) if forwards_ipv6(self.desired) => {
                let losing = router_advertisements::losing_devices(netlink).await;
                losing.unwrap_or_default()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Reads the CNI files, and returns them with the overlays whose place is taken by something
    /// else, each of which fails. If the files cannot be read, every overlay that should have one
    /// fails.
    pub(super) fn observe_cni(&mut self) -> (Option<BTreeMap<String, CniFile>>, BTreeSet<String>) {
        let Cni { dir, .. } = &self.desired.cni;
        if dir.as_os_str().is_empty() {
            return Default::default();
        }
        progress::step(format!("read the CNI configurations in {}", dir.display()));
        let wanted: Vec<&str> = cni::content::wanted(self.desired, None)
            .into_keys()
            .collect();
        match cni::files::read(&self.desired.cni, &wanted.iter().copied().collect()) {
            Ok(found) => {
                for (overlay, obstacle) in &found.obstacles {
                    let path = cni::files::path(&self.desired.cni, overlay);
                    let obstacle = match obstacle {
                        Obstacle::NotRegular(kind) => files::obstacle(&path, *kind),
                        Obstacle::Network(network) => {
                            theirs(&path, network, network.name == *overlay)
                        }
                    };
                    let file = cni::files::name(&self.desired.cni, overlay);
                    let sentence = format!("cannot write CNI configuration {file}: {obstacle}");
                    let problem = Problem::new(ProblemKind::Observation, "CNI", sentence);
                    self.failures.add(Scope::Overlay(overlay), problem);
                }
                for (overlay, rival) in &found.rivals {
                    self.observe_rival(overlay, rival);
                }
                (Some(found.files), found.obstacles.into_keys().collect())
            }
            Err(error) => {
                let sentence = format!(
                    "cannot read the CNI configurations in {}: {error}",
                    dir.display()
                );
                for overlay in wanted {
                    let problem = Problem::new(ProblemKind::Observation, "CNI", sentence.clone());
                    self.failures.add(Scope::Overlay(overlay), problem);
                }
                Default::default()
            }
        }
    }

    /// Reports another file with a network of an overlay's name.
    fn observe_rival(&mut self, overlay: &str, rival: &Rival) {
        let Rival { file, is_copy } = rival;
        self.rivals.insert(format!("{overlay} {file}"));
        let dir = self.desired.cni.dir.display();
        let sentence = format!(
            "{dir}/{file} defines a network {overlay}, too, and Mesos takes one of both: remove that file, or give its \
             network another name"
        );
        if *is_copy {
            self.warnings.push(sentence);
        } else {
            let problem = Problem::new(ProblemKind::Observation, "CNI", sentence);
            self.failures.add(Scope::Overlay(overlay), problem);
        }
    }

    /// Reads the kernel's configuration; `None`: another program manages it.
    async fn observe_kernel(&mut self) -> Result<Option<Kernel>, String> {
        progress::step("read the kernel's network configuration");
        let netlink =
            Netlink::open().map_err(|error| format!("cannot open a netlink socket: {error}"))?;
        let netlink = self.netlink.insert(netlink);
        let underlay = underlay::underlay(netlink, self.desired).await;
        self.underlay =
            underlay.map_err(|error| format!("cannot read the kernel's underlay: {error}"))?;
        match self.desired.backend {
            Backend::External => Ok(None),
            Backend::Internal => observe::observe(netlink, self.desired).await.map(Some),
        }
    }

    /// Applies the operations in order. A failed one does not stop the others, except those
    /// on a device that does not exist.
    pub(super) async fn apply(&mut self, plan: &Plan) {
        let mut indexes = BTreeMap::new();
        let mut missing = BTreeMap::<&Arc<str>, usize>::new();
        let mut ops = plan.ops.iter().peekable();
        while let Some(op) = ops.next() {
            if progress::is_abandoned() {
                return;
            }
            log::debug!("{op}");
            let Some(device) = op.device() else {
                self.apply_one(op).await;
                continue;
            };
            let mut batch = vec![op];
            while let Some(op) = ops.next_if(|op| op.device() == Some(device)) {
                log::debug!("{op}");
                batch.push(op);
            }
            if !indexes.contains_key(device) {
                let index = self.index_of(device).await;
                indexes.insert(device, index);
            }
            match indexes.get(device).copied().flatten() {
                Some(index) => self.apply_batch(&batch, index).await,
                None => *missing.entry(device).or_default() += batch.len(),
            }
        }
        for (device, count) in missing {
            let sentence =
                format!("skipped {count} operations on device {device}, which does not exist");
            let problem = Problem::new(ProblemKind::SkippedOperations, &**device, sentence);
            self.failures.add(Scope::Overlays, problem);
        }
    }

    /// Returns the state that events are compared with from now on. (Events that came after
    /// the kernel was read are still queued.)
    pub(super) async fn expected(&self, draining: &[Draining]) -> ExpectedState {
        let feasible = feasible(self.desired, self.is_without_ipv6);
        let desired = &*feasible;
        let index = match &desired.vtep {
            Some(vtep) => self.known_index_of(&vtep.name).await,
            None => None,
        };
        let mut expected = ExpectedState::new(
            desired,
            index,
            self.underlay.as_ref(),
            draining,
            &self.surroundings,
            self.nexthops.clone(),
        );
        for (name, bridge) in desired.mesos_bridges() {
            let index = self.known_index_of(name).await;
            expected.add_mesos_bridge(name, index, bridge.gateways());
        }
        for name in desired.docker_bridges().into_keys() {
            expected.add_docker_bridge(name, self.known_index_of(name).await);
        }
        for op in &self.rejected {
            match op {
                Op::AddDevice(device) => expected.add_failed_device(&device.name),
                Op::AddBridge(name, _) => expected.add_failed_device(name),
                _ => {}
            }
        }
        expected
    }

    /// Returns the index of a device; `None`: there is none, or it cannot be read.
    async fn known_index_of(&self, device: &str) -> Option<u32> {
        observe::index_of(self.netlink.as_ref()?, device)
            .await
            .ok()
            .flatten()
    }

    /// Returns the index of a device. An error is a failure of all overlays.
    async fn index_of(&mut self, device: &str) -> Option<u32> {
        match observe::index_of(self.netlink.as_ref()?, device).await {
            Ok(index) => index,
            Err(error) => {
                let sentence = format!("cannot find device {device}: {error}");
                let problem = Problem::new(ProblemKind::Observation, device, sentence);
                self.failures.add(Scope::Overlays, problem);
                None
            }
        }
    }

    /// Applies an operation that needs no index of a device.
    async fn apply_one(&mut self, op: &Op) {
        progress::step(op.to_string());
        let cni = &self.desired.cni;
        let result = match op {
            Op::EnableForwarding(family) => sysctl::enable_forwarding(*family),
            Op::SetTxChecksum(device, offload) => {
                Ethtool::open().and_then(|ethtool| ethtool.set_tx_checksum(device, *offload))
            }
            Op::SkipDad(device) => sysctl::skip_dad(device),
            Op::EnableIpv6(device) => sysctl::enable_ipv6(device),
            Op::EnableDeviceForwarding(device, family) => {
                sysctl::enable_device_forwarding(device, *family)
            }
            Op::WriteCni {
                overlay, content, ..
            } => cni::files::write(cni, overlay, content),
            Op::RemoveCni { overlay, .. } => cni::files::remove(cni, overlay),
            // All others are netlink requests that name their device.
            _ => return self.apply_batch(&[op], 0).await,
        };
        let Err(error) = result else {
            self.done += 1;
            return;
        };
        let reason = match op {
            Op::WriteCni { .. } | Op::RemoveCni { .. } => {
                format!("{error} (in {})", cni.dir.display())
            }
            _ => error.to_string(),
        };
        self.failures.add_op(op, reason);
        self.failed.push(op.clone());
    }

    /// Applies netlink operations on one device.
    async fn apply_batch(&mut self, ops: &[&Op], index: u32) {
        let Some(netlink) = &self.netlink else { return };
        if let Some(first) = ops.first() {
            progress::step(format!("{first} (the first of {})", ops.len()));
        }
        let requests = ops
            .iter()
            .filter_map(|op| request::request(op, index))
            .collect();
        let results = netlink.execute(requests).await;
        for (op, result) in ops.iter().zip(results) {
            match result {
                Ok(()) => self.done += 1,
                Err(error) if is_harmless(op, &error) => {}
                Err(error) => {
                    self.raced |= is_race(op, &error);
                    self.failures.add_op(op, reason(op, &error));
                    self.rejected.push((*op).clone());
                }
            }
        }
    }
}

/// Returns a phrase about a file of others in the place of ours. Two networks of the same name are
/// in each other's way whatever their files are called.
fn theirs(path: &Path, network: &DefinedNetwork, has_our_name: bool) -> String {
    let way_out = match has_our_name {
        true => "give its network another name, and move it",
        false => "move it, or set cni_file_prefix of the agent's configuration",
    };
    let path = path.display();
    format!("{path} is not a file of this module, and has {network}; {way_out}")
}

/// Returns where the checksums of packets of the VXLAN device are computed; `None`: nobody
/// needs to know, the device does not exist yet, or the kernel is older than 5.6 (which the
/// operation that sets it then reports).
pub(super) fn tx_checksum(desired: &Desired) -> Option<ChecksumOffload> {
    let vtep = desired
        .vtep
        .as_ref()
        .filter(|_| desired.backend == Backend::Internal)?;
    if desired.tx_checksum == Checksum::Auto {
        return None;
    }
    Ethtool::open()
        .and_then(|ethtool| ethtool.tx_checksum(&vtep.name))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_read_only_where_they_matter() {
        let vtep = overlay_core::host_api::desired::Vtep {
            // Every host has this device.
            name: "lo".into(),
            vni: 1,
            mac: Default::default(),
            addresses: Vec::new(),
            mtu: None,
        };
        let with = |backend, tx_checksum| {
            let desired = Desired {
                backend,
                tx_checksum,
                vtep: Some(vtep.clone()),
                ..Desired::default()
            };
            super::tx_checksum(&desired)
        };
        assert_eq!(with(Backend::External, Checksum::On), None);
        assert_eq!(with(Backend::Internal, Checksum::Auto), None);
        assert_eq!(
            super::tx_checksum(&Desired {
                tx_checksum: Checksum::On,
                ..Desired::default()
            }),
            None
        );
    }
}
