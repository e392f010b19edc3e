//! Trial of what an agent makes on its host, in a network namespace of its own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use overlay_core::host_api::desired::{Bridge, Cni, Desired, Firewall, Mac, Overlay, Peer, Vtep};
use overlay_core::host_api::problem::Problem;

use super::ask;
use crate::kernel::netlink::Error;
use crate::kernel::request::{self, Request};
use crate::reconcile::Op;
use crate::reconciler::reconcile_once;

/// Time limit of a trial.
const LIMIT: Duration = Duration::from_secs(10);

/// Result of a trial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// What the agent could not make: errors as it would report them, each once.
    pub problems: Vec<String>,
    /// Error of making a pair of veth devices, which CNI plugins and Docker need.
    pub veth: Option<String>,
    /// Error of making a nexthop object, without which more than 1,000 peers cost more.
    pub nexthop: Option<String>,
}

/// Makes a VXLAN device, a bridge, rules, routes and firewall rules as an agent does, in a new network
/// namespace, which ends with the trial. The kernel loads modules for it as it would for the agent.
///
/// # Errors
/// No namespace can be made, for example without root, or the kernel does not answer in time. The error is a sentence.
pub fn trial(firewall: Firewall) -> Result<Trial, String> {
    let (report, result) = mpsc::channel();
    let inside = move || {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|error| format!("cannot make a network namespace: {}", error.desc()))?;
        let dir = Scratch::new()?;
        Ok(try_all(firewall, dir.0.clone()))
    };
    // A thread that hangs in the kernel ends with the program.
    thread::spawn(move || report.send(inside()));
    result.recv_timeout(LIMIT).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => format!("the trial took more than {} s", LIMIT.as_secs()),
            RecvTimeoutError::Disconnected => "the trial failed".to_owned(),
        })
    })
}

fn try_all(firewall: Firewall, dir: PathBuf) -> Trial {
    let veth = error_of(request::veth("veth0", "veth1"));
    let desired = sample(firewall, dir);
    let report = reconcile_once(&desired);
    let mut problems = Problem::texts(&report.host);
    for text in report.overlays.into_values() {
        // The VXLAN device's failure is the host's and the overlay's.
        if !problems.iter().any(|known| text.contains(known.as_str())) {
            problems.push(text);
        }
    }
    problems.dedup();
    Trial {
        problems,
        veth,
        nexthop: try_nexthop(),
    }
}

/// Makes a nexthop object on the VXLAN device, if there is one.
fn try_nexthop() -> Option<String> {
    let index = nix::net::if_::if_nametoindex(VTEP).ok()?;
    let op = Op::AddNexthop(VTEP.into(), [44, 128, 0, 2].into());
    let request = request::request(&op, index)?;
    error_of(request)
}

/// Carries out a request, and returns the kernel's error.
fn error_of(request: Request) -> Option<String> {
    let result = ask("an answer", async |netlink| {
        let results = netlink.execute(vec![request]).await;
        let error = results.into_iter().find_map(Result::err);
        Ok::<_, Error>(error.map(|error| error.to_string()))
    });
    result.unwrap_or_else(Some)
}

/// Name of the VXLAN device.
const VTEP: &str = "vtep1024";

/// Returns the desired state of an agent with one overlay and one peer.
fn sample(firewall: Firewall, dir: PathBuf) -> Desired {
    let net = |a: u8, b: u8, c: u8, d: u8, prefix| {
        IpNet::new([a, b, c, d].into(), prefix).unwrap_or_default()
    };
    let overlay = Overlay {
        ranges: vec![net(9, 0, 0, 0, 8)],
        subnets: vec![net(9, 0, 0, 0, 24)],
        mesos_bridge: Some(Bridge {
            name: "m-dcos".to_owned(),
            subnets: vec![net(9, 0, 0, 0, 25)],
        }),
        docker_bridge: None,
        mtu: 1420,
    };
    let peer = Peer {
        vtep_ips: vec![[44, 128, 0, 2].into()],
        vtep_mac: Mac([0x70, 0xb3, 0xd5, 0x80, 0, 2]),
        subnets: vec![net(9, 0, 1, 0, 24)],
    };
    Desired {
        cni: Cni {
            dir,
            ..Cni::default()
        },
        firewall,
        vtep: Some(Vtep {
            name: VTEP.to_owned(),
            vni: 1024,
            mac: Mac([0x70, 0xb3, 0xd5, 0x80, 0, 1]),
            addresses: vec![net(44, 128, 0, 1, 20)],
            mtu: Some(1450),
        }),
        overlays: BTreeMap::from([("dcos".to_owned(), overlay)]),
        peers: Some(Arc::new(BTreeMap::from([(
            [192, 0, 2, 2].into(),
            Arc::new(peer),
        )]))),
        ..Desired::default()
    }
}

/// Directory for the CNI configuration, which is removed when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, String> {
        let name = format!("mesos-overlay-check-{:016x}", fastrand::u64(..));
        let dir = std::env::temp_dir().join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|error| format!("cannot make the directory {}: {error}", dir.display()))?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
