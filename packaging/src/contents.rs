//! The list of files in the packages.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::{Compression, GzBuilder};
use testbed::paths;

use crate::licences;
use crate::links;
use crate::release::Release;
use crate::run;

/// Kinds of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Of Debian and Ubuntu.
    Deb,
    /// Of RHEL, CentOS, Fedora and SUSE.
    Rpm,
    /// For every other distribution: an archive with a script that installs it.
    Archive,
}

use Format::{Archive, Deb, Rpm};

/// A file of the packages.
#[derive(Clone, Debug)]
pub struct File {
    /// Path on the host without the first `/`.
    pub path: String,
    /// Permissions: 0o755 or 0o644.
    pub mode: u32,
    /// The operator edits it: an upgrade keeps his changes.
    pub config: bool,
    /// Packages that contain it.
    pub formats: &'static [Format],
    /// Content.
    pub content: Vec<u8>,
}

const ALL: &[Format] = &[Deb, Rpm, Archive];

/// Directory of documentation.
const DOC: &str = "usr/share/doc/mesos-overlay";

/// Directory of the configuration.
const ETC: &str = "etc/mesos/overlay";

/// Files of the configuration, in `packaging/config` and on the host. Nothing reads them until Mesos
/// is told to.
const CONFIGURATION: [&str; 4] = [
    "agent.json",
    "master.json",
    "modules-agent.json",
    "modules-master.json",
];

/// Files of the sources that are beside the pages of `docs`.
const BESIDE_PAGES: [&str; 4] = [
    "CHANGELOG.md",
    "README.md",
    "SECURITY.md",
    "mesos-modules.json",
];

/// Returns all files, in the order of their paths. `scratch` is an empty directory for what is
/// generated.
///
/// # Errors
/// A file cannot be read, or a program fails.
pub fn files(release: &Release, scratch: &Path) -> Result<Vec<File>> {
    let mut files = vec![
        plain(
            "usr/lib/mesos/modules/libmesos_overlay.so",
            stripped(&release.module, scratch)?,
        ),
        File {
            mode: 0o755,
            ..plain(
                "usr/bin/mesos-overlay",
                stripped(&release.program, scratch)?,
            )
        },
    ];
    files.extend(manual(&release.program, scratch)?);
    files.extend(configuration()?);
    files.extend(network()?);
    files.extend(name_server()?);
    files.extend(documentation()?);
    files.extend(legal()?);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn plain(path: impl Into<String>, content: Vec<u8>) -> File {
    File {
        path: path.into(),
        mode: 0o644,
        config: false,
        formats: ALL,
        content,
    }
}

/// Reads a file of the sources.
fn source(path: &str) -> Result<Vec<u8>> {
    fs::read(paths::workspace().join(path)).with_context(|| format!("reading {path}"))
}

/// Compresses a text; the same text always has the same result.
fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(content)?;
    gzip.finish().context("compressing a text")
}

/// Returns a program or library without symbols that only debuggers use.
fn stripped(built: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let result = scratch.join("stripped");
    let mut strip = std::process::Command::new("strip");
    strip
        .args(["--strip-unneeded", "--remove-section=.comment", "-o"])
        .arg(&result);
    run::output(strip.arg(built)).context("stripping")?;
    let content = fs::read(&result).context("reading a stripped file")?;
    fs::remove_file(result)?;
    Ok(content)
}

/// Manual pages, and completions of shells, as the program itself writes them.
fn manual(program: &Path, scratch: &Path) -> Result<Vec<File>> {
    let directory = scratch.join("manual");
    fs::create_dir_all(&directory)?;
    let mut write = std::process::Command::new(program);
    run::output(write.arg("--write-manual").arg(&directory))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let content = fs::read(&path)?;
        if name.ends_with(".1") {
            let page = format!("usr/share/man/man1/{name}.gz");
            files.push(plain(page, gzip(&content)?));
            continue;
        }
        let zsh = |directory, formats| File {
            formats,
            ..plain(format!("usr/share/zsh/{directory}/{name}"), content.clone())
        };
        match &*name {
            "mesos-overlay.bash" => files.push(plain(
                "usr/share/bash-completion/completions/mesos-overlay",
                content,
            )),
            "mesos-overlay.fish" => files.push(plain(
                format!("usr/share/fish/vendor_completions.d/{name}"),
                content,
            )),
            "_mesos-overlay" => files.extend([
                zsh("vendor-completions", &[Deb]),
                zsh("site-functions", &[Rpm, Archive]),
            ]),
            _ => anyhow::bail!("the program wrote {name}, which no package has a place for"),
        }
    }
    ensure!(files.len() >= 7, "the program did not write all its pages");
    Ok(files)
}

/// The configuration in its place, and the same files as examples beside the documentation.
fn configuration() -> Result<Vec<File>> {
    let mut files = Vec::new();
    for name in CONFIGURATION {
        let content = source(&format!("packaging/config/{name}"))?;
        files.push(File {
            config: true,
            ..plain(format!("{ETC}/{name}"), content.clone())
        });
        files.push(plain(format!("{DOC}/examples/{name}"), content));
    }
    Ok(files)
}

/// Files that keep network managers away from the devices of the overlays. Those for the ends of
/// containers' connections, which other software has too, are examples.
fn network() -> Result<Vec<File>> {
    let file = |directory: &str, name: &str| {
        let content = source(&format!("packaging/network/{name}"))?;
        Ok(plain(format!("{directory}/{name}"), content))
    };
    let examples = format!("{DOC}/examples");
    [
        file("usr/lib/systemd/network", "10-mesos-overlay.network"),
        file("usr/lib/NetworkManager/conf.d", "10-mesos-overlay.conf"),
        file(&examples, "10-mesos-overlay-veth.network"),
        file(&examples, "10-mesos-overlay-veth.conf"),
    ]
    .into_iter()
    .collect()
}

/// The unit of the name server, which is off until an operator enables it, and its settings.
fn name_server() -> Result<Vec<File>> {
    let settings = source("packaging/config/dns.env")?;
    Ok(vec![
        plain(
            "usr/lib/systemd/system/mesos-overlay-dns.service",
            source("packaging/systemd/mesos-overlay-dns.service")?,
        ),
        plain(format!("{DOC}/examples/dns.env"), settings.clone()),
        File {
            config: true,
            ..plain(format!("{ETC}/dns.env"), settings)
        },
    ])
}

/// README, list of changes, the pages for operators, and the schemas of the program's output. Their
/// links to other files lead to the sources of this version on the web.
fn documentation() -> Result<Vec<File>> {
    let mut names: Vec<String> = BESIDE_PAGES.map(str::to_owned).into();
    names.extend(names_in("docs", ".md")?);
    names.extend(names_in("docs/schemas", ".json")?);
    // Debian's name of the list of changes.
    let changes = File {
        formats: &[Deb],
        ..plain(
            format!("{DOC}/changelog.gz"),
            gzip(&source("CHANGELOG.md")?)?,
        )
    };
    let mut files = vec![changes];
    for name in &names {
        let mut content = source(name)?;
        if name.ends_with(".md") {
            content = links::shipped(name, &String::from_utf8(content)?, &names).into_bytes();
        }
        files.push(plain(format!("{DOC}/{name}"), content));
    }
    Ok(files)
}

/// Files of a directory of the sources whose names end with `suffix`.
fn names_in(directory: &str, suffix: &str) -> Result<Vec<String>> {
    let entries = fs::read_dir(paths::workspace().join(directory));
    let mut names = Vec::new();
    for entry in entries.with_context(|| format!("reading {directory}"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(suffix) {
            names.push(format!("{directory}/{name}"));
        }
    }
    Ok(names)
}

/// Licences, and what each packaging system wants beside them.
fn legal() -> Result<Vec<File>> {
    let of = |formats, path: &str, content| File {
        formats,
        ..plain(path, content)
    };
    let changes = gzip(&source("packaging/debian/changelog")?)?;
    let licence = source("LICENSE")?;
    Ok(vec![
        plain(
            format!("{DOC}/third-party-licences.txt.gz"),
            gzip(licences::text()?.as_bytes())?,
        ),
        of(
            &[Deb],
            "usr/share/doc/mesos-overlay/copyright",
            source("packaging/debian/copyright")?,
        ),
        of(
            &[Deb],
            "usr/share/doc/mesos-overlay/changelog.Debian.gz",
            changes,
        ),
        of(
            &[Deb],
            "usr/share/lintian/overrides/mesos-overlay",
            source("packaging/debian/lintian-overrides")?,
        ),
        of(
            &[Rpm, Archive],
            "usr/share/licenses/mesos-overlay/LICENSE",
            licence,
        ),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn json(text: &[u8]) -> Value {
        serde_json::from_slice(text).unwrap()
    }

    #[test]
    fn the_configuration_is_that_of_the_readme() {
        let readme = String::from_utf8(source("README.md").unwrap()).unwrap();
        for name in ["master.json", "agent.json"] {
            let mark = format!("<!-- checked: good {name} -->");
            let (_, rest) = readme.split_once(&mark).unwrap();
            let block = rest.split("```").nth(1).unwrap().trim_start_matches("json");
            let shipped = json(&source(&format!("packaging/config/{name}")).unwrap());
            assert_eq!(shipped, json(block.as_bytes()), "{name}");
        }
    }

    #[test]
    fn the_modules_are_those_of_the_example_for_both() {
        let both = json(&source("mesos-modules.json").unwrap());
        for (index, role) in ["master", "agent"].into_iter().enumerate() {
            let one = json(&source(&format!("packaging/config/modules-{role}.json")).unwrap());
            let mut expected = both.clone();
            let modules = both["libraries"][0]["modules"][index].clone();
            expected["libraries"][0]["modules"] = Value::Array(vec![modules]);
            assert_eq!(one, expected, "{role}");
        }
    }
}
