//! What tests and demo need of the machine, and its installation on a Debian-like one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{cni, zookeeper};

/// A thing that the machine must have.
#[derive(Clone, Copy, Debug)]
pub struct Requirement {
    what: What,
    /// Debian's package that has it.
    package: &'static str,
    /// What it is needed for.
    purpose: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Program(&'static str),
    Library(&'static str),
    /// A CNI plugin.
    Plugin(&'static str),
    Path(&'static str),
    /// A module of the system's Python.
    Python(&'static str),
    /// The library of the compiler clang, of any version.
    Clang,
}

/// What it takes to fetch Mesos, and to run it.
pub const MESOS: &[Requirement] = &[
    Requirement {
        what: What::Program("g++"),
        package: "g++",
        purpose: "to compile the Mesos launcher",
    },
    Requirement {
        what: What::Python("ensurepip"),
        package: "python3-venv",
        purpose: "to fetch Mesos with pip",
    },
    Requirement {
        what: What::Library("libsasl2.so.2"),
        package: "libsasl2-2",
        purpose: "Mesos is linked with it",
    },
    Requirement {
        what: What::Library("libsvn_delta-1.so.1"),
        package: "libsvn1",
        purpose: "with which Mesos's replicated log keeps differences",
    },
    Requirement {
        what: What::Library("libapr-1.so.0"),
        package: "libapr1",
        purpose: "Mesos is linked with it",
    },
    Requirement {
        what: What::Library("libz.so.1"),
        package: "zlib1g",
        purpose: "Mesos is linked with it",
    },
];

/// What it takes to make hosts and to attach containers to them.
pub const HOSTS: &[Requirement] = &[
    Requirement {
        what: What::Program("ip"),
        package: "iproute2",
        purpose: "to make network namespaces",
    },
    Requirement {
        what: What::Program("ethtool"),
        package: "ethtool",
        purpose: "to look at devices' features",
    },
    Requirement {
        what: What::Program("iptables"),
        package: "iptables",
        purpose: "to forward ports to containers",
    },
    Requirement {
        what: What::Program("ipset"),
        package: "ipset",
        purpose: "to masquerade containers with iptables",
    },
    Requirement {
        what: What::Program("nft"),
        package: "nftables",
        purpose: "to masquerade containers with nftables",
    },
    Requirement {
        what: What::Plugin("bridge"),
        package: "containernetworking-plugins",
        purpose: "to attach containers to their networks",
    },
    Requirement {
        what: What::Path(BUSYBOX),
        package: "busybox-static",
        purpose: "to send single packets, and to make an image for containers",
    },
];

/// A busybox that needs no libraries.
pub const BUSYBOX: &str = "/bin/busybox";

/// What it takes to run container engines, beyond [`HOSTS`].
pub const DOCKER: &[Requirement] = &[
    Requirement {
        what: What::Program("dockerd"),
        package: "docker.io",
        purpose: "to run container engines",
    },
    Requirement {
        what: What::Program("docker"),
        package: "docker.io",
        purpose: "to start containers",
    },
];

/// What it takes to have several masters.
pub const ZOOKEEPER: &[Requirement] = &[
    Requirement {
        what: What::Program("java"),
        package: "default-jre-headless",
        purpose: "to run ZooKeeper",
    },
    // Not zookeeperd, which would start a server at once, on all interfaces.
    Requirement {
        what: What::Path(zookeeper::JAR),
        package: "zookeeper",
        purpose: "for masters to meet in",
    },
];

/// What it takes to generate declarations from the C header.
pub const BINDGEN: &[Requirement] = &[Requirement {
    what: What::Clang,
    package: "libclang-dev",
    purpose: "to generate declarations from the C header",
}];

impl std::fmt::Display for Requirement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.package, self.purpose)
    }
}

impl Requirement {
    pub(crate) fn is_met(&self) -> bool {
        match self.what {
            What::Program(name) => program(name).is_some(),
            What::Library(name) => library(name),
            What::Plugin(name) => Path::new(cni::PLUGINS).join(name).exists(),
            What::Path(path) => Path::new(path).exists(),
            What::Clang => clang(),
            What::Python(module) => {
                let mut python = Command::new("python3");
                python.args(["-c", &format!("import venv, {module}")]);
                python
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success())
            }
        }
    }
}

/// What of it is not there, as one sentence; nothing is installed.
pub fn missing(needs: &[Requirement]) -> Option<String> {
    let missing = needs.iter().filter(|need| !need.is_met());
    let lines: Vec<_> = missing
        .map(|need| format!("{} ({})", need.package, need.purpose))
        .collect();
    (!lines.is_empty()).then(|| format!("missing: {}", lines.join(", ")))
}

/// Installs what is missing; without the right to, says what that is.
pub fn ensure(needs: &[Requirement]) -> Result<()> {
    let missing: Vec<&Requirement> = needs.iter().filter(|need| !need.is_met()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let packages = packages.join(" ");
    for need in &missing {
        eprintln!("missing: {need}");
    }
    if !nix::unistd::geteuid().is_root() || program("apt-get").is_none() {
        bail!("please install these first; on Debian or Ubuntu: sudo apt-get install {packages}");
    }
    eprintln!("installing: apt-get install {packages}");
    // The package lists of a fresh machine or container are missing or old.
    if apt(&["install"], &packages).is_err() {
        apt(&["update"], "").context("apt-get update")?;
        apt(&["install"], &packages)?;
    }
    match missing.iter().find(|need| !need.is_met()) {
        Some(need) => bail!(
            "{} was installed, but {:?} is still missing",
            need.package,
            need.what
        ),
        None => Ok(()),
    }
}

fn apt(verb: &[&str], packages: &str) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive")
        .args(["--quiet", "--quiet", "--yes"])
        .args(verb);
    if !packages.is_empty() {
        apt.arg("--no-install-recommends").args(packages.split(' '));
    }
    let output = apt
        .stdin(Stdio::null())
        .output()
        .context("running apt-get")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("apt-get {} {packages}: {}", verb.join(" "), said.trim());
    }
    Ok(())
}

/// Looks for a program where shells do, and where root's are.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    dirs.map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn library(name: &str) -> bool {
    let dirs = [
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/usr/local/lib",
    ];
    dirs.iter().any(|dir| Path::new(dir).join(name).exists())
}

/// Looks for libclang where Debian's package has it: in a directory for each version.
fn clang() -> bool {
    let versions = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten();
    versions
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"llvm-"))
        .any(|entry| entry.path().join("lib/libclang.so").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_there_and_what_is_not() {
        let need = |what| Requirement {
            what,
            package: "p",
            purpose: "a test",
        };
        assert!(need(What::Program("sh")).is_met());
        for what in [
            What::Program("no-such-program"),
            What::Library("libno-such.so.1"),
            What::Plugin("no-such-plugin"),
            What::Path("/no/such/file"),
            What::Python("no_such_module"),
        ] {
            assert!(!need(what).is_met(), "{what:?}");
        }
    }
}
