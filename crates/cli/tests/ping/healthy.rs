//! A cluster in which all is well.

use serde_json::Value;

use crate::bed::Bed;

/// Returns path and address of everything that was probed.
fn probed(json: &Value) -> Vec<(String, String)> {
    let peers = json["probed"].as_array().unwrap().iter();
    let paths = peers.flat_map(|peer| peer["paths"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    paths
        .map(|path| (text(&path["path"]), text(&path["address"])))
        .collect()
}

#[test]
fn every_path_is_probed_and_nothing_is_wrong() {
    let Some(bed) = Bed::start("every_path_is_probed_and_nothing_is_wrong", 3) else {
        return;
    };
    let json = bed.finds(&["ping"], &[]).json().unwrap();
    let own = json["this_agent"].as_str().unwrap();
    assert_eq!(own, "10.77.1.1");
    assert_eq!(json["peers"], 2);
    let paths = probed(&json);
    assert_eq!(paths.len(), 2 * 5, "{json:#}");
    for peer in json["probed"].as_array().unwrap() {
        let sizes = peer["paths"].as_array().unwrap().iter().map(|path| {
            assert!(path["round_trip_ms"].as_f64().unwrap() > 0.0, "{path}");
            assert_eq!(path["large"]["passes"], true, "{path}");
            path["large"]["bytes"].as_u64().unwrap()
        });
        assert_eq!(sizes.collect::<Vec<_>>(), [1500, 1450, 1450, 1420, 1420]);
    }
    // The path of a container: its gateway is the source.
    let gateway = &json["probed"][0]["paths"][3];
    assert_eq!(gateway["path"], "overlay");
    let subnet = |ip: &Value| ip.as_str().unwrap().rsplit_once('.').unwrap().0.to_owned();
    assert_ne!(subnet(&gateway["source"]), subnet(&gateway["address"]));
    let source = gateway["source"].as_str().unwrap();
    assert!(bed.on(0, "ip address show dev m-dcos").contains(source));

    let v4 = bed.finds(&["ping", "-4", "10.77.1.2"], &[]).json().unwrap();
    let paths: Vec<String> = probed(&v4).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["underlay", "vtep", "overlay"]);
    let v6 = bed
        .finds(&["ping", "--ipv6", "10.77.1.3"], &[])
        .json()
        .unwrap();
    let addresses: Vec<String> = probed(&v6).into_iter().map(|(_, ip)| ip).collect();
    assert_eq!(addresses[0], "10.77.1.3");
    assert!(addresses[1..].iter().all(|ip| ip.starts_with("fd01:")));
    assert_eq!(addresses.len(), 3);

    let other = bed
        .finds(&["ping", "--size", "900", "--count", "3"], &[])
        .json()
        .unwrap();
    assert_eq!(other["probed"][0]["paths"][0]["sent"], 3);
    assert_eq!(other["probed"][0]["paths"][0]["large"]["bytes"], 950);

    let page = bed.program(0).run(&["ping"]).unwrap();
    assert!(page.stdout.contains("Nothing is wrong."), "{page}");
    assert!(page.stdout.contains("dcos IPv6"), "{page}");
}

#[test]
fn agents_are_found_by_any_of_their_addresses() {
    let Some(bed) = Bed::start("agents_are_found_by_any_of_their_addresses", 2) else {
        return;
    };
    let overlay = bed.overlay(1);
    let vtep = overlay["backend"]["vxlan"]["vtep_ip"].as_str().unwrap();
    let (vtep, _) = vtep.split_once('/').unwrap();
    let subnet = overlay["subnet"].as_str().unwrap();
    let gateway = subnet.replace(".0/24", ".1");
    for name in ["10.77.1.2", vtep, &gateway] {
        let json = bed.finds(&["ping", name], &[]).json().unwrap();
        assert_eq!(json["probed"][0]["agent"], "10.77.1.2");
        assert_eq!(probed(&json).len(), 5, "{json:#}");
    }
    for (name, said) in [
        ("9.200.0.7", "in the range 9.0.0.0/8 of the overlay dcos"),
        ("44.128.9.9", "in the range 44.128.0.0/20 of the VTEPs"),
        ("192.0.2.1", "no address of an agent"),
        ("10.77.1.1", "of this host itself"),
        ("no-such-host.invalid", "no agent has the name"),
    ] {
        let refused = bed.program(0).run(&["ping", name]).unwrap();
        assert_eq!(refused.code(), Some(2), "{refused}");
        assert!(refused.stderr.contains(said), "{refused}");
    }
    let nobody = bed.program(0).as_nobody().run(&["ping"]).unwrap();
    assert_eq!(nobody.code(), Some(2), "{nobody}");
    assert!(nobody.stderr.contains("ping_group_range"), "{nobody}");
    let group = "net.ipv4.ping_group_range=65534 65534";
    bed.host(0).run("sysctl", &["-qw", group]).unwrap();
    let nobody = bed.program(0).as_nobody();
    let outcome = nobody.ask(&["ping", "--master", "10.77.0.1:5050"]).unwrap();
    assert!(outcome.codes().unwrap().is_empty(), "{outcome}");
    assert_eq!(probed(&outcome.json().unwrap()).len(), 5, "{outcome}");
}

#[test]
fn without_a_master_the_kernel_knows_the_peers() {
    let Some(mut bed) = Bed::start("without_a_master_the_kernel_knows_the_peers", 3) else {
        return;
    };
    let before = probed(&bed.finds(&["ping"], &[]).json().unwrap());
    bed.cluster.master.kill().unwrap();
    let json = bed.finds(&["ping"], &[]).json().unwrap();
    assert_eq!(json["master"], Value::Null);
    let note = json["notes"][0].as_str().unwrap();
    assert!(note.starts_with("no master was asked"), "{note}");
    let sorted = |mut paths: Vec<(String, String)>| {
        paths.sort();
        paths
    };
    assert_eq!(sorted(probed(&json)), sorted(before));
}
