//! Hosts on which overlays cannot have IPv6.

use super::*;

/// Agent 1, whose containers have both families, without a configured MTU.
fn agent() -> Desired {
    let mut desired = desired(&[2]);
    desired.vtep.as_mut().unwrap().mtu = None;
    desired.fit_mtu = true;
    let overlay = desired.overlays.get_mut("dcos").unwrap();
    let bridge = overlay.mesos_bridge.as_mut().unwrap();
    bridge.subnets.push(net("fd01:b:0:0:1::/81"));
    desired
}

fn on_underlay(mtu: u32) -> Observed {
    Observed {
        underlay: Some(Underlay::of_device(2, "eth0", mtu)),
        ..bare()
    }
}

/// Asserts that a plan works with IPv4 alone, and returns its reason.
fn ipv4_alone(desired: &Desired, observed: &Observed) -> String {
    let mut observed = observed.clone();
    let plan = plan(desired, &observed);
    for line in lines(&plan) {
        assert!(!line.contains("fd01") && !line.contains("IPv6"), "{line}");
    }
    assert!(lines(&plan).contains(&"add route 9.0.2.0/24 via 44.128.0.2 dev vtep1024".to_owned()));
    apply(&plan, &mut observed);
    let file = String::from_utf8(observed.cni.as_ref().unwrap()["dcos"].content.clone()).unwrap();
    assert!(
        file.contains("9.0.1.0/25") && !file.contains("fd01"),
        "{file}"
    );
    assert_eq!(lines(&super::plan(desired, &observed)), [""; 0]);
    plan.ipv6_fault.expect("no fault")
}

#[test]
fn without_room_for_ipv6_the_overlays_have_ipv4() {
    let sentence = ipv4_alone(&agent(), &on_underlay(1329));
    assert!(
        sentence.contains("MTU of eth0 is 1329") && sentence.contains("enable_ipv6: false"),
        "{sentence}"
    );
    assert_eq!(plan(&agent(), &on_underlay(1330)).ipv6_fault, None);
    let mut configured = agent();
    configured.vtep.as_mut().unwrap().mtu = Some(1279);
    let sentence = ipv4_alone(&configured, &on_underlay(1500));
    assert!(sentence.contains("vtep_mtu is 1279"), "{sentence}");
    configured.vtep.as_mut().unwrap().mtu = Some(1280);
    assert_eq!(plan(&configured, &on_underlay(1300)).ipv6_fault, None);
}

#[test]
fn a_host_without_ipv6_has_overlays_with_ipv4() {
    let observed = Observed {
        ipv6_obstacle: Some("the kernel has no IPv6".into()),
        ..bare()
    };
    let sentence = ipv4_alone(&agent(), &observed);
    assert!(
        sentence.contains("since the kernel has no IPv6; "),
        "{sentence}"
    );
    let mut v4 = agent();
    v4.vtep.as_mut().unwrap().addresses.truncate(1);
    assert_eq!(plan(&v4, &observed).ipv6_fault, None, "nobody wants it");
    let external = Desired {
        backend: Backend::External,
        ..agent()
    };
    assert_eq!(plan(&external, &observed).ipv6_fault, None);
}

/// The CNI plugin would fail for both families.
#[test]
fn containers_with_a_small_mtu_have_ipv4_alone() {
    let mut desired = agent();
    desired.fit_mtu = false;
    for (mtu, has_ipv6) in [(1280, true), (1279, false)] {
        desired.overlays.get_mut("dcos").unwrap().mtu = mtu;
        let plan = plan(&desired, &on_underlay(1500));
        let mut observed = on_underlay(1500);
        apply(&plan, &mut observed);
        let content = observed.cni.unwrap()["dcos"].content.clone();
        let file = String::from_utf8(content).unwrap();
        assert_eq!(file.contains("fd01"), has_ipv6, "{file}");
        assert_eq!(plan.overlay_faults.is_empty(), has_ipv6);
        assert_eq!(plan.ipv6_fault, None);
    }
}

#[test]
fn devices_get_ipv6_back() {
    let desired = agent();
    let mut observed = on_underlay(1500);
    observed.defaults.is_without_ipv6 = true;
    let made = lines(&plan(&desired, &observed));
    let position = |line: &str| made.iter().position(|made| made == line).expect(line);
    let turned_on = position("turn on IPv6 of device vtep1024");
    assert!(position("add address fd01:a::1/64 dev vtep1024") > turned_on);
    let turned_on = position("turn on IPv6 of device m-dcos");
    assert!(position("add address fd01:b::1:0:0:1/81 dev m-dcos") > turned_on);
    apply(&plan(&desired, &observed), &mut observed);
    assert_eq!(plan(&desired, &observed), Plan::default());
    device(&mut observed).is_without_ipv6 = true;
    assert_eq!(
        lines(&plan(&desired, &observed)),
        ["turn on IPv6 of device vtep1024"]
    );
}
