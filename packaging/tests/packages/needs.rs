//! Dependencies that the packages declare, and licences of what they contain.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::process::Command;

use flate2::read::GzDecoder;
use packaging::contents::File;
use packaging::floor::{self, Needs, Version};
use packaging::kept::Kept;
use packaging::rpm::REQUIRES;

/// Libraries that each package of Debian has.
const LIBRARIES: [(&str, &[&str]); 3] = [
    (
        "libc6",
        &[
            "ld-linux-x86-64.so.2",
            "libc.so.6",
            "libdl.so.2",
            "libm.so.6",
            "libpthread.so.0",
            "librt.so.1",
        ],
    ),
    ("libgcc-s1", &["libgcc_s.so.1"]),
    ("libstdc++6", &["libstdc++.so.6"]),
];

fn file<'k>(kept: &'k Kept, path: &str) -> &'k File {
    kept.files.iter().find(|file| file.path == path).unwrap()
}

fn binaries(kept: &Kept) -> [&File; 2] {
    [
        file(kept, "usr/lib/mesos/modules/libmesos_overlay.so"),
        file(kept, "usr/bin/mesos-overlay"),
    ]
}

/// Returns what a file of the packages needs.
fn needs(file: &File) -> Needs {
    let copy = tempfile::NamedTempFile::new().unwrap();
    fs::write(copy.path(), &file.content).unwrap();
    floor::needs(copy.path()).unwrap()
}

/// Versions of symbols that the RPM package declares.
fn declared() -> Vec<Version> {
    let in_brackets = |text: &'static str| Some(text.split_once('(')?.1.split_once(')')?.0);
    let versions = REQUIRES.into_iter().filter_map(in_brackets);
    versions.filter_map(Version::parse).collect()
}

#[test]
fn the_declared_dependencies_cover_what_is_needed() {
    let Some(kept) = crate::packages("the_declared_dependencies_cover_what_is_needed") else {
        return;
    };
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.arg("--field").arg(&kept.packages.deb).arg("Depends");
    let depends = String::from_utf8(dpkg.output().unwrap().stdout).unwrap();
    // GLIBCXX_3.4.21 is of g++ 5.
    assert_eq!(
        depends.trim(),
        "libc6 (>= 2.17), libgcc-s1 | libgcc1, libstdc++6 (>= 5)"
    );
    assert!(REQUIRES.contains(&"libstdc++.so.6(GLIBCXX_3.4.21)(64bit)"));
    let declared = declared();
    for binary in binaries(&kept) {
        let needs = needs(binary);
        for library in &needs.libraries {
            let owner = LIBRARIES.iter().find(|(_, of)| of.contains(&&**library));
            let (package, _) = owner.unwrap_or_else(|| panic!("{} needs {library}", binary.path));
            assert!(depends.contains(package), "{package} is not in {depends}");
        }
        for (library, needed) in &needs.versions {
            let version = Version::parse(needed).unwrap();
            // Those of every compiler that has the declared library.
            let is_old = ["GCC", "CXXABI"].contains(&version.family.as_str());
            let covers = |d: &Version| d.family == version.family && version.numbers <= d.numbers;
            assert!(
                is_old || declared.iter().any(covers),
                "{} needs {needed} of {library}, and the packages declare {REQUIRES:?}",
                binary.path
            );
        }
    }
}

/// Paths of sources in the messages of panics name the crates that code came from.
#[test]
fn the_licences_are_those_of_all_crates_in_the_binaries() {
    let Some(kept) = crate::packages("the_licences_are_those_of_all_crates_in_the_binaries") else {
        return;
    };
    let licences = file(
        &kept,
        "usr/share/doc/mesos-overlay/third-party-licences.txt.gz",
    );
    let mut text = String::new();
    let mut gzip = GzDecoder::new(licences.content.as_slice());
    gzip.read_to_string(&mut text).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    let directories: BTreeSet<String> = lines.map(|(name, _)| name.replace(' ', "-")).collect();
    let in_std = |directory: &str| {
        let (name, _version) = directory.rsplit_once('-').unwrap_or_default();
        let of_std = |known: &String| known.ends_with("-in-the-standard-library-of-Rust");
        let names = directories.iter().filter(|known| of_std(known));
        names
            .into_iter()
            .any(|known| name.ends_with(known.split("-in-the").next().unwrap()))
    };
    for binary in binaries(&kept) {
        let content = String::from_utf8_lossy(&binary.content);
        let mut crates = 0;
        for (at, _) in content.match_indices("/src/") {
            let before = &content[..at];
            let directory = before.rsplit(['/', '\0']).next().unwrap_or_default();
            // `crates/core/src/…` and the like are the project's own.
            if !directory.ends_with(|c: char| c.is_ascii_digit()) {
                continue;
            }
            crates += 1;
            let known =
                directories.iter().any(|known| directory.ends_with(known)) || in_std(directory);
            assert!(known, "{directory} of {} has no licence", binary.path);
        }
        assert!(crates > 10, "paths of {crates} files in {}", binary.path);
    }
}
