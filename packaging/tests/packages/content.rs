//! Files of the packages and their permissions.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use flate2::read::GzDecoder;
use packaging::contents::{File, Format};
use packaging::packages::{self, VERSION};
use packaging::{checksums, kept, links};
use testbed::paths;

/// Permissions and content of files by their paths.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

fn listed(files: &[File], format: Format) -> Files {
    let files = packages::of(files, format).into_iter();
    files
        .map(|file| (file.path.clone(), (file.mode, file.content.clone())))
        .collect()
}

/// Reads the files of an archive, which belong to root, below a directory of it.
fn unpacked(archive: impl Read, below: &str) -> Files {
    let mut files = Files::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        // cargo-deb leaves the numbers out, which means root.
        let owner = (header.uid().unwrap_or(0), header.gid().unwrap_or(0));
        assert_eq!(owner, (0, 0));
        let mode = header.mode().unwrap();
        let path = entry.path().unwrap().into_owned();
        if entry.header().entry_type().is_dir() {
            assert_eq!(mode & 0o7777, 0o755, "{}", path.display());
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        if let Ok(path) = path.strip_prefix(below) {
            files.insert(path.display().to_string(), (mode & 0o7777, content));
        }
    }
    files
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    output.stdout
}

fn deb(package: &Path) -> Files {
    let mut dpkg = Command::new("dpkg-deb");
    let archive = run(dpkg.arg("--fsys-tarfile").arg(package));
    unpacked(archive.as_slice(), ".")
}

/// Reads the files of an RPM package with rpm itself, whose archive has another form.
fn rpm(package: &Path) -> Files {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let rpm = |arguments: &[&str]| {
        let mut rpm = Command::new("rpm");
        run(rpm.arg("--root").arg(root).args(arguments).arg(package))
    };
    let format =
        "[%{FILENAMES} %{FILEMODES:octal} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILEDIGESTS}\n]";
    let listed = rpm(&["--query", "--package", "--queryformat", format]);
    let mut archive = Command::new("rpm2archive");
    archive.args(["--nocompression", "-"]);
    let archive = run(archive.stdin(fs::File::open(package).unwrap()));
    let mut files = unpacked(archive.as_slice(), ".");
    for line in String::from_utf8(listed).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [path, mode, user, group, _digest] = words[..] else {
            panic!("{line}");
        };
        assert_eq!((user, group), ("root", "root"), "{line}");
        let mode = u32::from_str_radix(mode, 8).unwrap();
        if mode & 0o170_000 == 0o040_000 {
            assert_eq!(mode & 0o7777, 0o755, "{line}");
        } else {
            files.get_mut(&path[1..]).unwrap().0 = mode & 0o7777;
        }
    }
    files
}

fn archive(package: &Path) -> Files {
    let top = format!("mesos-overlay-{VERSION}");
    let files = |below: &str| unpacked(GzDecoder::new(fs::File::open(package).unwrap()), below);
    let all = files(&top);
    assert_eq!(all["install.sh"].0, 0o755);
    let below = files(&format!("{top}/files"));
    assert_eq!(all.len(), below.len() + 1, "other files than the script");
    below
}

#[track_caller]
fn assert_same(found: &Files, expected: &Files) {
    let paths = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(paths(found), paths(expected));
    for (path, (mode, content)) in expected {
        assert_eq!(found[path].0, *mode, "permissions of {path}");
        assert!(found[path].1 == *content, "the content of {path} differs");
    }
}

#[test]
fn the_packages_have_the_files_of_the_list() {
    let Some(kept) = crate::packages("the_packages_have_the_files_of_the_list") else {
        return;
    };
    let list = |format| listed(&kept.files, format);
    assert_same(&deb(&kept.packages.deb), &list(Format::Deb));
    assert_same(&rpm(&kept.packages.rpm), &list(Format::Rpm));
    assert_same(&archive(&kept.packages.archive), &list(Format::Archive));
}

/// Unit of the name server.
const NAME_SERVER: &str = "usr/lib/systemd/system/mesos-overlay-dns.service";

/// systemd knows every setting of the unit, and each setting of its file is an option of the program.
#[test]
fn the_unit_of_the_name_server_is_right() {
    let Some(kept) = crate::packages("the_unit_of_the_name_server_is_right") else {
        return;
    };
    let content = |path: &str| {
        let file = kept.files.iter().find(|file| file.path == path).unwrap();
        String::from_utf8(file.content.clone()).unwrap()
    };
    let settings = content("etc/mesos/overlay/dns.env");
    let help = Command::new(packaging::release::paths().program)
        .args(["dns", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let names = settings
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .map(|(name, _)| name)
        .filter(|name| {
            name.starts_with("MESOS_OVERLAY_DNS_") && *name != "MESOS_OVERLAY_DNS_OPTIONS"
        });
    let mut count = 0;
    for name in names {
        count += 1;
        assert!(
            help.contains(&format!("[env: {name}=")),
            "{name} is no option"
        );
    }
    assert!(count >= 4, "{settings}");
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("mesos-overlay-dns.service");
    let here = format!(
        "ExecStart={}",
        packaging::release::paths().program.display()
    );
    let text = content(NAME_SERVER).replace("ExecStart=/usr/bin/mesos-overlay", &here);
    fs::write(&unit, text).unwrap();
    let Ok(verified) = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output()
    else {
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    let about: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("mesos-overlay-dns"))
        .collect();
    assert!(about.is_empty(), "{about:?}");
}

#[test]
fn the_list_has_what_operators_look_for() {
    let Some(kept) = crate::packages("the_list_has_what_operators_look_for") else {
        return;
    };
    for format in [Format::Deb, Format::Rpm, Format::Archive] {
        let files = listed(&kept.files, format);
        for path in [
            "etc/mesos/overlay/agent.json",
            "etc/mesos/overlay/dns.env",
            "etc/mesos/overlay/master.json",
            "etc/mesos/overlay/modules-agent.json",
            "etc/mesos/overlay/modules-master.json",
            "usr/bin/mesos-overlay",
            "usr/lib/NetworkManager/conf.d/10-mesos-overlay.conf",
            "usr/lib/mesos/modules/libmesos_overlay.so",
            "usr/lib/systemd/network/10-mesos-overlay.network",
            "usr/lib/systemd/system/mesos-overlay-dns.service",
            "usr/share/bash-completion/completions/mesos-overlay",
            "usr/share/doc/mesos-overlay/docs/dns.md",
            "usr/share/doc/mesos-overlay/docs/operations.md",
            "usr/share/doc/mesos-overlay/examples/10-mesos-overlay-veth.network",
            "usr/share/doc/mesos-overlay/third-party-licences.txt.gz",
            "usr/share/man/man1/mesos-overlay-cleanup.1.gz",
            "usr/share/man/man1/mesos-overlay-dns-lookup.1.gz",
            "usr/share/man/man1/mesos-overlay-dns.1.gz",
            "usr/share/man/man1/mesos-overlay-salvage.1.gz",
            "usr/share/man/man1/mesos-overlay.1.gz",
        ] {
            assert!(files.contains_key(path), "{format:?} has no {path}");
        }
        // Every file of these is a flag of Mesos, and nothing of Mesos is touched.
        for path in files.keys() {
            let configuration = path.starts_with("etc/");
            assert_eq!(
                configuration,
                path.starts_with("etc/mesos/overlay/"),
                "{path}"
            );
            // The name server is off until somebody enables it: no file does.
            let is_service = path.ends_with(".service") || path.contains(".wants/");
            assert!(!is_service || path == NAME_SERVER, "{path}");
        }
    }
}

/// Debian's list of changes begins with the version of the package.
#[test]
fn the_changelog_of_debian_has_the_version() {
    let path = paths::workspace().join("packaging/debian/changelog");
    let changelog = fs::read_to_string(path).unwrap();
    let start = format!("mesos-overlay ({VERSION}-1) ");
    assert!(changelog.starts_with(&start), "add {start}…: {changelog}");
}

/// Links of the pages lead to files of the same package, or to sources that exist.
#[test]
fn links_of_the_pages_lead_somewhere() {
    let Some(kept) = crate::packages("links_of_the_pages_lead_somewhere") else {
        return;
    };
    for format in [Format::Deb, Format::Rpm, Format::Archive] {
        let files = listed(&kept.files, format);
        let mut count = 0;
        for (page, (_, content)) in files.iter().filter(|(path, _)| path.ends_with(".md")) {
            for target in links::targets(std::str::from_utf8(content).unwrap()) {
                count += 1;
                let found = match (
                    links::resolve(page, target),
                    target.split_once(&links::sources()),
                ) {
                    (Some(path), _) => files.contains_key(&path),
                    (None, Some((_, path))) => {
                        let path = path.split('#').next().unwrap();
                        paths::workspace().join(path).exists()
                    }
                    (None, None) => true,
                };
                assert!(found, "{format:?}: {page} links to {target}");
            }
        }
        assert!(count > 100, "{format:?}: {count} links");
    }
}

#[test]
fn the_same_files_make_the_same_packages() {
    let Some(kept) = crate::packages("the_same_files_make_the_same_packages") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let again = kept::again(&kept.files, &directory.path().join("another/place")).unwrap();
    let same = |a: &Path, b: &Path| {
        let equal = fs::read(a).unwrap() == fs::read(b).unwrap();
        assert!(equal, "{} was made anew and differs", a.display());
    };
    same(&kept.packages.deb, &again.deb);
    same(&kept.packages.rpm, &again.rpm);
    same(&kept.packages.archive, &again.archive);
}

#[test]
fn the_packages_have_no_scripts() {
    let Some(kept) = crate::packages("the_packages_have_no_scripts") else {
        return;
    };
    let mut dpkg = Command::new("dpkg-deb");
    let control = run(dpkg.arg("--ctrl-tarfile").arg(&kept.packages.deb));
    let names: Vec<String> = unpacked(control.as_slice(), ".").into_keys().collect();
    assert_eq!(names, ["conffiles", "control"]);
    let mut rpm = Command::new("rpm");
    rpm.args(["--query", "--package", "--scripts", "--triggers"]);
    let scripts = run(rpm.arg(&kept.packages.rpm));
    assert_eq!(String::from_utf8(scripts).unwrap(), "");
}

#[test]
fn checksums_are_those_that_sha256sum_checks() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("b"), "2").unwrap();
    fs::write(directory.path().join("a"), "1").unwrap();
    checksums::write(directory.path()).unwrap();
    let check = || {
        let mut sums = Command::new("sha256sum");
        sums.args(["--check", "--strict", checksums::FILE]);
        sums.current_dir(directory.path()).output().unwrap()
    };
    assert_eq!(String::from_utf8(check().stdout).unwrap(), "a: OK\nb: OK\n");
    fs::write(directory.path().join("a"), "2").unwrap();
    assert!(!check().status.success(), "a changed");
}

/// The page for operators rounds the sizes to MB.
#[test]
fn the_page_has_the_sizes_of_the_packages() {
    let Some(kept) = crate::packages("the_page_has_the_sizes_of_the_packages") else {
        return;
    };
    let page = fs::read_to_string(paths::workspace().join("docs/install.md")).unwrap();
    for package in [
        &kept.packages.deb,
        &kept.packages.rpm,
        &kept.packages.archive,
    ] {
        let name = package.file_name().unwrap().to_str().unwrap();
        let start = format!("| `{name}` |");
        let line = page.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no line of {name}"));
        let cell = line.split('|').nth(3).unwrap().trim();
        let documented: u64 = cell.strip_suffix(" MB").unwrap().parse().unwrap();
        let size = package.metadata().unwrap().len();
        assert!(
            size.abs_diff(documented * 1_000_000) < 1_000_000,
            "{name} has {size} bytes"
        );
    }
}
