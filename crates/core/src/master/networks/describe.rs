//! Short descriptions of networks, for the log.

use std::fmt::Write;

use crate::proto;

/// Describes an overlay, such as `9.0.0.0/8 in /24, fd01:b::/64 in /80, disabled`. Empty if
/// nothing but the name is known.
pub fn describe(info: &proto::OverlayInfo) -> String {
    let family = |subnet: &Option<String>, prefix: Option<u32>| {
        let mut text = subnet.clone()?;
        if let Some(prefix) = prefix {
            _ = write!(text, " in /{prefix}");
        }
        Some(text)
    };
    let v4 = family(&info.subnet, info.prefix);
    let v6 = family(&info.subnet6, info.prefix6);
    let disabled = (!info.enabled()).then(|| "disabled".to_owned());
    let parts: Vec<String> = [v4, v6, disabled].into_iter().flatten().collect();
    parts.join(", ")
}

/// Describes the differences between the networks that the last leader wrote and those in
/// force, one phrase each.
pub fn differences(before: &proto::NetworkConfig, now: &proto::NetworkConfig) -> Vec<String> {
    let mut differences = setting_differences(before, now);
    let find = |network: &proto::NetworkConfig, name: &str| {
        let mut overlays = network.overlays.iter();
        overlays.find(|overlay| overlay.name == name).map(describe)
    };
    for overlay in &before.overlays {
        let name = &overlay.name;
        let was = describe(overlay);
        match find(now, name) {
            None => differences.push(format!("overlay {name} ({was}) is not there any more")),
            Some(is) if is != was => {
                differences.push(format!("overlay {name} was {was} and is {is}"));
            }
            Some(_) => {}
        }
    }
    let is_new = |overlay: &&proto::OverlayInfo| find(before, &overlay.name).is_none();
    let new = now.overlays.iter().filter(is_new);
    differences.extend(
        new.map(|overlay| format!("overlay {} ({}) is new", overlay.name, describe(overlay))),
    );
    differences
}

fn setting_differences(before: &proto::NetworkConfig, now: &proto::NetworkConfig) -> Vec<String> {
    let settings = |network: &proto::NetworkConfig| {
        let none = || "none".to_owned();
        [
            ("vtep_subnet", network.vtep_subnet.clone()),
            (
                "vtep_subnet6",
                network.vtep_subnet6.clone().unwrap_or_else(none),
            ),
            ("vtep_mac_oui", network.vtep_mac_oui.to_ascii_lowercase()),
            (
                "vtep_mtu",
                network.vtep_mtu.map_or_else(none, |mtu| mtu.to_string()),
            ),
        ]
    };
    let pairs = settings(before).into_iter().zip(settings(now));
    pairs
        .filter(|((_, before), (_, now))| before != now)
        .map(|((key, before), (_, now))| format!("{key} was {before} and is {now}"))
        .collect()
}
