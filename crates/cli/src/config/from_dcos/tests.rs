//! Conversions of configurations as DC/OS's documentation has them for 1.8 to 2.2, and what is
//! found in bad ones.

use std::fs;
use std::path::{Path, PathBuf};

use overlay_core::config::{agent, master};
use serde_json::json;

use super::*;

fn converted(text: &str, role: Role, layout: Layout) -> Conversion {
    convert_text(text, "config.yaml", role, layout)
}

/// Returns the codes and messages of what is found.
fn found(text: &str) -> Vec<(&'static str, String)> {
    let conversion = converted(text, Role::Master, Layout::Dcos);
    let findings = conversion.findings.into_iter();
    findings
        .map(|finding| (finding.code, finding.message))
        .collect()
}

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert");
    let entries = fs::read_dir(directory).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    files
}

/// Returns what is compared of a conversion.
fn summary(conversion: &Conversion) -> Value {
    let files = conversion.files.iter();
    let files = files.map(|file| (file.path.clone(), file.content.clone()));
    let found = conversion.findings.iter();
    let found: Vec<_> = found
        .map(|finding| {
            format!(
                "{}: {}: {}",
                finding.subject.as_deref().unwrap_or_default(),
                finding.code,
                finding.message
            )
        })
        .collect();
    let differences = conversion
        .differences
        .iter()
        .map(|difference| &difference.reason);
    json!({
        "files": files.collect::<serde_json::Map<_, _>>(),
        "found": found,
        "differences": differences.collect::<Vec<_>>(),
        "notes": conversion.notes,
    })
}

/// `UPDATE_CONVERTED=1` rewrites the expected files; read the difference.
#[test]
fn configurations_of_every_release_are_converted() {
    let cases = cases();
    assert!(cases.len() >= 7);
    for case in cases {
        let text = fs::read_to_string(&case).unwrap();
        let roles = [
            ("dcos master", Role::Master, Layout::Dcos),
            ("dcos agent", Role::Agent, Layout::Dcos),
            ("clusterd agent-master", Role::AgentMaster, Layout::Clusterd),
            ("clusterd agent", Role::Agent, Layout::Clusterd),
        ];
        let mut all = serde_json::Map::new();
        for (name, role, layout) in roles {
            let conversion = converted(&text, role, layout);
            all.insert(name.to_owned(), summary(&conversion));
            for file in &conversion.files {
                check_parsed(file);
            }
        }
        let converted = place::text(&Value::Object(all));
        let expected = case.with_extension("json");
        if std::env::var_os("UPDATE_CONVERTED").is_some() {
            fs::write(&expected, &converted).unwrap();
        }
        let expected = fs::read_to_string(expected).unwrap_or_default();
        assert_eq!(converted, expected, "{}", case.display());
    }
}

/// Checks that a module takes its file without a word.
fn check_parsed(file: &ConvertedFile) {
    let (path, text) = (&file.path, file.content.to_string());
    let warnings = match Path::new(path).file_name().unwrap().to_str().unwrap() {
        "master.json" => master::parse(path, &text).unwrap().warnings,
        "agent.json" | "agent-master.json" => agent::parse(path, &text).unwrap().warnings,
        _ => {
            assert_eq!(file.content["libraries"].as_array().unwrap().len(), 1);
            return;
        }
    };
    let warnings: Vec<_> = warnings
        .into_iter()
        .filter(|warning| !warning.contains("works within a host only"))
        .collect();
    assert_eq!(warnings, [""; 0], "{path}");
}

/// Returns a configuration with networks that have one entry more or another one.
fn with(entries: &str) -> String {
    let base = "  vtep_subnet: 44.128.0.0/20\n  vtep_subnet6: fd01:a::/64\n  vtep_mac_oui: 70:B3:D5:00:00:00\n";
    let mut lines: Vec<&str> = base.lines().collect();
    let key = |line: &str| {
        line.trim_start()
            .split(':')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    lines.retain(|line| {
        !entries
            .lines()
            .any(|entry| key(entry) == key(line) && !entry.starts_with("   "))
    });
    let overlays = match entries.contains("overlays:") {
        true => "",
        false => "  overlays: [{name: dcos, subnet: 9.0.0.0/8, prefix: 24}]\n",
    };
    format!(
        "dcos_overlay_network:\n{}\n{entries}\n{overlays}",
        lines.join("\n")
    )
}

#[test]
fn mistakes_that_the_generator_does_not_find_are_found() {
    let table = [
        (
            with(
                "  overlays:\n  - {name: dcos, subnet: 9.0.0.0/8, prefix: 24}\n  - {name: b, subnet: 9.1.0.0/16, prefix: 24}",
            ),
            "dcos_overlay_network.overlays[1].subnet: \"9.1.0.0/16\" overlaps dcos_overlay_network.overlays[0].subnet, 9.0.0.0/8",
        ),
        (
            with("  overlays: [{name: dcos, subnet: 44.128.0.0/16, prefix: 24}]"),
            "dcos_overlay_network.vtep_subnet: \"44.128.0.0/20\" overlaps dcos_overlay_network.overlays[0].subnet, 44.128.0.0/16",
        ),
        (
            with("  overlays: [{name: dcos, subnet: 9.0.0.0/8}]"),
            "dcos_overlay_network.overlays[0].prefix: missing",
        ),
        (
            with("  overlays: [{name: dcos, subnet: 9.0.0.0/8, prefix: 7}]"),
            "dcos_overlay_network.overlays[0].prefix: 7 is shorter than the prefix of 9.0.0.0/8",
        ),
        (
            with("  overlays: [{name: dcos, subnet: 9.0.0.0/8, prefix: 32}]"),
            "dcos_overlay_network.overlays[0].prefix: 32 is too long to divide the subnet between two bridges",
        ),
        (
            with("  overlays: [{name: host, subnet: 9.0.0.0/8, prefix: 24}]"),
            "dcos_overlay_network.overlays[0].name: \"host\" is reserved by Docker",
        ),
        (
            with("  overlays: [{name: no, subnet: 9.0.0.0/8, prefix: 24}]"),
            "dcos_overlay_network.overlays[0].name: no without quotes is the value false in YAML 1.1",
        ),
        (
            with("  vtep_mac_oui: 70:10:20:00:00:00"),
            "dcos_overlay_network.vtep_mac_oui: 70:10:20:00:00:00 without quotes is the number 54565920000 in YAML 1.1",
        ),
        (
            with("  vtep_mac_oui: 70:B3:D5"),
            "dcos_overlay_network.vtep_mac_oui: \"70:B3:D5\" is not a MAC address",
        ),
        (
            with("  vtep_mtu: 70000"),
            "dcos_overlay_network.vtep_mtu: 70000 is out of range",
        ),
        (
            "dcos_overlay_mtu: 551\n".to_owned(),
            "dcos_overlay_mtu: 551 is out of range",
        ),
        (
            "dcos_overlay_enable: maybe\n".to_owned(),
            "dcos_overlay_enable is neither true nor false: \"maybe\"",
        ),
        (
            "dcos_overlay_network: '{'\n".to_owned(),
            "dcos_overlay_network: \"{\" is not an object",
        ),
        (
            "- a\n".to_owned(),
            "line 1, column 1: the file has a list instead of keys",
        ),
        ("a: [\n".to_owned(), "line 2, column 1: this is no YAML"),
    ];
    for (text, message) in table {
        let found = found(&text);
        assert!(
            found
                .iter()
                .any(|(code, found)| *code == "config-invalid" && found.starts_with(message)),
            "{message}\nis not in {found:#?}\n{text}"
        );
        assert!(
            converted(&text, Role::Master, Layout::Dcos)
                .files
                .is_empty(),
            "{text}"
        );
    }
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let table = [
        (with("  vtep_mtu: 1400"), "mtu-contradiction", "dcos_overlay_mtu: containers would send 1420 bytes into a tunnel with an MTU of 1400"),
        (with("  overlays: [{name: dcos, subnet6: 'fd01:b::/64', prefix6: 80}]") + "\ndcos_overlay_mtu: 1279\n", "overlay-unusable", "dcos_overlay_mtu: 1279 is too small for IPv6"),
        (with("  overlays: [{name: dcos, subnet: 9.0.0.0/8, prefix: 30}]"), "config-doubtful", "dcos_overlay_network.overlays[0].prefix: 30 leaves no address for a container, because"),
        (with("  overlays: [{name: dcos, subnet: 9.0.0.0/8, prefix: 31}]"), "config-doubtful", "dcos_overlay_network.overlays[0].prefix: 31 leaves no address"),
        (with("  overlays: [{name: dcos, subnet: 172.16.0.0/12, prefix: 24}]"), "dcos-range-overlap", "dcos_overlay_network.overlays[0].subnet: 172.16.0.0/12 overlaps dcos_ucr_default_bridge_subnet, 172.31.254.0/24"),
        (with("  vtep_sbnet: 1.2.3.0/24"), "config-doubtful", "dcos_overlay_network.vtep_sbnet: unknown key, ignored"),
        ("dcos_overlay_mtu: 1300\ndcos_overlay_mtu: 1400\n".to_owned(), "config-doubtful", "dcos_overlay_mtu is given twice, and the last one is used"),
        ("dcos_overlay_network: '{\"vtep_subnet\": \"44.128.0.0/20\", \"vtep_subnet\": \"44.128.0.0/20\", \"vtep_mac_oui\": \"70:B3:D5:00:00:00\", \"overlays\": []}'".to_owned(), "config-doubtful", "dcos_overlay_network.vtep_subnet is given twice"),
    ];
    for (text, code, message) in table {
        let found = found(&text);
        assert!(
            found
                .iter()
                .any(|(found, says)| *found == code && says.starts_with(message)),
            "{message}\nis not in {found:#?}\n{text}"
        );
        assert!(
            !converted(&text, Role::Master, Layout::Dcos)
                .files
                .is_empty(),
            "{text}"
        );
    }
}

#[test]
fn differences_from_the_generator_are_told() {
    let table = [
        (
            "dcos_overlay_config_attempts: 11\n".to_owned(),
            false,
            "is more than 10",
        ),
        (
            "enable_ipv6: false\n".to_owned(),
            false,
            "must be false, too",
        ),
        (
            "dcos_overlay_network_default_name: web\n".to_owned(),
            false,
            "names no overlay",
        ),
        ("cluster_name:\n".to_owned(), false, "has no value"),
        (
            with("  overlays: [{name: dcos, subnet: 172.16/12, prefix: 24}]"),
            false,
            "is not an IPv4 network: \"172.16/12\"",
        ),
        (
            with("  overlays: [{name: dcos, subnet: 172.16.0.0/12, prefix: 24}]"),
            false,
            "overlaps calico_network_cidr",
        ),
        (
            with("  vtep_mac_oui: 70:10:20:00:00:00"),
            true,
            "the modules do not start with it",
        ),
        (
            with("  overlays: [{name: dcos, subnet: 9.0.0.0/255.0.0.0, prefix: 24}]"),
            true,
            "the modules do not start",
        ),
    ];
    for (text, dcos_accepts, reason) in table {
        let conversion = converted(&text, Role::Master, Layout::Dcos);
        assert_eq!(conversion.dcos_accepts, dcos_accepts, "{text}");
        assert!(
            conversion.differences.iter().any(|difference| {
                difference.dcos_accepts == dcos_accepts && difference.reason.contains(reason)
            }),
            "{reason}: {:?}",
            conversion.differences
        );
    }
    let both = "dcos_overlay_mtu: 100\n";
    let conversion = converted(both, Role::Master, Layout::Dcos);
    assert!(!conversion.dcos_accepts && conversion.differences.is_empty());
}

#[test]
fn findings_name_the_line() {
    let text = "a: 1\ndcos_overlay_network:\n  vtep_subnet: 44.128.0.0/20\n  vtep_mac_oui: 70:B3:D5:00:00:00\n  overlays:\n    - name: dcos\n      subnet: 9.0.0.1/8\n      prefix: 24\n";
    let conversion = converted(text, Role::Master, Layout::Dcos);
    let [finding] = conversion.findings.as_slice() else {
        panic!("{:?}", conversion.findings)
    };
    assert_eq!(finding.subject.as_deref(), Some("config.yaml:7"));
    assert_eq!(finding.remedy, "write \"9.0.0.0/8\" if that is meant");
}

#[test]
fn files_are_written_once_and_never_over_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("etc/mesos/overlay");
    let write = |text: &str| {
        let mut conversion = converted(text, Role::Master, Layout::Clusterd);
        conversion.write_files(directory.path()).unwrap();
        let states: Vec<_> = conversion
            .files
            .iter()
            .filter_map(|file| file.state)
            .collect();
        (states, conversion.findings)
    };
    use place::State;
    let (states, findings) = write("a: 1\n");
    assert_eq!(states, [State::Written, State::Written]);
    assert!(findings.is_empty(), "{findings:?}");
    let names = || {
        let entries = fs::read_dir(&path).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["master.json", "modules-master.json"]);
    assert_eq!(write("a: 1\n").0, [State::Unchanged, State::Unchanged]);

    fs::remove_file(path.join("modules-master.json")).unwrap();
    let before = fs::read(path.join("master.json")).unwrap();
    let (states, findings) = write(&with("  vtep_subnet: 44.128.0.0/16"));
    assert_eq!(states, [State::Different, State::NotWritten]);
    assert_eq!(findings[0].code, "file-in-place");
    assert_eq!(fs::read(path.join("master.json")).unwrap(), before);
    assert_eq!(names(), ["master.json"]);

    let mut conversion = converted("a: 1\n", Role::Master, Layout::Clusterd);
    let missing = directory.path().join("none");
    assert!(
        conversion
            .write_files(&missing)
            .unwrap_err()
            .0
            .contains("is no directory")
    );
}

#[test]
fn a_list_of_modules_is_found_if_the_modules_are_off() {
    let directory = tempfile::tempdir().unwrap();
    let list = Layout::Clusterd.list_of_modules(Role::Agent);
    let look = || {
        let text = "dcos_overlay_enable: false\n";
        let mut conversion = converted(text, Role::Agent, Layout::Clusterd);
        conversion.write_files(directory.path()).unwrap();
        conversion.look_for_list(directory.path(), list);
        conversion.findings
    };
    assert_eq!(look().len(), 0);
    let path = directory.path().join(&list[1..]);
    fs::write(&path, "{}").unwrap();
    let findings = look();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].code, "file-in-place");
    assert_eq!(findings[0].subject, Some(path.display().to_string()));
    let mut on = converted("a: 1\n", Role::Agent, Layout::Clusterd);
    on.look_for_list(directory.path(), list);
    assert_eq!(on.findings.len(), 0);
}

#[test]
fn an_error_names_what_was_written_before() {
    let directory = tempfile::tempdir().unwrap();
    let etc = directory.path().join("opt/mesosphere/etc");
    fs::create_dir_all(&etc).unwrap();
    std::os::unix::fs::symlink("/none/none", etc.join("mesos-slave-modules")).unwrap();
    let mut conversion = converted("a: 1\n", Role::Agent, Layout::Dcos);
    let error = conversion.write_files(directory.path()).unwrap_err().0;
    let written = etc.join("overlay/config/agent.json");
    let written = format!("; already written: {}", written.display());
    assert!(error.ends_with(&written), "{error}");
}

#[test]
fn a_name_that_begins_like_another_one_is_another_one() {
    assert!(!is_same("net.vtep_subnet6", "net.vtep_subnet"));
    assert!(is_same("net.overlays[0].name", "net.overlays"));
    assert!(is_same("net", "net.overlays[0]") && is_same("net", "net"));
}

proptest::proptest! {
    /// Whatever a configuration has, the command ends with files or with a mistake.
    #[test]
    fn no_configuration_is_too_strange(text in "(dcos_overlay_network|dcos_overlay_mtu|enable_ipv6|dcos_overlay_enable): [-\\[\\]{}a-z0-9:,./'\"& *\n]{0,60}") {
        let conversion = converted(&text, Role::Agent, Layout::Clusterd);
        let is_invalid = conversion.findings.iter().any(|finding| finding.code == "config-invalid");
        assert_eq!(conversion.files.is_empty(), is_invalid);
    }
}
