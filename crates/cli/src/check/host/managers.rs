//! Network managers: systemd-networkd and NetworkManager, which can take the overlays' devices for
//! their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use overlay_core::host_api::names::parse_bridge_name;

use super::Check;
use super::scene::Scene;
use crate::finding::Finding;
use crate::finding::kinds::host;

const NETWORKD: &str = "systemd-networkd";
const NETWORK_MANAGER: &str = "NetworkManager";

/// Directories of networkd's files. A file of the same name in an earlier one takes the place of those
/// in later ones.
const NETWORKD_FILES: [&str; 5] = [
    "etc/systemd/network",
    "run/systemd/network",
    "usr/local/lib/systemd/network",
    "usr/lib/systemd/network",
    "lib/systemd/network",
];
/// Our file for networkd.
const OUR_FILE: &str = "10-mesos-overlay.network";
/// Directories of NetworkManager's files, the least important one first.
const MANAGER_FILES: [&str; 3] = [
    "usr/lib/NetworkManager/conf.d",
    "run/NetworkManager/conf.d",
    "etc/NetworkManager/conf.d",
];
/// NetworkManager's own file, which comes before the last of its directories.
const MANAGER_FILE: &str = "etc/NetworkManager/NetworkManager.conf";

/// Device as network managers know it: name, and type in networkd's words.
struct Known {
    name: String,
    kind: &'static str,
}

/// Returns devices that stand for all of the overlays on this host, and the end of a container's
/// connection.
fn devices(scene: &Scene) -> Vec<Known> {
    let own = scene.own_devices().map(|device| Known {
        name: device.name.clone(),
        kind: if device.kind == "vxlan" {
            "vxlan"
        } else {
            "bridge"
        },
    });
    let mut devices: Vec<Known> = own.collect();
    if devices.is_empty() {
        for (name, kind) in [
            ("vtep1024", "vxlan"),
            ("m-dcos", "bridge"),
            ("d-dcos", "bridge"),
        ] {
            devices.push(Known {
                name: name.to_owned(),
                kind,
            });
        }
    }
    devices.push(Known {
        name: "veth01234567".to_owned(),
        kind: "ether",
    });
    devices
}

/// Looks whether systemd-networkd leaves the overlays' devices alone.
pub fn networkd(scene: &Scene) -> Check {
    if !scene.has_tunnel() {
        return Check::skipped(NETWORKD, "no agent on this host");
    }
    if !runs("systemd-network") {
        return Check::made(NETWORKD, "does not run", Vec::new());
    }
    let files = networks(&scene.root);
    let first = |device: &Known| files.iter().find(|file| file.matches(device));
    let known = devices(scene);
    let mut findings: Vec<Finding> = known
        .iter()
        .filter_map(|device| managed(device, first(device)?))
        .collect();
    let has_ours = files.iter().any(|file| file.path.ends_with(OUR_FILE));
    for bridge in foreign_bridges(scene) {
        let known = Known {
            name: bridge.clone(),
            kind: "bridge",
        };
        let is_lost = match first(&known) {
            Some(file) => file.is_unmanaged && file.path.ends_with(OUR_FILE),
            None => !has_ours,
        };
        if is_lost || !has_ours {
            findings.push(foreign(&bridge, NETWORKD));
        }
    }
    let ours = match has_ours {
        true => OUR_FILE,
        false => "no file of the overlays",
    };
    Check::made(NETWORKD, format!("runs, with {ours}"), findings)
}

/// Returns what networkd does to a device by the first file that matches it.
fn managed(device: &Known, file: &NetworkFile) -> Option<Finding> {
    if file.is_unmanaged {
        return None;
    }
    let (subject, what, ours) = match device.kind {
        "ether" => (
            "veth*",
            "the containers' devices (veth*) and takes them out of their bridges",
            "10-mesos-overlay-veth.network",
        ),
        _ => (
            device.name.as_str(),
            "this device of the overlays, and changes or removes its addresses and routes",
            OUR_FILE,
        ),
    };
    let message = format!("systemd-networkd manages by {} {what}", file.path.display());
    let remedy = format!("copy {ours} to /etc/systemd/network, and restart systemd-networkd");
    let finding = host::DEVICES_MANAGED.finding(message, remedy);
    Some(finding.about(subject))
}

/// Looks whether NetworkManager leaves the overlays' devices alone.
pub fn network_manager(scene: &Scene) -> Check {
    if !scene.has_tunnel() {
        return Check::skipped(NETWORK_MANAGER, "no agent on this host");
    }
    if !runs("NetworkManager") {
        return Check::made(NETWORK_MANAGER, "does not run", Vec::new());
    }
    let unmanaged = unmanaged_devices(&scene.root);
    let is_unmanaged = |device: &Known| {
        unmanaged
            .iter()
            .any(|specification| specifies(specification, device))
    };
    let devices = devices(scene);
    let mut managed = devices.iter();
    let managed = managed.find(|device| device.kind != "ether" && !is_unmanaged(device));
    let mut findings: Vec<Finding> = managed
        .map(|device| {
            let message = "NetworkManager is not told to leave this device of the overlays alone";
            let remedy = "copy 10-mesos-overlay.conf to /etc/NetworkManager/conf.d (where another file has unmanaged-devices=, write unmanaged-devices+= there), and restart NetworkManager";
            host::DEVICES_NOT_EXCLUDED.finding(message, remedy).about(&device.name)
        })
        .into_iter()
        .collect();
    for bridge in foreign_bridges(scene) {
        let known = Known {
            name: bridge.clone(),
            kind: "bridge",
        };
        if unmanaged.is_empty() || is_unmanaged(&known) {
            findings.push(foreign(&bridge, NETWORK_MANAGER));
        }
    }
    let seen = match unmanaged.is_empty() {
        true => "runs, and manages all devices".to_owned(),
        false => format!("runs, without {}", unmanaged.join(" ")),
    };
    Check::made(NETWORK_MANAGER, seen, findings)
}

/// Returns bridges that have names like those of the overlays, and are none.
fn foreign_bridges(scene: &Scene) -> Vec<String> {
    let own: Vec<&str> = scene.bridges().map(|bridge| bridge.name.as_str()).collect();
    let bridges = scene.devices.iter().flatten();
    let bridges = bridges.filter(|device| device.kind == "bridge");
    bridges
        .filter(|device| parse_bridge_name(&device.name).is_some())
        .filter(|device| !own.contains(&device.name.as_str()))
        .map(|device| device.name.clone())
        .collect()
}

fn foreign(bridge: &str, manager: &str) -> Finding {
    let message = format!(
        "this bridge is not an overlay's, but has a name like one: {manager} leaves it unmanaged where the files of mesos-overlay are installed"
    );
    let remedy = "write files that name the overlays' devices one by one, as install.md shows";
    host::FOREIGN_BRIDGE.finding(message, remedy).about(bridge)
}

/// Returns true if a program with this name (of at most 15 characters) runs in this network namespace.
fn runs(program: &str) -> bool {
    let own = fs::read_link("/proc/thread-self/ns/net").ok();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.any(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        // Another user may not see the namespace of root's programs.
        let namespace = fs::read_link(format!("/proc/{pid}/ns/net"));
        name.trim() == program && namespace.map_or(true, |found| Some(found) == own)
    })
}

/// File of networkd.
struct NetworkFile {
    path: PathBuf,
    /// Conditions of `[Match]`: keys and their words.
    conditions: Vec<(String, Vec<String>)>,
    /// `Unmanaged=` of `[Link]`.
    is_unmanaged: bool,
}

impl NetworkFile {
    fn read(path: &Path) -> Option<NetworkFile> {
        let text = fs::read_to_string(path).ok()?;
        let mut file = NetworkFile {
            path: path.to_owned(),
            conditions: Vec::new(),
            is_unmanaged: false,
        };
        for (section, key, value) in settings(&text) {
            match (section, key) {
                ("Match", key) => {
                    let words = value.split_whitespace().map(str::to_owned).collect();
                    file.conditions.push((key.to_owned(), words));
                }
                ("Link", "Unmanaged") => {
                    file.is_unmanaged = ["yes", "true", "on", "1"].contains(&value);
                }
                _ => {}
            }
        }
        (!text.trim().is_empty()).then_some(file)
    }

    /// Returns true if networkd would use the file for a device. Conditions about hardware and hosts are
    /// taken as not met.
    fn matches(&self, device: &Known) -> bool {
        self.conditions.iter().all(|(key, words)| {
            let value = match key.as_str() {
                "Name" => device.name.as_str(),
                "Type" => device.kind,
                "Kind" if device.kind == "ether" => "veth",
                "Kind" => device.kind,
                _ => return false,
            };
            let (is_inverted, first) = match words.first().and_then(|word| word.strip_prefix('!')) {
                Some(word) => (true, Some(word)),
                None => (false, words.first().map(String::as_str)),
            };
            let patterns = first
                .into_iter()
                .chain(words.iter().skip(1).map(String::as_str));
            patterns.into_iter().any(|pattern| is_like(pattern, value)) != is_inverted
        })
    }
}

/// Returns networkd's files in the order in which it looks at them.
fn networks(root: &Path) -> Vec<NetworkFile> {
    let mut files = BTreeMap::new();
    for directory in NETWORKD_FILES {
        for path in entries(&root.join(directory), "network") {
            let name = path.file_name().map(ToOwned::to_owned);
            files.entry(name).or_insert(path);
        }
    }
    // An empty file, or a link to /dev/null, masks those of its name.
    let files = files.into_values();
    files.filter_map(|path| NetworkFile::read(&path)).collect()
}

/// Returns the devices that NetworkManager leaves alone, in its own words.
fn unmanaged_devices(root: &Path) -> Vec<String> {
    let mut files: BTreeMap<_, (usize, PathBuf)> = BTreeMap::new();
    for (rank, directory) in MANAGER_FILES.into_iter().enumerate() {
        for path in entries(&root.join(directory), "conf") {
            // A file of the same name in a later directory takes its place.
            files.insert(path.file_name().map(ToOwned::to_owned), (rank, path));
        }
    }
    let mut files: Vec<(usize, PathBuf)> = files.into_values().collect();
    files.push((MANAGER_FILES.len() - 2, root.join(MANAGER_FILE)));
    files.sort_by_key(|(rank, path)| (*rank, !path.ends_with("NetworkManager.conf"), path.clone()));
    let mut devices: Vec<String> = Vec::new();
    for (_, path) in files {
        let text = fs::read_to_string(path).unwrap_or_default();
        for (section, key, value) in settings(&text) {
            let (key, adds) = match key.strip_suffix('+') {
                Some(key) => (key, true),
                None => (key, false),
            };
            if (section, key) == ("keyfile", "unmanaged-devices") {
                if !adds {
                    devices.clear();
                }
                let words = value.split([';', ',']).map(str::trim);
                devices.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
            }
        }
    }
    devices
}

/// Returns true if a specification of NetworkManager, such as `interface-name:m-*`, is of a device.
fn specifies(specification: &str, device: &Known) -> bool {
    match specification.split_once(':') {
        Some(("interface-name", name)) => is_like(name.trim_start_matches('='), &device.name),
        Some(("type", kind)) => kind == device.kind,
        Some(_) => false,
        None => specification == "*" || specification == device.name,
    }
}

/// Returns section, key and value of each setting in a file of the form of systemd's.
fn settings(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut section = "";
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            section = name;
            return None;
        }
        let (key, value) = line.split_once('=')?;
        Some((section, key.trim(), value.trim()))
    })
}

/// Returns the files of a directory with an extension.
fn entries(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

/// Returns true if a name is like a pattern with `*` (any characters) and `?` (one).
fn is_like(pattern: &str, name: &str) -> bool {
    match pattern.chars().next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            let mut ends = name
                .char_indices()
                .map(|(index, _)| index)
                .chain([name.len()]);
            ends.any(|index| is_like(rest, &name[index..]))
        }
        Some(first) => {
            let mut characters = name.chars();
            let found = characters.next();
            found.is_some_and(|found| first == '?' || first == found)
                && is_like(&pattern[first.len_utf8()..], characters.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, kind: &'static str) -> Known {
        Known {
            name: name.to_owned(),
            kind,
        }
    }

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Returns the name of the file that networkd uses for a device, and whether it leaves it alone.
    fn of_networkd(root: &Path, device: &Known) -> Option<(String, bool)> {
        let files = networks(root);
        let file = files.iter().find(|file| file.matches(device))?;
        let name = file
            .path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        Some((name, file.is_unmanaged))
    }

    #[test]
    fn networkd_uses_the_first_file_that_matches() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(
            root,
            "etc/systemd/network/50-lan.network",
            "[Match]\nName=eth* en*\n[Network]\nDHCP=yes\n",
        );
        assert_eq!(of_networkd(root, &known("m-dcos", "bridge")), None);
        write(
            root,
            "etc/systemd/network/90-all.network",
            "[Match]\nName=*\n",
        );
        let all = Some(("90-all.network".to_owned(), false));
        assert_eq!(of_networkd(root, &known("m-dcos", "bridge")), all);
        let ours = include_str!("../../../../../packaging/network/10-mesos-overlay.network");
        write(
            root,
            "usr/lib/systemd/network/10-mesos-overlay.network",
            ours,
        );
        let unmanaged = Some((OUR_FILE.to_owned(), true));
        for (name, kind) in [
            ("m-dcos", "bridge"),
            ("d-x", "bridge"),
            ("vtep1024", "vxlan"),
        ] {
            assert_eq!(of_networkd(root, &known(name, kind)), unmanaged, "{name}");
        }
        assert_eq!(of_networkd(root, &known("veth0", "ether")), all);
        assert_eq!(of_networkd(root, &known("m-lan", "ether")), all);
        // Masked by the operator.
        write(root, "etc/systemd/network/10-mesos-overlay.network", "");
        assert_eq!(of_networkd(root, &known("m-dcos", "bridge")), all);
        write(
            root,
            "etc/systemd/network/05-not.network",
            "[Match]\nName=!eth* lo\nMACAddress=1:2\n",
        );
        write(
            root,
            "etc/systemd/network/06-not.network",
            "[Match]\nName=!eth* lo\nType=bridge\n",
        );
        let not = Some(("06-not.network".to_owned(), false));
        assert_eq!(of_networkd(root, &known("m-dcos", "bridge")), not);
    }

    #[test]
    fn network_manager_adds_to_or_replaces_what_it_leaves_alone() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let ours = include_str!("../../../../../packaging/network/10-mesos-overlay.conf");
        write(
            root,
            "usr/lib/NetworkManager/conf.d/10-mesos-overlay.conf",
            ours,
        );
        let all = [
            "interface-name:vtep*",
            "interface-name:m-*",
            "interface-name:d-*",
        ];
        assert_eq!(unmanaged_devices(root), all);
        let is_unmanaged = |name: &str| {
            let device = known(name, "bridge");
            unmanaged_devices(root)
                .iter()
                .any(|word| specifies(word, &device))
        };
        assert!(is_unmanaged("m-dcos") && !is_unmanaged("lan"));
        write(
            root,
            "etc/NetworkManager/NetworkManager.conf",
            "[keyfile]\nunmanaged-devices+=type:wifi\n",
        );
        assert!(is_unmanaged("m-dcos"));
        write(
            root,
            "etc/NetworkManager/conf.d/50-own.conf",
            "[keyfile]\nunmanaged-devices=interface-name:eth9\n",
        );
        assert_eq!(unmanaged_devices(root), ["interface-name:eth9"]);
        assert!(!is_unmanaged("m-dcos"));
    }

    #[test]
    fn patterns_have_stars_and_question_marks() {
        for (pattern, name, is) in [
            ("*", "", true),
            ("m-*", "m-dcos", true),
            ("m-*", "d-dcos", false),
            ("*s", "m-dcos", true),
            ("m-?cos", "m-dcos", true),
            ("m-dcos", "m-dcos2", false),
        ] {
            assert_eq!(is_like(pattern, name), is, "{pattern} {name}");
        }
    }
}
