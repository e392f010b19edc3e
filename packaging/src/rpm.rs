//! RPM packages.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use rpm::{BuildConfig, CompressionType, Dependency, FileOptions, PackageBuilder};

use crate::contents::File;
use crate::packages::SUMMARY;

/// Licence of the project, as an SPDX expression.
const LICENCE: &str = env!("CARGO_PKG_LICENSE");

/// Web page of the project.
const URL: &str = env!("CARGO_PKG_REPOSITORY");

/// Name and address in the package and its list of changes.
const PACKAGER: &str = "mesos-overlay maintainers <mesos-overlay@users.noreply.github.com>";

/// Description of the package.
const DESCRIPTION: &str = "\
Two modules for Apache Mesos: overlay-master, which assigns subnets, and
overlay-agent, which configures VXLAN devices, routes and bridges on the host.
Containers of the Mesos containerizer and of Docker get addresses of their own.

Installing the package changes nothing about Mesos: see
/usr/share/doc/mesos-overlay/docs/install.md for how to switch the modules on.";

/// Needs of the module and the program: libraries, with the newest versions of symbols. (What
/// rpmbuild would find out is what the build machine has.)
pub const REQUIRES: [&str; 3] = [
    "libc.so.6(GLIBC_2.17)(64bit)",
    "libgcc_s.so.1()(64bit)",
    "libstdc++.so.6(GLIBCXX_3.4.21)(64bit)",
];

/// Directories that every distribution has, and that packages do not own.
const COMMON: [&str; 14] = [
    "etc",
    "usr",
    "usr/bin",
    "usr/lib",
    "usr/lib/systemd",
    "usr/share",
    "usr/share/doc",
    "usr/share/licenses",
    "usr/share/lintian",
    "usr/share/lintian/overrides",
    "usr/share/man",
    "usr/share/man/man1",
    "usr/lib/systemd/network",
    "usr/lib/systemd/system",
];

/// Writes a package of these files. It has no scripts. Its format is that of rpm 4, and its
/// compression one that rpm 4.11 of CentOS 7 reads.
pub fn write(files: &[&File], version: &str, date: u64, package: &Path) -> Result<()> {
    let date = u32::try_from(date).context("a date after 2106")?;
    let mut builder = PackageBuilder::new("mesos-overlay", version, LICENCE, "x86_64", SUMMARY);
    builder
        .using_config(
            BuildConfig::v4()
                .compression(CompressionType::Xz)
                .source_date(date),
        )
        .release("1")
        .description(DESCRIPTION)
        .group("System Environment/Base")
        .url(URL)
        .vendor("mesos-overlay")
        .packager(PACKAGER)
        // The name of the machine would make each package another one.
        .build_host("localhost")
        .add_changelog_entry(
            format!("{PACKAGER} - {version}-1"),
            "- See /usr/share/doc/mesos-overlay/CHANGELOG.md.",
            date,
        );
    for name in REQUIRES {
        builder.requires(Dependency::any(name));
    }
    for path in directories(files) {
        builder.with_dir_entry(FileOptions::dir(format!("/{path}")).permissions(0o755))?;
    }
    for file in files {
        builder.with_file_contents(file.content.clone(), options(file)?)?;
    }
    let built = builder.build().context("making the RPM package")?;
    built
        .write_file(package)
        .with_context(|| format!("writing {}", package.display()))
}

/// Returns how rpm treats a file: as configuration, documentation, licence, or none of these.
fn options(file: &File) -> Result<FileOptions> {
    let mode = u16::try_from(file.mode).context("a mode of more than 16 bits")?;
    let mut options = FileOptions::new(format!("/{}", file.path)).permissions(mode);
    if file.config {
        options = options.config().noreplace();
    } else if ["usr/share/doc/", "usr/share/man/"]
        .iter()
        .any(|directory| file.path.starts_with(directory))
    {
        options = options.doc();
    } else if file.path.starts_with("usr/share/licenses/") {
        options = options.license();
    }
    Ok(options.into())
}

/// Returns the directories that the package owns, parents first: rpm leaves others behind.
fn directories(files: &[&File]) -> BTreeSet<String> {
    let parents = files
        .iter()
        .flat_map(|file| Path::new(&file.path).ancestors().skip(1));
    let parents = parents.map(|path| path.to_string_lossy().into_owned());
    parents
        .filter(|path| !path.is_empty() && !COMMON.contains(&path.as_str()))
        .collect()
}
