//! Meaning of the kernel's errors.

use nix::errno::Errno;
use overlay_core::host_api::desired::VXLAN_PORT;

use crate::kernel::netlink::Error;
use crate::reconcile::{DeviceChange, Op};

/// Returns why an operation failed, and the way out where the kernel's words do not tell it.
pub(super) fn reason(op: &Op, error: &Error) -> String {
    let opens_port = matches!(op, Op::AddDevice(_) | Op::SetDevice(_, DeviceChange::Up));
    match (op, error.errno()) {
        (_, Some(Errno::EADDRINUSE)) if opens_port => format!(
            "UDP port {VXLAN_PORT} is in use by another program (ss -lunp sport = :{VXLAN_PORT} names it); end that \
             program, and add {VXLAN_PORT} to the sysctl net.ipv4.ip_local_reserved_ports, so that no program gets \
             the port by chance"
        ),
        (Op::SetDevice(device, DeviceChange::Local(_)), Some(Errno::EOPNOTSUPP)) => format!(
            "this kernel does not change it; remove the device (ip link delete {device}), which is then created anew"
        ),
        _ => error.to_string(),
    }
}

/// Returns whether the failure of an operation leaves nothing to do.
pub(super) fn is_harmless(op: &Op, error: &Error) -> bool {
    let absent = [
        Errno::ENOENT,
        Errno::ESRCH,
        Errno::ENODEV,
        Errno::EADDRNOTAVAIL,
    ];
    match (op, error.errno()) {
        (Op::AddRule { .. }, Some(Errno::EEXIST)) => true,
        // Kernels before 4.12 refuse it. An FDB that learns does no harm beside permanent
        // entries.
        (Op::SetDevice(_, DeviceChange::NoLearning), Some(Errno::EOPNOTSUPP)) => {
            log::warn!("this kernel cannot {op}; the FDB will also contain learned entries");
            true
        }
        (op, Some(errno)) => op.removes() && absent.contains(&errno),
        _ => false,
    }
}

/// Returns whether an operation failed because somebody else created or removed the device
/// first.
pub(super) fn is_race(op: &Op, error: &Error) -> bool {
    match (op, error.errno()) {
        (Op::AddDevice(_) | Op::AddBridge(..), errno) => errno == Some(Errno::EEXIST),
        (Op::SetRoute(_, route), Some(Errno::EEXIST)) => !route.replaces,
        (op, errno) => op.device().is_some() && errno == Some(Errno::ENODEV),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::reconcile::samples::set_route;

    fn route(n: u8) -> Op {
        set_route(n.into(), "44.128.0.9")
    }

    fn refused(errno: Errno) -> Error {
        Error::Refused { errno, text: None }
    }

    #[test]
    fn absent_objects_need_no_removal_but_must_be_created() {
        let remove = Op::RemoveDevice("vtep1024".into());
        assert!(is_harmless(&remove, &refused(Errno::ENODEV)));
        assert!(!is_harmless(&remove, &refused(Errno::EPERM)));
        assert!(!is_harmless(&remove, &Error::NoAnswer("no answer")));
        assert!(!is_harmless(&route(1), &refused(Errno::ENODEV)));
        assert!(is_race(&route(1), &refused(Errno::ENODEV)));
        assert!(!is_race(&route(1), &refused(Errno::ENETUNREACH)));
        // Whose it is, is found out by looking again.
        assert!(is_race(&route(1), &refused(Errno::EEXIST)));
    }

    #[test]
    fn changes_by_others_are_races_or_harmless() {
        use crate::reconcile::NewDevice;
        let device: Arc<str> = "vtep1024".into();
        let new = NewDevice {
            name: device.clone(),
            vni: 1,
            port: 64000,
            local: None,
            mac: Default::default(),
            mtu: None,
        };
        let rule = Op::AddRule {
            overlay: "dcos".into(),
            from: "9.0.0.0/8".parse().unwrap(),
            table: 42,
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
            assert_eq!(is_harmless(op, &refused(errno)), fine, "{op}: {errno}");
            assert_eq!(is_race(op, &refused(errno)), race, "{op}: {errno}");
        }
        for errno in [
            Errno::ENOENT,
            Errno::ESRCH,
            Errno::ENODEV,
            Errno::EADDRNOTAVAIL,
        ] {
            assert!(
                is_harmless(&Op::RemoveDevice("vtep7".into()), &refused(errno)),
                "{errno}"
            );
        }
    }
}
