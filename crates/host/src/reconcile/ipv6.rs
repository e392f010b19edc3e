//! Hosts on which overlays cannot have IPv6. The overlays then work with IPv4 alone: whatever
//! would fail because of IPv6 would take IPv4 with it, for example every container that the CNI
//! plugin attaches.

use std::borrow::Cow;

use overlay_core::host_api::desired::{Backend, Desired, Overlay};
use overlay_core::util::family::Family;

use super::constants::VXLAN_OVERHEAD;
use super::observed::Observed;

/// The kernel turns IPv6 off on devices with a smaller MTU, in bytes (RFC 8200).
pub(super) const MIN_MTU: u32 = 1280;

/// What an operator does who does not need IPv6.
const WAY_OUT: &str = "or set enable_ipv6: false in the network_config of the agent";

/// Returns why the overlays cannot have IPv6 on this host, as a sentence.
pub(super) fn fault(desired: &Desired, observed: &Observed) -> Option<String> {
    let vtep = desired.vtep.as_ref()?;
    let has_ipv6 = vtep.addresses.iter().any(|own| Family::V6.includes(*own));
    if desired.backend == Backend::External || !has_ipv6 {
        return None;
    }
    if let Some(obstacle) = &observed.ipv6_obstacle {
        return Some(format!(
            "the overlays have no IPv6 on this host, since {obstacle}; change that, {WAY_OUT}"
        ));
    }
    if let Some(mtu @ ..MIN_MTU) = vtep.mtu {
        return Some(format!(
            "the overlays have no IPv6 on this host, since vtep_mtu is {mtu} and IPv6 needs {MIN_MTU}; raise it, \
             {WAY_OUT}"
        ));
    }
    let underlay = observed.underlay.as_ref().filter(|_| vtep.mtu.is_none())?;
    let least = MIN_MTU + VXLAN_OVERHEAD;
    (underlay.mtu < least).then(|| {
        format!(
            "the overlays have no IPv6 on this host, since the MTU of {} is {}, and IPv6 in a tunnel needs {least}; \
             raise it, {WAY_OUT}",
            underlay.narrowest(),
            underlay.mtu,
        )
    })
}

/// Returns the desired state without IPv6.
pub(crate) fn without(desired: &Desired) -> Desired {
    let mut desired = desired.clone();
    if let Some(vtep) = &mut desired.vtep {
        vtep.addresses.retain(|own| Family::V4.includes(*own));
    }
    for overlay in desired.overlays.values_mut() {
        overlay.ranges.retain(|net| Family::V4.includes(*net));
        overlay.subnets.retain(|net| Family::V4.includes(*net));
        let bridges = [&mut overlay.mesos_bridge, &mut overlay.docker_bridge];
        for bridge in bridges.into_iter().flatten() {
            bridge.subnets.retain(|net| Family::V4.includes(*net));
        }
    }
    desired
}

/// Takes IPv6 from Mesos's containers of overlays whose MTU is too small for it. `max_mtu` is the
/// largest MTU that fits into the underlay. Returns a sentence for each such overlay.
pub(super) fn strip_narrow(
    desired: &mut Cow<'_, Desired>,
    max_mtu: Option<u32>,
) -> Vec<(String, String)> {
    let fit = max_mtu.filter(|_| desired.fit_mtu).unwrap_or(u32::MAX);
    let is_narrow = |overlay: &Overlay| {
        let bridge = overlay.mesos_bridge.as_ref();
        let families =
            bridge.filter(|bridge| Family::BOTH.iter().all(|family| bridge.has(*family)));
        families.is_some() && overlay.mtu.min(fit) < MIN_MTU
    };
    let narrow = desired
        .overlays
        .iter()
        .filter(|(_, overlay)| is_narrow(overlay));
    let faults: Vec<(String, String)> = narrow
        .map(|(name, overlay)| {
            let sentence = format!(
                "Mesos's containers have no IPv6, since their MTU is {} and IPv6 needs {MIN_MTU}; raise overlay_mtu or \
                 the MTU of the underlay, {WAY_OUT}",
                overlay.mtu.min(fit)
            );
            (name.clone(), sentence)
        })
        .collect();
    for (name, _) in &faults {
        let overlay = desired.to_mut().overlays.get_mut(name);
        if let Some(bridge) = overlay.and_then(|overlay| overlay.mesos_bridge.as_mut()) {
            bridge.subnets.retain(|net| Family::V4.includes(*net));
        }
    }
    faults
}
