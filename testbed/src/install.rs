//! Programs, libraries and files that tests and demo need, and their installation on Debian and
//! Ubuntu.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{apt, cni, zookeeper};

/// A program, library or file that the machine must have, and the package that contains it.
#[derive(Clone, Copy, Debug)]
pub struct Requirement {
    kind: Kind,
    /// Debian's package.
    package: &'static str,
    /// Purpose, for messages to the user.
    purpose: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
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

/// Requirements of fetching and running Mesos.
pub const MESOS: &[Requirement] = &[
    Requirement {
        kind: Kind::Program("g++"),
        package: "g++",
        purpose: "to compile the Mesos launcher",
    },
    Requirement {
        kind: Kind::Python("ensurepip"),
        package: "python3-venv",
        purpose: "to fetch Mesos with pip",
    },
    Requirement {
        kind: Kind::Library("libsasl2.so.2"),
        package: "libsasl2-2",
        purpose: "Mesos is linked with it",
    },
    Requirement {
        kind: Kind::Library("libsvn_delta-1.so.1"),
        package: "libsvn1",
        purpose: "Mesos's replicated log stores differences with it",
    },
    Requirement {
        kind: Kind::Library("libapr-1.so.0"),
        package: "libapr1",
        purpose: "Mesos is linked with it",
    },
    Requirement {
        kind: Kind::Library("libz.so.1"),
        package: "zlib1g",
        purpose: "Mesos is linked with it",
    },
];

/// Requirements of making hosts and attaching containers to them.
pub const HOSTS: &[Requirement] = &[
    Requirement {
        kind: Kind::Program("ip"),
        package: "iproute2",
        purpose: "to make network namespaces",
    },
    Requirement {
        kind: Kind::Program("ethtool"),
        package: "ethtool",
        purpose: "to look at devices' features",
    },
    Requirement {
        kind: Kind::Program("iptables"),
        package: "iptables",
        purpose: "to forward ports to containers",
    },
    Requirement {
        kind: Kind::Program("ipset"),
        package: "ipset",
        purpose: "to masquerade containers with iptables",
    },
    Requirement {
        kind: Kind::Program("nft"),
        package: "nftables",
        purpose: "to masquerade containers with nftables",
    },
    Requirement {
        kind: Kind::Plugin("bridge"),
        package: "containernetworking-plugins",
        purpose: "to attach containers to their networks",
    },
    Requirement {
        kind: Kind::Path(BUSYBOX),
        package: "busybox-static",
        purpose: "to send single packets, and to make an image for containers",
    },
];

/// Requirements of asking name servers.
pub const DNS: &[Requirement] = &[Requirement {
    kind: Kind::Program("dig"),
    package: "bind9-dnsutils",
    purpose: "to ask the name server",
}];

/// Statically linked busybox.
pub const BUSYBOX: &str = "/bin/busybox";

/// Requirements of running Docker engines, in addition to [`HOSTS`].
pub const DOCKER: &[Requirement] = &[
    Requirement {
        kind: Kind::Program("dockerd"),
        package: "docker.io",
        purpose: "to run container engines",
    },
    Requirement {
        kind: Kind::Program("docker"),
        package: "docker.io",
        purpose: "to start containers",
    },
];

/// Requirements of running several masters.
pub const ZOOKEEPER: &[Requirement] = &[
    Requirement {
        kind: Kind::Program("java"),
        package: "default-jre-headless",
        purpose: "to run ZooKeeper",
    },
    // Not the package zookeeperd, which starts a server on all interfaces.
    Requirement {
        kind: Kind::Path(zookeeper::JAR),
        package: "zookeeper",
        purpose: "to elect the leading master",
    },
];

/// Requirements of comparing the name server with others, and of asking it.
pub const NAME_SERVERS: &[Requirement] = &[
    Requirement {
        kind: Kind::Program("dig"),
        package: "bind9-dnsutils",
        purpose: "to ask name servers",
    },
    Requirement {
        kind: Kind::Program("nsd"),
        package: "nsd",
        purpose: "to copy zones to a secondary",
    },
    Requirement {
        kind: Kind::Program("named"),
        package: "bind9",
        purpose: "to copy zones to a secondary",
    },
    Requirement {
        kind: Kind::Program("dnsmasq"),
        package: "dnsmasq-base",
        purpose: "to forward questions",
    },
    Requirement {
        kind: Kind::Program("dnsperf"),
        package: "dnsperf",
        purpose: "to measure name servers",
    },
];

/// Requirements of making packages and looking into them.
pub const PACKAGES: &[Requirement] = &[
    Requirement {
        kind: Kind::Program("strip"),
        package: "binutils",
        purpose: "to strip the library and the program",
    },
    Requirement {
        kind: Kind::Program("dpkg-deb"),
        package: "dpkg",
        purpose: "to look into Debian packages",
    },
    Requirement {
        kind: Kind::Program("lintian"),
        package: "lintian",
        purpose: "to check Debian packages",
    },
    Requirement {
        kind: Kind::Program("rpm"),
        package: "rpm",
        purpose: "to look into RPM packages",
    },
    Requirement {
        kind: Kind::Program("rpmlint"),
        package: "rpmlint",
        purpose: "to check RPM packages",
    },
];

/// Requirements of building a release, the SDK included.
pub const RELEASE: &[Requirement] = &[
    Requirement {
        kind: Kind::Program("gcc"),
        package: "gcc",
        purpose: "to link the library and the program",
    },
    Requirement {
        kind: Kind::Program("g++"),
        package: "g++",
        purpose: "to compile the C++ shim",
    },
    Requirement {
        kind: Kind::Program("ld"),
        package: "binutils",
        purpose: "to make the SDK's library",
    },
    Requirement {
        kind: Kind::Program("objcopy"),
        package: "binutils",
        purpose: "to make the SDK's library",
    },
    Requirement {
        kind: Kind::Program("ar"),
        package: "binutils",
        purpose: "to make archives of objects",
    },
];

/// Requirements of finding the date of the last commit.
pub const GIT: &[Requirement] = &[Requirement {
    kind: Kind::Program("git"),
    package: "git",
    purpose: "to find the date of the last commit",
}];

/// Requirements of building the module with the SDK.
pub const SDK: &[Requirement] = &[
    Requirement {
        kind: Kind::Program("make"),
        package: "make",
        purpose: "to build the module with the SDK",
    },
    Requirement {
        kind: Kind::Program("cmake"),
        package: "cmake",
        purpose: "to build the module with the SDK",
    },
    Requirement {
        kind: Kind::Program("pkg-config"),
        package: "pkg-config",
        purpose: "to find the headers of an installed Mesos",
    },
];

/// Requirements of installing packages in other releases of Debian, in addition to [`PACKAGES`].
pub const CHROOTS: &[Requirement] = &[
    Requirement {
        kind: Kind::Program("mmdebstrap"),
        package: "mmdebstrap",
        purpose: "to make file systems of Debian's releases",
    },
    Requirement {
        kind: Kind::Path(apt::KEYRING),
        package: "debian-archive-keyring",
        purpose: "to check packages of Debian's releases",
    },
    Requirement {
        kind: Kind::Program("ip"),
        package: "iproute2",
        purpose: "to make network namespaces",
    },
];

/// Requirements of running the filters for jq in the documentation.
pub const JQ: &[Requirement] = &[Requirement {
    kind: Kind::Program("jq"),
    package: "jq",
    purpose: "to run the filters in the documentation",
}];

/// Requirements of showing the page in a browser.
pub const BROWSER: &[Requirement] = &[
    Requirement {
        kind: Kind::Program("chromium"),
        package: "chromium",
        purpose: "to show the page",
    },
    Requirement {
        kind: Kind::Program("chromedriver"),
        package: "chromium-driver",
        purpose: "to drive the browser",
    },
];

/// Requirements of generating Rust declarations of the C header.
pub const BINDGEN: &[Requirement] = &[Requirement {
    kind: Kind::Clang,
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
        match self.kind {
            Kind::Program(name) => program(name).is_some(),
            Kind::Library(name) => library(name),
            Kind::Plugin(name) => Path::new(cni::PLUGINS).join(name).exists(),
            Kind::Path(path) => Path::new(path).exists(),
            Kind::Clang => clang(),
            Kind::Python(module) => {
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

/// Returns the missing requirements as one sentence; installs nothing.
pub fn missing(needs: &[Requirement]) -> Option<String> {
    let missing = needs.iter().filter(|need| !need.is_met());
    let lines: Vec<_> = missing
        .map(|need| format!("{} ({})", need.package, need.purpose))
        .collect();
    (!lines.is_empty()).then(|| format!("missing: {}", lines.join(", ")))
}

/// Returns Debian's package that has a program which releases, their packages or tests of these
/// need; `None` for other programs.
pub fn package_of(program: &str) -> Option<&'static str> {
    let mut needs = [RELEASE, GIT, PACKAGES, SDK, CHROOTS].into_iter().flatten();
    let is_it = |need: &&Requirement| matches!(need.kind, Kind::Program(name) if name == program);
    needs.find(is_it).map(|need| need.package)
}

/// Checks that nothing is missing; installs nothing.
///
/// # Errors
/// Something is; the error names the packages.
pub fn require(needs: &[Requirement]) -> Result<()> {
    let Some(missing) = missing(needs) else {
        return Ok(());
    };
    let mut packages: Vec<_> = needs.iter().filter(|need| !need.is_met()).collect();
    packages.dedup_by_key(|need| need.package);
    let packages: Vec<_> = packages.iter().map(|need| need.package).collect();
    bail!(
        "{missing}; on Debian or Ubuntu: sudo apt-get install {}",
        packages.join(" ")
    )
}

/// Installs missing requirements, as root on Debian and Ubuntu.
///
/// # Errors
/// The process is not root, there is no apt-get, or it fails; the error names the packages.
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
    // On a new machine or container the package lists are missing or old.
    if apt(&["install"], &packages).is_err() {
        apt(&["update"], "").context("apt-get update")?;
        apt(&["install"], &packages)?;
    }
    match missing.iter().find(|need| !need.is_met()) {
        Some(need) => bail!(
            "{} was installed, but {:?} is still missing",
            need.package,
            need.kind
        ),
        None => Ok(()),
    }
}

/// Packages whose services would answer on this machine's port 53.
const WITHOUT_SERVICES: [&str; 2] = ["nsd", "bind9"];

/// Program that Debian's packages ask whether their services may start.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Forbids Debian's packages to start services, until it is dropped.
struct NoServices {
    /// The machine had no policy.
    is_own: bool,
}

impl NoServices {
    fn new() -> Result<NoServices> {
        let is_own = !Path::new(POLICY).exists();
        if is_own {
            let forbid = "#!/bin/sh\nexit 101\n";
            fs::write(POLICY, forbid).with_context(|| format!("writing {POLICY}"))?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(NoServices { is_own })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_own {
            let _ = fs::remove_file(POLICY);
        }
    }
}

fn apt(verb: &[&str], packages: &str) -> Result<()> {
    let mut names = packages.split(' ');
    let _without = match names.any(|name| WITHOUT_SERVICES.contains(&name)) {
        true => Some(NoServices::new()?),
        false => None,
    };
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
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("apt-get {} {packages}: {}", verb.join(" "), errors.trim());
    }
    Ok(())
}

/// Searches for a program in `PATH` and in the directories of system programs.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
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

    fn need(kind: Kind) -> Requirement {
        Requirement {
            kind,
            package: "p",
            purpose: "a test",
        }
    }

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let none = Kind::Program("no-such-program");
        let error = require(&[need(none), need(Kind::Program("sh")), need(none)]).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("missing: p (a test)"), "{said}");
        assert!(said.ends_with(": sudo apt-get install p"), "{said}");
        assert!(require(&[need(Kind::Program("sh"))]).is_ok());
        assert_eq!(package_of("objcopy"), Some("binutils"));
        assert_eq!(package_of("sh"), None);
    }

    #[test]
    fn finds_missing_requirements() {
        assert!(need(Kind::Program("sh")).is_met());
        for kind in [
            Kind::Program("no-such-program"),
            Kind::Library("libno-such.so.1"),
            Kind::Plugin("no-such-plugin"),
            Kind::Path("/no/such/file"),
            Kind::Python("no_such_module"),
        ] {
            assert!(!need(kind).is_met(), "{kind:?}");
        }
    }
}
