//! Kernel: its release, and the features that the overlays need.

use std::fs;
use std::path::{Path, PathBuf};

use log::LevelFilter;
use overlay_host::survey::{Trial, trial};

use super::Check;
use super::scene::Scene;
use crate::finding::Finding;
use crate::finding::kinds::host;

const KERNEL: &str = "kernel";
const FEATURES: &str = "kernel features";

/// Modules of the kernel that a host with containers needs, if it is not root that looks.
const MODULES: [&str; 3] = ["vxlan", "bridge", "veth"];

const REMEDY: &str = "install the modules of the running kernel (linux-modules-extra, kernel-modules-extra), restart the host after an upgrade of the kernel, or use another kernel";

/// Shows the release of the kernel.
pub fn kernel(_: &Scene) -> Check {
    Check::made(KERNEL, format!("Linux {}", release()), Vec::new())
}

/// Looks for the features: as root by trying them in a network namespace of their own, otherwise among the
/// kernel's modules.
pub fn features(scene: &Scene) -> Check {
    if !scene.has_tunnel() {
        return Check::skipped(FEATURES, "no agent on this host");
    }
    if !scene.is_root {
        return look(Path::new("/"), "");
    }
    match quietly(|| trial(scene.firewall())) {
        Ok(trial) => of_trial(&trial),
        Err(sentence) => look(Path::new("/"), &format!("{sentence}; ")),
    }
}

/// Calls `work` without the messages that the agent would log.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    let level = log::max_level();
    log::set_max_level(level.min(LevelFilter::Off));
    let result = work();
    log::set_max_level(level);
    result
}

fn of_trial(trial: &Trial) -> Check {
    let of_kernel = trial.problems.iter();
    // The check of the firewall names missing tools.
    let of_kernel = of_kernel.filter(|problem| !problem.contains("not installed"));
    let mut findings: Vec<Finding> = of_kernel
        .map(|problem| {
            let message = format!("the kernel does not make what an agent needs: {problem}");
            host::KERNEL_FEATURE_MISSING.finding(message, REMEDY)
        })
        .collect();
    findings.extend(trial.veth.as_ref().map(|error| {
        let message =
            format!("the kernel makes no veth devices, which connect containers: {error}");
        host::KERNEL_FEATURE_MISSING
            .finding(message, REMEDY)
            .about("veth")
    }));
    let nexthop = match &trial.nexthop {
        None => "",
        Some(_) => "; no nexthop objects, which save time with more than 1,000 peers",
    };
    let seen = match findings.is_empty() {
        true => format!("VXLAN, bridges, veth, rules, routes and firewall were tried{nexthop}"),
        false => "tried in a network namespace of their own".to_owned(),
    };
    Check::made(FEATURES, seen, findings)
}

/// Place of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Loaded,
    BuiltIn,
    Loadable,
    Missing,
    Unknown,
}

/// Looks for the kernel's modules. `note` is a beginning of what was seen.
fn look(root: &Path, note: &str) -> Check {
    let places = MODULES.map(|module| (module, place(root, module)));
    let missing = places.iter().filter(|(_, place)| *place == Place::Missing);
    let findings = missing
        .map(|(module, _)| {
            let message = format!("the running kernel ({}) has no module {module}", release());
            host::KERNEL_FEATURE_MISSING
                .finding(message, REMEDY)
                .about(module)
        })
        .collect();
    let words = places.map(|(module, place)| {
        let word = match place {
            Place::Loaded => "loaded",
            Place::BuiltIn => "built in",
            Place::Loadable => "loadable",
            Place::Missing => "missing",
            Place::Unknown => "not known",
        };
        format!("{module} {word}")
    });
    let words = words.join(", ");
    if places.iter().all(|(_, place)| *place == Place::Unknown) {
        let hint = "only root can try them, and /lib/modules does not have the running kernel";
        return Check::skipped(FEATURES, format!("{note}{hint}"));
    }
    Check::made(FEATURES, format!("{note}{words}"), findings)
}

/// Looks for a module of the running kernel.
fn place(root: &Path, module: &str) -> Place {
    if root.join("sys/module").join(module).exists() {
        return Place::Loaded;
    }
    let directory = root.join("lib/modules").join(release());
    let lists = |name: &str| -> Option<bool> {
        let text = fs::read_to_string(directory.join(name)).ok()?;
        Some(text.lines().any(|line| file_of(line) == module))
    };
    match (lists("modules.builtin"), lists("modules.dep")) {
        (Some(true), _) => Place::BuiltIn,
        (_, Some(true)) => Place::Loadable,
        (_, Some(false)) => Place::Missing,
        _ => Place::Unknown,
    }
}

/// Returns the name of the module in a line of `modules.builtin` or `modules.dep`, such as
/// `kernel/drivers/net/vxlan/vxlan.ko.xz: …`.
fn file_of(line: &str) -> String {
    let path = PathBuf::from(line.split(':').next().unwrap_or_default().trim());
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    name.split(".ko")
        .next()
        .unwrap_or_default()
        .replace('-', "_")
}

fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_in_the_lists_of_the_running_kernel() {
        let root = tempfile::tempdir().unwrap();
        let place = |module: &str| super::place(root.path(), module);
        assert_eq!(place("vxlan"), Place::Unknown);
        let directory = root.path().join("lib/modules").join(release());
        fs::create_dir_all(&directory).unwrap();
        let dep = "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz\n\
                   kernel/net/netfilter/xt-set.ko:\n";
        fs::write(directory.join("modules.dep"), dep).unwrap();
        fs::write(
            directory.join("modules.builtin"),
            "kernel/net/bridge/bridge.ko\n",
        )
        .unwrap();
        fs::create_dir_all(root.path().join("sys/module/dummy")).unwrap();
        for (module, expected) in [
            ("vxlan", Place::Loadable),
            ("xt_set", Place::Loadable),
            ("udp_tunnel", Place::Missing),
            ("bridge", Place::BuiltIn),
            ("dummy", Place::Loaded),
            ("veth", Place::Missing),
        ] {
            assert_eq!(place(module), expected, "{module}");
        }
        let check = look(root.path(), "");
        assert!(
            check
                .seen
                .contains("vxlan loadable, bridge built in, veth missing")
        );
        let codes: Vec<_> = check.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, ["kernel-feature-missing"]);
    }
}
