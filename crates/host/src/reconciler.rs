//! One pass: read what the host has, plan, carry out, report.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use overlay_core::HostReport;
use overlay_core::host_api::desired::{Backend, Bridge, Checksum, Cni, Desired};

use crate::cni;
use crate::executor::{Fitting, Hands};
use crate::failures::Failures;
use crate::firewall::Firewall;
use crate::kernel::ethtool::Ethtool;
use crate::kernel::netlink::{Error, Netlink};
use crate::kernel::sysctl;
use crate::kernel::watch::Watch;
use crate::kernel::{observe, request};
use crate::preview::Preview;
use crate::reconcile::observed::{CniFile, Kernel, Observed, Underlay};
use crate::reconcile::{
    Concern, DeviceChange, Draining, Meaning, Op, Plan, Watched, dockers_bridges, fitting_mtu,
    forwards_ipv6, nexthops_after, plan, wanted_bridges,
};
use crate::refused::Refused;

/// Rounds of one pass. A second one is needed when somebody else changed the
/// same things while the first one was under way.
const ROUNDS: usize = 2;

/// Makes the host like `desired`, once, in the network namespace of the calling
/// thread. It takes as long as it takes; see [`crate::Executor`] for something
/// that goes on looking after the host.
pub fn make_right(desired: &Desired) -> HostReport {
    Rounds::default().run(desired)
}

/// What [`make_right`] would do.
pub(super) fn preview(desired: &Desired) -> Preview {
    let mut pass = Pass::new(desired);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let plan = match runtime {
        Ok(runtime) => runtime.block_on(pass.plan()),
        Err(error) => {
            let problems = vec![format!("cannot start an event loop: {error}")];
            return Preview {
                problems,
                ..Preview::default()
            };
        }
    };
    let firewall =
        Firewall::default().preview(&with_draining(desired, &plan.draining), &mut pass.failures);
    let report = pass.failures.into_report();
    Preview {
        operations: firewall
            .into_iter()
            .chain(plan.ops.iter().map(Op::to_string))
            .collect(),
        draining: plan.draining.iter().map(Draining::to_string).collect(),
        problems: report.host,
    }
}

/// Passes, and what happens to the host between them.
pub(super) struct Passes {
    rounds: Rounds,
    watch: Watch,
    watched: Watched,
}

impl Passes {
    pub(super) fn new() -> Passes {
        Passes {
            rounds: Rounds::default(),
            watch: Watch::new(),
            watched: Watched::default(),
        }
    }
}

impl Hands for Passes {
    fn pass(&mut self, desired: &Desired) -> HostReport {
        // The pass will see what became of it.
        self.watch.discard();
        let report = self.rounds.run(desired);
        self.watched = self.rounds.watched.take().unwrap_or_default();
        self.watch.watch_directory(&desired.cni.dir);
        report
    }

    fn change_peers(&mut self, from: &Desired, to: &Desired) -> Option<HostReport> {
        let refused = self.rounds.refused.as_ref()?;
        let (index, ops) = self.watched.change_peers(from, to)?;
        // What became of that is for a pass to see.
        if refused.concerns(&ops) {
            return None;
        }
        let requests: Vec<_> = ops
            .iter()
            .filter_map(|op| request::request(op, index))
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .ok()?;
        let results =
            runtime.block_on(async { Some(Netlink::open().ok()?.execute(requests).await) })?;
        // Even what is gone already would be a surprise.
        let well = results.iter().all(Result::is_ok);
        let host = refused.sentences().to_vec();
        well.then(|| HostReport {
            operations: ops.len(),
            host,
            ..HostReport::default()
        })
    }

    fn look(&mut self, desired: &Desired) -> bool {
        self.rounds.look(desired)
    }

    fn wait(
        &mut self,
        wakeup: BorrowedFd<'_>,
        timeout: Duration,
        deaf: bool,
    ) -> io::Result<Meaning> {
        self.watch.wait(wakeup, timeout, &self.watched, deaf)
    }

    fn is_blind(&self) -> bool {
        self.watch.is_blind()
    }

    fn fitting(&self) -> Fitting {
        let fits = self.rounds.underlay.as_ref().map(fitting_mtu);
        fits.map_or(Fitting::Unknown, Fitting::Bytes)
    }
}

/// Carries out passes. What it keeps is for the log, and for those who watch the
/// host until the next one; no pass relies on it.
#[derive(Default)]
struct Rounds {
    /// Warnings that were logged already.
    warned: Vec<String>,
    firewall: Firewall,
    /// What a look need not find again: it could not be done.
    hopeless: Vec<Op>,
    /// What the last pass was refused of peers; `None`: the host is not right
    /// otherwise either.
    refused: Option<Refused>,
    /// What there is to watch after the last pass.
    watched: Option<Watched>,
    /// The underlay, as of the last pass, for a look.
    underlay: Option<Underlay>,
    /// The overlays that are gone but for their containers, the same.
    draining: Vec<Draining>,
}

impl Rounds {
    /// Makes the host like `desired`, as far as it can be made so.
    fn run(&mut self, desired: &Desired) -> HostReport {
        self.refused = None;
        // A runtime and a connection for each pass: what is broken in them does
        // not stay.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(self.rounds(desired)),
            Err(error) => {
                let sentence =
                    format!("cannot configure the host: cannot start an event loop: {error}");
                HostReport::hopeless(desired, sentence)
            }
        }
    }

    async fn rounds(&mut self, desired: &Desired) -> HostReport {
        let mut operations = 0;
        let mut round = 0;
        loop {
            round += 1;
            let start = Instant::now();
            let mut pass = Pass::new(desired);
            let plan = pass.plan().await;
            self.warn(plan.warnings.clone());
            // Before the CNI configurations, which say that all is well.
            operations += self
                .firewall
                .reconcile(&with_draining(desired, &plan.draining), &mut pass.failures);
            pass.carry_out(&plan).await;
            // What the kernel refuses is tried again with each pass, and changes nothing.
            operations += plan.ops.len().saturating_sub(pass.refused.len());
            if !plan.ops.is_empty() {
                log::info!(
                    "configured the host: {} operations in {:.0?}, {} failed",
                    plan.ops.len(),
                    start.elapsed(),
                    pass.failures.count()
                );
            }
            if !pass.raced || round == ROUNDS {
                self.watched = Some(pass.watched(&plan.draining).await);
                self.hopeless = std::mem::take(&mut pass.hopeless);
                self.underlay = pass.underlay.take();
                let draining = plan.draining.iter().map(Draining::to_string).collect();
                let used = plan
                    .draining
                    .iter()
                    .filter(|part| part.gone)
                    .map(|part| part.overlay.clone());
                let used = used.collect();
                self.draining = plan.draining;
                let failures = pass.failures.count();
                let report = HostReport {
                    operations,
                    draining,
                    used,
                    ..pass.failures.into_report()
                };
                self.refused = Refused::new(&pass.refused, failures, &report.host);
                return report;
            }
        }
    }

    /// Whether something has to be done, among the things that are quickly read
    /// and whose changes nobody tells. The rest of the host is not looked at.
    fn look(&mut self, desired: &Desired) -> bool {
        let mut pass = Pass::new(desired);
        let cni = pass.observe_cni();
        let underlay = self.underlay.clone();
        let forwarding = sysctl::forwarding();
        let observed = Observed {
            forwarding,
            cni,
            underlay,
            ..Observed::default()
        };
        // The kernel tells of a feature's change as little as what it is.
        let checksum = match desired.tx_checksum {
            Checksum::Auto => None,
            _ => tx_checksum(desired).filter(|on| *on != (desired.tx_checksum == Checksum::On)),
        };
        let name = || desired.vtep.as_ref().map(|vtep| vtep.name.as_str().into());
        let checksum = checksum.and_then(|on| Some(Op::SetTxChecksum(name()?, !on)));
        checksum
            .into_iter()
            .chain(plan(desired, &observed).ops)
            .any(|op| !self.hopeless.contains(&op))
            || self
                .firewall
                .quick_check(&with_draining(desired, &self.draining))
    }

    /// Says each warning once, until it is over.
    fn warn(&mut self, warnings: Vec<String>) {
        for warning in warnings
            .iter()
            .filter(|warning| !self.warned.contains(warning))
        {
            log::warn!("{warning}");
        }
        self.warned = warnings;
    }
}

/// With the overlays that still have containers, as far as the firewall is
/// concerned.
fn with_draining<'a>(desired: &'a Desired, draining: &[Draining]) -> Cow<'a, Desired> {
    if draining.is_empty() {
        return Cow::Borrowed(desired);
    }
    // The firewall does not ask for the peers.
    let (firewall, vtep, overlays) = (
        desired.firewall,
        desired.vtep.clone(),
        desired.overlays.clone(),
    );
    let mut with = Desired {
        firewall,
        vtep,
        overlays,
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
            all.extend(
                more.iter()
                    .filter(|net| !all.contains(net))
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
        match part.is_dockers() {
            true => overlay.docker_bridge = bridge,
            false => overlay.mesos_bridge = bridge,
        }
    }
    Cow::Owned(with)
}

/// Whether the VXLAN device leaves checksums to the one below, if that matters.
fn tx_checksum(desired: &Desired) -> Option<bool> {
    let vtep = desired
        .vtep
        .as_ref()
        .filter(|_| desired.backend == Backend::Internal)?;
    if desired.tx_checksum == Checksum::Auto {
        return None;
    }
    // A device that is not there yet, or a kernel before 5.6; the order will tell.
    Ethtool::open()
        .and_then(|ethtool| ethtool.tx_checksum(&vtep.name))
        .ok()
}

/// One round of a pass.
struct Pass<'a> {
    desired: &'a Desired,
    netlink: Option<Netlink>,
    underlay: Option<Underlay>,
    failures: Failures<'a>,
    /// The nexthop objects of ours that there are when all is done.
    nexthops: Option<BTreeSet<u32>>,
    /// Whether something failed as it does when others meddle.
    raced: bool,
    /// What failed and would be found by a look.
    hopeless: Vec<Op>,
    /// What else failed.
    refused: Vec<Op>,
}

impl<'a> Pass<'a> {
    fn new(desired: &'a Desired) -> Pass<'a> {
        Pass {
            desired,
            netlink: None,
            underlay: None,
            failures: Failures::new(desired),
            nexthops: None,
            raced: false,
            hopeless: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Reads what there is, as far as it can be read, and plans.
    async fn plan(&mut self) -> Plan {
        let observed = self.observe().await;
        let plan = plan(self.desired, &observed);
        self.nexthops = observed
            .kernel
            .as_ref()
            .and_then(|kernel| nexthops_after(kernel, &plan));
        if let Some(obstacle) = &plan.obstacle {
            self.failures.add(Concern::Overlays, obstacle.clone());
        }
        for problem in &plan.problems {
            self.failures.add(Concern::Host, problem.clone());
        }
        plan
    }

    async fn observe(&mut self) -> Observed {
        let (forwarding, cni) = (sysctl::forwarding(), self.observe_cni());
        let kernel = match self.observe_kernel().await {
            Ok(kernel) => kernel,
            Err(sentence) => {
                self.failures.add(Concern::Overlays, sentence);
                None
            }
        };
        Observed {
            forwarding,
            cni,
            underlay: self.underlay.clone(),
            tx_checksum: tx_checksum(self.desired),
            forgets_routers: self.forgets_routers().await,
            kernel,
        }
    }

    /// What cannot be read is no reason for a warning.
    async fn forgets_routers(&self) -> bool {
        let (Some(netlink), Some(underlay)) = (&self.netlink, &self.underlay) else {
            return false;
        };
        forwards_ipv6(self.desired)
            && sysctl::device6(&underlay.device, "accept_ra").as_deref() == Some("1")
            && observe::is_advertised(netlink, underlay.index)
                .await
                .unwrap_or(false)
    }

    /// What cannot be read fails every overlay that has a file there.
    fn observe_cni(&mut self) -> Option<BTreeMap<String, CniFile>> {
        let Cni { dir, .. } = &self.desired.cni;
        if dir.as_os_str().is_empty() {
            return None;
        }
        let wanted: Vec<&str> = cni::wanted(self.desired, None).into_keys().collect();
        match cni::read(dir, &wanted.iter().copied().collect()) {
            Ok(files) => Some(files),
            Err(error) => {
                let sentence = format!(
                    "cannot read the CNI configurations in {}: {error}",
                    dir.display()
                );
                for overlay in wanted {
                    self.failures
                        .add(Concern::Overlay(overlay), sentence.clone());
                }
                None
            }
        }
    }

    /// `None`: another program looks after it.
    async fn observe_kernel(&mut self) -> Result<Option<Kernel>, String> {
        let netlink =
            Netlink::open().map_err(|error| format!("cannot talk to the kernel: {error}"))?;
        let netlink = self.netlink.insert(netlink);
        let underlay = observe::underlay(netlink, self.desired).await;
        self.underlay =
            underlay.map_err(|error| format!("cannot read the kernel's underlay: {error}"))?;
        match self.desired.backend {
            Backend::External => Ok(None),
            Backend::Internal => observe::observe(netlink, self.desired).await.map(Some),
        }
    }

    /// Carries out the operations in order. One that fails does not stop the
    /// others, except those that would be on a device that is not there.
    async fn carry_out(&mut self, plan: &Plan) {
        let mut indexes = BTreeMap::new();
        let mut missing = BTreeMap::<&Arc<str>, usize>::new();
        let mut ops = plan.ops.iter().peekable();
        while let Some(op) = ops.next() {
            log::debug!("{op}");
            let Some(device) = op.device() else {
                self.carry_out_one(op).await;
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
                Some(index) => self.carry_out_batch(&batch, index).await,
                None => *missing.entry(device).or_default() += batch.len(),
            }
        }
        for (device, count) in missing {
            let sentence =
                format!("left out {count} operations on device {device}, which is not there");
            self.failures.add(Concern::Overlays, sentence);
        }
    }

    /// What to watch from now on. (What happened since the kernel was read is
    /// among the events that wait.)
    async fn watched(&self, draining: &[Draining]) -> Watched {
        let index = match &self.desired.vtep {
            Some(vtep) => self.index_quietly(&vtep.name).await,
            None => None,
        };
        let mut watched = Watched::new(
            self.desired,
            index,
            self.underlay.as_ref(),
            draining,
            self.nexthops.clone(),
        );
        for (name, addresses) in wanted_bridges(self.desired) {
            watched.watch_bridge(name, self.index_quietly(name).await, addresses);
        }
        for name in dockers_bridges(self.desired) {
            watched.watch_dockers(name, self.index_quietly(name).await);
        }
        watched
    }

    /// The index of a device; `None`: there is none, or it cannot be read.
    async fn index_quietly(&self, device: &str) -> Option<u32> {
        observe::index_of(self.netlink.as_ref()?, device)
            .await
            .ok()
            .flatten()
    }

    async fn index_of(&mut self, device: &str) -> Option<u32> {
        match observe::index_of(self.netlink.as_ref()?, device).await {
            Ok(index) => index,
            Err(error) => {
                self.failures.add(
                    Concern::Overlays,
                    format!("cannot find device {device}: {error}"),
                );
                None
            }
        }
    }

    async fn carry_out_one(&mut self, op: &Op) {
        let Cni { dir, .. } = &self.desired.cni;
        let result = match op {
            Op::EnableForwarding => sysctl::enable_forwarding(false),
            Op::EnableForwarding6 => sysctl::enable_forwarding(true),
            Op::SetTxChecksum(device, on) => {
                Ethtool::open().and_then(|ethtool| ethtool.set_tx_checksum(device, *on))
            }
            Op::SkipDad(device) => sysctl::skip_dad(device),
            Op::WriteCni { overlay, content } => cni::write(dir, overlay, content),
            Op::RemoveCni { overlay } => cni::remove(dir, overlay),
            // The others are the kernel's, and need no index.
            _ => return self.carry_out_batch(&[op], 0).await,
        };
        if let Err(error) = result {
            self.failures.add_op(op, self.in_words(op, &error));
            self.hopeless.push(op.clone());
        }
    }

    fn in_words(&self, op: &Op, error: &io::Error) -> String {
        match op {
            Op::WriteCni { .. } | Op::RemoveCni { .. } => {
                format!("{error} (in {})", self.desired.cni.dir.display())
            }
            _ => error.to_string(),
        }
    }

    async fn carry_out_batch(&mut self, ops: &[&Op], index: u32) {
        let Some(netlink) = &self.netlink else { return };
        let requests = ops
            .iter()
            .filter_map(|op| request::request(op, index))
            .collect();
        let results = netlink.execute(requests).await;
        for (op, result) in ops.iter().zip(results) {
            match result {
                Ok(()) => {}
                Err(error) if is_fine(op, &error) => {}
                Err(error) => {
                    self.raced |= is_race(op, &error);
                    self.failures.add_op(op, error.to_string());
                    self.refused.push((*op).clone());
                }
            }
        }
    }
}

/// Whether an operation that failed has nothing left to do.
fn is_fine(op: &Op, error: &Error) -> bool {
    let gone = [
        Errno::ENOENT,
        Errno::ESRCH,
        Errno::ENODEV,
        Errno::EADDRNOTAVAIL,
    ];
    match (op, error.errno()) {
        (Op::AddRule { .. }, Some(Errno::EEXIST)) => true,
        // Kernels before 4.12 cannot do this, and an FDB that learns does no harm
        // next to permanent entries.
        (Op::SetDevice(_, DeviceChange::NoLearning), Some(Errno::EOPNOTSUPP)) => {
            log::warn!("this kernel cannot {op}; its FDB will also have entries that it learned");
            true
        }
        (op, Some(errno)) => op.removes() && gone.contains(&errno),
        _ => false,
    }
}

/// Whether an operation failed because somebody was faster: made the device that
/// we wanted to make, or took it away.
fn is_race(op: &Op, error: &Error) -> bool {
    match (op, error.errno()) {
        (Op::AddDevice(_) | Op::AddBridge(..), errno) => errno == Some(Errno::EEXIST),
        (op, errno) => op.device().is_some() && errno == Some(Errno::ENODEV),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::NewRoute;

    fn route(n: u8) -> Op {
        let (dst, via) = (
            format!("9.0.{n}.0/24").parse().unwrap(),
            "44.128.0.9".parse().unwrap(),
        );
        Op::SetRoute(
            "vtep1024".into(),
            NewRoute {
                table: 254,
                dst,
                via,
                nexthop: None,
            },
        )
    }

    fn refused(errno: Errno) -> Error {
        Error::Refused { errno, text: None }
    }

    #[test]
    fn what_is_gone_need_not_be_removed_but_what_is_missing_must_be_made() {
        let remove = Op::RemoveDevice("vtep1024".into());
        assert!(is_fine(&remove, &refused(Errno::ENODEV)));
        assert!(!is_fine(&remove, &refused(Errno::EPERM)));
        assert!(!is_fine(&remove, &Error::Silent("no answer")));
        assert!(!is_fine(&route(1), &refused(Errno::ENODEV)));
        assert!(is_race(&route(1), &refused(Errno::ENODEV)));
        assert!(!is_race(&route(1), &refused(Errno::ENETUNREACH)));
    }

    #[test]
    fn what_others_did_first_is_a_race_or_no_matter() {
        use crate::reconcile::NewDevice;
        let device: Arc<str> = "vtep1024".into();
        let new = NewDevice {
            name: device.clone(),
            vni: 1,
            port: 64000,
            mac: Default::default(),
            mtu: None,
        };
        let rule = Op::AddRule {
            overlay: "dcos".into(),
            from: "9.0.0.0/8".parse().unwrap(),
        };
        let bridge = Op::AddBridge("m-dcos".into(), Default::default());
        let learning = Op::SetDevice(device.clone(), DeviceChange::NoLearning);
        let up = Op::SetDevice(device.clone(), DeviceChange::Up);
        let nexthop = Op::RemoveNexthop(device.clone(), 7);
        let add_nexthop = Op::AddNexthop(device, [44, 128, 0, 2].into());
        for (op, errno, fine, race) in [
            (&rule, Errno::EEXIST, true, false),
            (&rule, Errno::ENOENT, false, false),
            (&learning, Errno::EOPNOTSUPP, true, false),
            (&up, Errno::EOPNOTSUPP, false, false),
            (&up, Errno::ENODEV, false, true),
            (&bridge, Errno::EEXIST, false, true),
            (&Op::AddDevice(new), Errno::EEXIST, false, true),
            (&nexthop, Errno::ENOENT, true, false),
            (&nexthop, Errno::EBUSY, false, false),
            (&add_nexthop, Errno::EEXIST, false, false),
            (&add_nexthop, Errno::ENOENT, false, false),
        ] {
            assert_eq!(is_fine(op, &refused(errno)), fine, "{op}: {errno}");
            assert_eq!(is_race(op, &refused(errno)), race, "{op}: {errno}");
        }
        for errno in [
            Errno::ENOENT,
            Errno::ESRCH,
            Errno::ENODEV,
            Errno::EADDRNOTAVAIL,
        ] {
            assert!(
                is_fine(&Op::RemoveDevice("vtep7".into()), &refused(errno)),
                "{errno}"
            );
        }
    }

    fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// What drains keeps its part of the firewall, of whichever containerizer it is.
    #[test]
    fn the_firewall_knows_what_drains() {
        use overlay_core::host_api::desired::{Firewall as Choice, Overlay};
        let stays = Overlay {
            ranges: nets(&["9.0.0.0/8"]),
            subnets: nets(&["9.0.1.0/24"]),
            mesos_bridge: Some(Bridge {
                name: "m-dcos".into(),
                subnets: nets(&["9.0.1.0/25"]),
            }),
            ..Overlay::default()
        };
        let firewall = Choice::Nftables;
        let overlays = [("dcos".to_owned(), stays.clone())].into();
        let desired = Desired {
            firewall,
            overlays,
            ..Desired::default()
        };
        assert_eq!(*with_draining(&desired, &[]), desired);
        let part =
            |overlay: &str, bridge: &str, gone, subnets: &[&str], ranges: &[&str]| Draining {
                overlay: overlay.into(),
                gone,
                bridge: bridge.into(),
                index: 7,
                containers: 1,
                subnets: nets(subnets),
                ranges: nets(ranges),
            };
        let with = with_draining(
            &desired,
            &[
                part("dcos", "d-dcos", false, &["9.0.1.128/25"], &["9.0.0.0/8"]),
                part(
                    "gone",
                    "m-gone",
                    true,
                    &["8.0.1.0/25", "fd02::/81"],
                    &["8.0.0.0/8", "fd02::/64"],
                ),
            ],
        );
        assert_eq!(with.firewall, Choice::Nftables);
        let dcos = &with.overlays["dcos"];
        assert_eq!(
            (&dcos.mesos_bridge, &dcos.ranges),
            (&stays.mesos_bridge, &stays.ranges)
        );
        assert_eq!(dcos.subnets, nets(&["9.0.1.0/24", "9.0.1.128/25"]));
        assert_eq!(dcos.docker_bridge.as_ref().unwrap().name, "d-dcos");
        let gone = &with.overlays["gone"];
        assert_eq!(gone.mesos_bridge.as_ref().unwrap().name, "m-gone");
        assert_eq!(
            (&gone.docker_bridge, gone.ranges.len(), gone.subnets.len()),
            (&None, 2, 2)
        );
    }

    /// Hosts whose data plane is somebody else's: just the files are looked at.
    fn files_only(dir: &std::path::Path) -> Desired {
        use overlay_core::host_api::desired::{Firewall as Choice, Overlay};
        let subnets = nets(&["9.0.1.0/25"]);
        let mesos_bridge = Some(Bridge {
            name: "m-dcos".into(),
            subnets,
        });
        let overlay = Overlay {
            mesos_bridge,
            mtu: 1420,
            ..Overlay::default()
        };
        Desired {
            cni: Cni {
                dir: dir.into(),
                data_dir: None,
            },
            backend: Backend::External,
            firewall: Choice::None,
            overlays: [("dcos".to_owned(), overlay)].into(),
            ..Desired::default()
        }
    }

    #[test]
    fn a_look_finds_files_that_somebody_changed() {
        let dir = tempfile::tempdir().unwrap();
        let desired = files_only(dir.path());
        let mut rounds = Rounds::default();
        assert!(rounds.look(&desired), "there is no file yet");
        let content = cni::wanted(&desired, None).remove("dcos").unwrap();
        cni::write(dir.path(), "dcos", &content).unwrap();
        assert!(!rounds.look(&desired));
        std::fs::write(dir.path().join("dcos.conf"), "{}").unwrap();
        assert!(rounds.look(&desired));
        // With the underlay that was measured another MTU may be right.
        cni::write(dir.path(), "dcos", &content).unwrap();
        rounds.underlay = Some(Underlay {
            index: 2,
            device: "eth0".into(),
            mtu: 1400,
        });
        assert!(!rounds.look(&desired));
        assert!(rounds.look(&Desired {
            fit_mtu: true,
            ..desired
        }));
    }

    /// What could not be done is no news as long as it is the same.
    #[test]
    fn a_look_does_not_find_again_what_could_not_be_done() {
        let dir = tempfile::tempdir().unwrap();
        let mut desired = files_only(dir.path());
        let write = |desired: &Desired| {
            let content = cni::wanted(desired, None).remove("dcos").unwrap();
            Op::WriteCni {
                overlay: "dcos".into(),
                content,
            }
        };
        let mut rounds = Rounds {
            hopeless: vec![write(&desired)],
            ..Rounds::default()
        };
        assert!(!rounds.look(&desired));
        desired.overlays.get_mut("dcos").unwrap().mtu = 1400;
        assert!(rounds.look(&desired), "that was something else");
    }

    #[test]
    fn checksums_are_nobodys_business_but_where_they_are_ours() {
        let vtep = overlay_core::host_api::desired::Vtep {
            // Every host has this one.
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
