//! The configurations of the Mesos containerizer's networks: one file per
//! overlay, `<cni_dir>/<overlay>.conf`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use overlay_core::host_api::desired::{Cni, Desired, Overlay};
use serde::{Deserialize, Serialize};

use crate::reconcile::observed::CniFile;

/// The plugin that Mesos calls. It maps the container's ports and has the
/// `delegate` do the rest; it comes with Mesos.
const PLUGIN: &str = "mesos-cni-port-mapper";

/// How a configuration's file name ends.
const SUFFIX: &str = ".conf";

/// The file's content. Field names and their order are those that existing
/// clusters have on disk.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    name: &'a str,
    r#type: &'a str,
    exclude_devices: [&'a str; 1],
    chain: String,
    delegate: Delegate<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Delegate<'a> {
    r#type: &'a str,
    bridge: &'a str,
    is_gateway: bool,
    ip_masq: bool,
    hairpin_mode: bool,
    mtu: u32,
    ipam: Ipam<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ipam<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<&'a Path>,
    subnet: String,
    /// Ranges of another family than that of `subnet`, which is a range set of its
    /// own and comes first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<[Range; 1]>,
    routes: Vec<Destination<'a>>,
}

/// A range set is a list of ranges, of which a container gets one address.
#[derive(Serialize)]
struct Range {
    subnet: String,
}

#[derive(Serialize)]
struct Destination<'a> {
    dst: &'a str,
}

/// What the file of this overlay holds, `fits` being the largest MTU that fits into
/// the underlay; `None` when the overlay has no bridge
/// with a prefix for Mesos's containers, and so no file.
///
/// There is no `cniVersion`, which stands for 0.1.0: of results newer than 0.2.0
/// Mesos 1.11 reads no addresses. That old form has room for one address of each
/// family, and the plugins fill it from two range sets just as they do with newer ones.
pub(crate) fn content(
    name: &str,
    overlay: &Overlay,
    cni: &Cni,
    fits: Option<u32>,
) -> Option<Vec<u8>> {
    let bridge = overlay.mesos_bridge.as_ref()?;
    // A file with IPv4 only is byte by byte what it always was; IPv6 comes behind.
    let of = |v4: bool| {
        bridge
            .subnets
            .iter()
            .find(move |subnet| subnet.addr().is_ipv4() == v4)
    };
    let mut subnets = [of(true), of(false)]
        .into_iter()
        .flatten()
        .map(ToString::to_string);
    let everywhere = |subnet: &IpNet| Destination {
        dst: if subnet.addr().is_ipv4() {
            "0.0.0.0/0"
        } else {
            "::/0"
        },
    };
    let config = Config {
        name,
        r#type: PLUGIN,
        exclude_devices: [&bridge.name],
        // Names an iptables chain; upper case as iptables has it.
        chain: bridge.name.to_uppercase(),
        delegate: Delegate {
            r#type: "bridge",
            bridge: &bridge.name,
            is_gateway: true,
            ip_masq: false,
            hairpin_mode: true,
            mtu: overlay.mtu.min(fits.unwrap_or(u32::MAX)),
            ipam: Ipam {
                r#type: "host-local",
                data_dir: cni.data_dir.as_deref(),
                subnet: subnets.next()?,
                ranges: subnets.map(|subnet| [Range { subnet }]).collect(),
                routes: [of(true), of(false)]
                    .into_iter()
                    .flatten()
                    .map(everywhere)
                    .collect(),
            },
        },
    };
    // A path that is not UTF-8 cannot come out of a JSON configuration.
    let mut text = serde_json::to_vec(&config).ok()?;
    text.push(b'\n');
    Some(text)
}

/// Every overlay that wants a file, and what goes into it.
///
/// `fits` is the largest MTU that fits into the underlay, if that is known.
pub(crate) fn wanted(desired: &Desired, fits: Option<u32>) -> BTreeMap<&str, Vec<u8>> {
    let overlays = desired.overlays.iter();
    let fits = fits.filter(|_| desired.fit_mtu);
    overlays
        .filter_map(|(name, overlay)| {
            Some((name.as_str(), content(name, overlay, &desired.cni, fits)?))
        })
        .collect()
}

/// Whether a file is one that we (or our predecessor) wrote: our plugin, our
/// name for the bridge, under the name that belongs to it. An operator's own
/// configuration that uses the same plugin has another bridge.
fn is_ours(overlay: &str, content: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Found {
        name: String,
        r#type: String,
        delegate: FoundDelegate,
    }
    #[derive(Deserialize)]
    struct FoundDelegate {
        bridge: String,
    }
    serde_json::from_slice::<Found>(content).is_ok_and(|found| {
        found.r#type == PLUGIN
            && found.name == overlay
            && found.delegate.bridge == format!("m-{overlay}")
    })
}

/// Reads the files that are ours, and those that lie where a wanted one belongs.
///
/// # Errors
/// The directory cannot be read. One that does not exist has no files.
pub(crate) fn read(dir: &Path, wanted: &BTreeSet<&str>) -> io::Result<BTreeMap<String, CniFile>> {
    let mut files = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(overlay) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else {
            continue;
        };
        // What cannot be read is not ours. If it stands in our way, then writing
        // our file will tell.
        let Ok(content) = fs::read(dir.join(&name)) else {
            continue;
        };
        let ours = is_ours(overlay, &content);
        if ours || wanted.contains(overlay) {
            files.insert(overlay.to_owned(), CniFile { content, ours });
        }
    }
    Ok(files)
}

/// The file of this overlay.
pub(crate) fn path(dir: &Path, overlay: &str) -> PathBuf {
    dir.join(format!("{overlay}{SUFFIX}"))
}

/// Writes the file of this overlay, so that a reader (and a machine that loses
/// power) has either the old or the new content. Makes the directory if there
/// is none.
pub(crate) fn write(dir: &Path, overlay: &str, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    // One name for all attempts: what an attempt that was cut short left behind
    // is overwritten by the next one. It has another suffix, so that nobody
    // takes it for a configuration.
    let temporary = dir.join(format!(".{overlay}{SUFFIX}.new"));
    let written = write_through(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path(dir, overlay)))
        .and_then(|()| File::open(dir)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes a file down to the disk.
fn write_through(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    // Whatever Mesos's umask is: other users' tools read these files.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Removes the file of this overlay; one that is gone already is fine.
pub(crate) fn remove(dir: &Path, overlay: &str) -> io::Result<()> {
    match fs::remove_file(path(dir, overlay)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlay_core::host_api::desired::Bridge;

    fn overlay_with(subnets: &[&str]) -> Overlay {
        let subnets = subnets
            .iter()
            .map(|subnet| subnet.parse().unwrap())
            .collect();
        let mesos_bridge = Some(Bridge {
            name: "m-dcos".into(),
            subnets,
        });
        Overlay {
            mesos_bridge,
            mtu: 1420,
            ..Overlay::default()
        }
    }

    fn overlay() -> Overlay {
        overlay_with(&["9.0.0.0/25"])
    }

    fn cni(data_dir: Option<&str>) -> Cni {
        Cni {
            dir: "/cni".into(),
            data_dir: data_dir.map(PathBuf::from),
        }
    }

    #[test]
    fn the_file_is_the_one_existing_clusters_have() {
        let text = content(
            "dcos",
            &overlay(),
            &cni(Some("/var/run/dcos/cni/networks")),
            None,
        )
        .unwrap();
        let expected = concat!(
            r#"{"name":"dcos","type":"mesos-cni-port-mapper","excludeDevices":["m-dcos"],"chain":"M-DCOS","#,
            r#""delegate":{"type":"bridge","bridge":"m-dcos","isGateway":true,"ipMasq":false,"#,
            r#""hairpinMode":true,"mtu":1420,"ipam":{"type":"host-local","#,
            r#""dataDir":"/var/run/dcos/cni/networks","subnet":"9.0.0.0/25","#,
            r#""routes":[{"dst":"0.0.0.0/0"}]}}}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn there_is_a_data_dir_only_when_configured() {
        let text =
            String::from_utf8(content("dcos", &overlay(), &cni(None), None).unwrap()).unwrap();
        assert!(
            text.contains(r#""ipam":{"type":"host-local","subnet":"#),
            "{text}"
        );
    }

    #[test]
    fn both_families_are_two_range_sets_and_ipv4_comes_first() {
        let both = overlay_with(&["fd01:b::/81", "9.0.0.0/25"]);
        let text = String::from_utf8(content("dcos", &both, &cni(None), None).unwrap()).unwrap();
        let ipam = concat!(
            r#""ipam":{"type":"host-local","subnet":"9.0.0.0/25","ranges":[[{"subnet":"fd01:b::/81"}]],"#,
            r#""routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}}"#,
            "\n"
        );
        assert!(text.ends_with(ipam), "{text}");
        assert!(
            !text.contains("cniVersion"),
            "Mesos 1.11 reads no addresses of newer results: {text}"
        );
    }

    #[test]
    fn an_overlay_with_ipv6_only_has_a_file_too() {
        let text = content("dcos", &overlay_with(&["fd01:b::/81"]), &cni(None), None).unwrap();
        let text = String::from_utf8(text).unwrap();
        let ipam = concat!(
            r#""ipam":{"type":"host-local","subnet":"fd01:b::/81","routes":[{"dst":"::/0"}]}}}"#,
            "\n"
        );
        assert!(text.ends_with(ipam), "{text}");
    }

    #[test]
    fn there_is_a_file_only_with_a_bridge_for_mesos_that_has_a_prefix() {
        assert_eq!(content("dcos", &overlay_with(&[]), &cni(None), None), None);
        assert_eq!(content("dcos", &Overlay::default(), &cni(None), None), None);
    }

    #[test]
    fn only_files_as_we_write_them_are_ours() {
        let text = content("dcos", &overlay(), &cni(None), None).unwrap();
        assert!(is_ours("dcos", &text));
        assert!(!is_ours("copy-of-dcos", &text), "a copy under another name");
        for foreign in [
            r#"{"name":"dcos","type":"bridge","bridge":"m-dcos"}"#,
            r#"{"name":"dcos","type":"mesos-cni-port-mapper","delegate":{"type":"bridge","bridge":"cni0"}}"#,
            r#"{"name":"dcos","type":"mesos-cni-port-mapper"}"#,
            "",
            "not JSON",
        ] {
            assert!(!is_ours("dcos", foreign.as_bytes()), "{foreign}");
        }
    }

    #[test]
    fn files_are_written_whole_readable_and_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let cni_dir = dir.path().join("not/there/yet");
        let text = content("dcos", &overlay(), &cni(None), None).unwrap();
        write(&cni_dir, "dcos", b"old").unwrap();
        write(&cni_dir, "dcos", &text).unwrap();
        assert_eq!(fs::read(cni_dir.join("dcos.conf")).unwrap(), text);
        let mode = fs::metadata(cni_dir.join("dcos.conf"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_dir(&cni_dir).unwrap().count(), 1);
        remove(&cni_dir, "dcos").unwrap();
        remove(&cni_dir, "dcos").unwrap();
        assert_eq!(fs::read_dir(&cni_dir).unwrap().count(), 0);
    }

    #[test]
    fn what_stands_in_the_way_is_an_error_and_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("dcos.conf")).unwrap();
        write(dir.path(), "dcos", b"text").unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn reads_ours_and_what_lies_where_ours_belong() {
        let dir = tempfile::tempdir().unwrap();
        let ours = content("dcos", &overlay(), &cni(None), None).unwrap();
        fs::write(dir.path().join("dcos.conf"), &ours).unwrap();
        fs::write(dir.path().join("wanted.conf"), "garbage").unwrap();
        fs::write(dir.path().join("foreign.conf"), "{}").unwrap();
        fs::write(dir.path().join("dcos.conflist"), &ours).unwrap();
        fs::create_dir(dir.path().join("directory.conf")).unwrap();
        let files = read(dir.path(), &BTreeSet::from(["wanted"])).unwrap();
        let garbage = CniFile {
            content: b"garbage".to_vec(),
            ours: false,
        };
        let dcos = CniFile {
            content: ours,
            ours: true,
        };
        assert_eq!(
            files,
            BTreeMap::from([("dcos".into(), dcos), ("wanted".into(), garbage)])
        );
    }

    #[test]
    fn a_missing_directory_has_no_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            read(&dir.path().join("none"), &BTreeSet::new()).unwrap(),
            BTreeMap::new()
        );
    }

    /// A file is ours only if everything in it is.
    #[test]
    fn one_word_that_is_not_ours_makes_a_file_somebody_elses() {
        let text =
            String::from_utf8(content("dcos", &overlay(), &cni(None), None).unwrap()).unwrap();
        assert!(is_ours("dcos", text.as_bytes()));
        for (ours, theirs) in [
            (r#""name":"dcos""#, r#""name":"other""#),
            (r#""type":"mesos-cni-port-mapper""#, r#""type":"portmap""#),
            (r#""bridge":"m-dcos""#, r#""bridge":"m-lan""#),
            (r#""bridge":"m-dcos""#, r#""bridge":"d-dcos""#),
        ] {
            let changed = text.replace(ours, theirs);
            assert_ne!(changed, text);
            assert!(!is_ours("dcos", changed.as_bytes()), "{theirs}");
        }
    }

    #[test]
    fn the_mtu_is_lowered_where_the_operator_left_it_open() {
        let desired = |fit_mtu| {
            let overlays = [
                ("dcos".to_owned(), overlay()),
                ("bare".to_owned(), Overlay::default()),
            ]
            .into();
            Desired {
                cni: cni(None),
                overlays,
                fit_mtu,
                ..Desired::default()
            }
        };
        let mtu = |fit_mtu, fits| {
            let desired = desired(fit_mtu);
            let wanted = wanted(&desired, fits);
            assert_eq!(wanted.keys().copied().collect::<Vec<_>>(), ["dcos"]);
            let value: serde_json::Value = serde_json::from_slice(&wanted["dcos"]).unwrap();
            value["delegate"]["mtu"].as_u64().unwrap()
        };
        for (fit_mtu, fits, expected) in [
            (true, Some(1419), 1419),
            (true, Some(1420), 1420),
            (true, Some(1421), 1420),
            (true, None, 1420),
            (false, Some(1350), 1420),
        ] {
            assert_eq!(mtu(fit_mtu, fits), expected, "{fit_mtu} {fits:?}");
        }
    }
}
