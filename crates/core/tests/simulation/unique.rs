//! Check that agents share nothing.

use std::collections::BTreeMap;

use ipnet::IpNet;
use overlay_core::proto::AgentInfo;

/// Checks that no two agents share a subnet, VTEP address or MAC address.
pub fn unique<'a>(agents: impl Iterator<Item = &'a AgentInfo>) -> Result<(), String> {
    let mut subnets: Vec<(IpNet, &str)> = Vec::new();
    let mut vteps: BTreeMap<&str, &str> = BTreeMap::new();
    for agent in agents {
        for overlay in &agent.overlays {
            for subnet in [&overlay.subnet, &overlay.subnet6].into_iter().flatten() {
                subnets.push((
                    subnet
                        .parse()
                        .map_err(|_| format!("not a subnet: {subnet}"))?,
                    &agent.ip,
                ));
            }
            let vxlan = overlay
                .backend
                .vxlan
                .as_ref()
                .ok_or("an overlay without VTEP is in the log")?;
            for key in [
                Some(&vxlan.vtep_ip),
                vxlan.vtep_ip6.as_ref(),
                Some(&vxlan.vtep_mac),
            ]
            .into_iter()
            .flatten()
            {
                let owner = vteps.entry(key).or_insert(&agent.ip);
                if *owner != agent.ip {
                    return Err(format!("{} and {owner} share {key}", agent.ip));
                }
            }
        }
    }
    subnets.sort();
    for pair in subnets.windows(2) {
        let ((a, owner), (b, other)) = (pair[0], pair[1]);
        if a.contains(&b) {
            return Err(format!("{owner} has {a} and {other} has {b}"));
        }
    }
    Ok(())
}
