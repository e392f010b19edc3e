//! Dependencies that the packages declare, and licences of what they contain.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::Command;

use flate2::read::GzDecoder;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, elf};
use packaging::contents::File;
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

/// Returns the libraries that an ELF file needs, and those with the versions of symbols that it needs
/// of them.
fn needs(data: &[u8]) -> (BTreeSet<String>, BTreeSet<(String, String)>) {
    let header = FileHeader64::<Endianness>::parse(data).unwrap();
    let endian = header.endian().unwrap();
    let sections = header.sections(endian, data).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut libraries = BTreeSet::new();
    for section in sections.iter() {
        let Some((entries, strings)) = section.dynamic(endian, data).unwrap() else {
            continue;
        };
        let strings = sections.strings(endian, data, strings).unwrap();
        for entry in entries {
            if entry.d_tag.get(endian) == elf::DT_NEEDED {
                let name = u32::try_from(entry.d_val.get(endian)).unwrap();
                libraries.insert(text(strings.get(name).unwrap()));
            }
        }
    }
    let mut versions = BTreeSet::new();
    if let Some((mut needed, strings)) = sections.gnu_verneed(endian, data).unwrap() {
        let strings = sections.strings(endian, data, strings).unwrap();
        while let Some((library, mut names)) = needed.next().unwrap() {
            let library = text(library.file(endian, strings).unwrap());
            while let Some(name) = names.next().unwrap() {
                versions.insert((library.clone(), text(name.name(endian, strings).unwrap())));
            }
        }
    }
    (libraries, versions)
}

/// Returns `GLIBC_2.17` as `(GLIBC, [2, 17])`.
fn version(text: &str) -> (String, Vec<u32>) {
    let (name, numbers) = text.rsplit_once('_').unwrap();
    let numbers = numbers.split('.').map(|n| n.parse().unwrap_or(u32::MAX));
    (name.to_owned(), numbers.collect())
}

/// Versions of symbols that the RPM package declares; see [`version`].
fn declared() -> Vec<(String, Vec<u32>)> {
    let in_brackets = |text: &'static str| Some(text.split_once('(')?.1.split_once(')')?.0);
    let versions = REQUIRES.into_iter().filter_map(in_brackets);
    versions.filter(|v| !v.is_empty()).map(version).collect()
}

#[test]
fn the_declared_dependencies_cover_what_is_needed() {
    let Some(kept) = crate::packages("the_declared_dependencies_cover_what_is_needed") else {
        return;
    };
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.arg("--field").arg(&kept.packages.deb).arg("Depends");
    let depends = String::from_utf8(dpkg.output().unwrap().stdout).unwrap();
    assert!(depends.contains("libc6 (>= 2.17)"), "{depends}");
    let declared = declared();
    for binary in binaries(&kept) {
        let (libraries, versions) = needs(&binary.content);
        for library in &libraries {
            let owner = LIBRARIES.iter().find(|(_, of)| of.contains(&&**library));
            let (package, _) = owner.unwrap_or_else(|| panic!("{} needs {library}", binary.path));
            assert!(depends.contains(package), "{package} is not in {depends}");
        }
        for (library, needed) in &versions {
            let (name, numbers) = version(needed);
            // Those of every compiler that has the declared library.
            let is_old = ["GCC", "CXXABI"].contains(&name.as_str());
            let covers = |(of, newest): &(String, Vec<u32>)| *of == name && numbers <= *newest;
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
