//! Debian packages in Debian's releases.

use packaging::chroots::{BOOKWORM, BULLSEYE, Suite, TRIXIE};
use packaging::contents::Format;
use packaging::packages::{self, VERSION};
use testbed::net::NamedNetns;
use testbed::node::Role;
use testbed::run::Run;
use testbed::skip;

use crate::chroot::{Chroot, Snapshot, differences};
use crate::wrapper::{self, Node};
use crate::{Needs, page};

const CONFIGURATION: &str = "/etc/mesos/overlay";

#[test]
fn bullseye() {
    installs("bullseye", BULLSEYE);
}

#[test]
fn bookworm() {
    installs("bookworm", BOOKWORM);
}

#[test]
fn trixie() {
    installs("trixie", TRIXIE);
}

/// Installs, uses, upgrades and purges the package.
fn installs(test: &str, suite: Suite) {
    let Some(Needs { kept, mesos }) = crate::needs(test) else {
        return;
    };
    let archive = match suite.archive() {
        Ok(archive) => archive,
        Err(error) => return skip::skip(test, &format!("{error:#}")),
    };
    let run = Run::new().unwrap();
    let chroot = Chroot::new(&run, &archive);
    wrapper::install(&chroot, &mesos, &run);
    chroot.copy(&kept.packages.deb, "tmp");
    chroot.copy(&kept.next.deb, "tmp");
    let before = chroot.snapshot();

    let install = page::commands("deb");
    keeps_files_of_an_installation_by_hand(&chroot, &install);
    chroot.run(&install);
    let changed = differences(&before, &chroot.snapshot());
    let files = packages::of(&kept.files, Format::Deb);
    for path in &changed {
        let own = |path: &str| files.iter().any(|file| file.path.starts_with(path));
        assert!(own(path), "installing changed {path}");
    }
    assert!(files.iter().all(|file| changed.contains(&file.path)));
    let version = chroot.run("mesos-overlay --version");
    assert_eq!(version, format!("mesos-overlay {VERSION}\n"));

    uses_the_module(&chroot, &run);
    upgrades(&chroot, &install);
    chroot.run("apt-get --yes remove mesos-overlay");
    let kept_files = chroot.run(&format!("cat {CONFIGURATION}/agent.json"));
    assert!(kept_files.ends_with("changed\n"), "remove keeps changes");
    let (done, _) = chroot.attempt("mesos-overlay --version");
    assert!(!done, "the program is still there");
    chroot.run(&page::commands("deb off").replace("purge", "--yes purge"));
    assert_restored(&before, &chroot.snapshot());
    check_table(&chroot, suite);
}

/// The first installation keeps files of the same names, if dpkg is told to. Purges the package.
fn keeps_files_of_an_installation_by_hand(chroot: &Chroot, install: &str) {
    let agent = format!("{CONFIGURATION}/agent.json");
    chroot.write(&agent, "own\n");
    chroot.run(&install.replace(
        "apt-get",
        "apt-get --yes --option Dpkg::Options::=--force-confold",
    ));
    assert_eq!(chroot.read(&agent), "own\n");
    chroot.run(&page::commands("deb off").replace("purge", "--yes purge"));
    chroot.run(&format!(
        "rm -rf {CONFIGURATION}; rmdir --ignore-fail-on-non-empty /etc/mesos"
    ));
}

/// Switches both modules on, starts Mesos until the agent has its subnet, and switches them off.
fn uses_the_module(chroot: &Chroot, run: &Run) {
    let host = NamedNetns::new(run, "host").unwrap();
    chroot.run(&page::commands("master"));
    chroot.run(&page::commands("agent"));
    has_plugins(chroot);
    let mut master = Node::start(chroot, &host, run, Role::Master);
    let status = master.wait("/overlay-master/health", |health| {
        let serving = health["status"] == "serving";
        serving.then(|| health["leader"].clone())
    });
    assert_eq!(status, "127.0.0.1:5050");
    let mut agent = Node::start(chroot, &host, run, Role::Agent);
    agent.wait("/overlay-agent/overlay", |overlay| {
        (overlay["registered"] == true).then_some(())
    });
    let subnet = master.wait("/overlay-master/state", |state| {
        let agent = &state["agents"][0];
        let overlay = &agent["overlays"][0];
        let done = agent["connected"] == true && overlay["state"]["status"] == "STATUS_OK";
        done.then(|| overlay["subnet"].clone())
    });
    assert_eq!(subnet, "9.0.0.0/24");
    agent.stop();
    master.stop();
    let mut cleanup = chroot.command("sh");
    cleanup.args(["-euc", &page::commands("cleanup")]);
    host.netns().apply_to(&mut cleanup);
    let output = cleanup.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    chroot.run(&page::commands("agent off"));
    chroot.run(&page::commands("master off"));
    chroot.run("rm -r /etc/mesos/cni /var/lib/mesos");
}

/// The agent finds Debian's plugins and Mesos's own.
fn has_plugins(chroot: &Chroot) {
    let directories = chroot.read("etc/mesos-agent/network_cni_plugins_dir");
    for plugin in ["bridge", "host-local", "mesos-cni-port-mapper"] {
        let mut paths = directories.trim().split(':');
        let found = paths.any(|directory| chroot.path(directory).join(plugin).is_file());
        assert!(found, "{plugin} is not in {directories}");
    }
}

/// Compares the release's line in the table of distributions.
fn check_table(chroot: &Chroot, suite: Suite) {
    let version = |package: &str| {
        let query = format!("dpkg-query --show --showformat='${{Version}}' {package}");
        let text = chroot.run(&query);
        text.split(['-', '+']).next().unwrap().to_owned()
    };
    let start = format!("| Debian {} ({}) |", suite.number, suite.name);
    let (glibc, libstdc) = (version("libc6"), version("libstdc++6"));
    page::check_line(
        &start,
        &format!("{start} {glibc} | {libstdc} | yes: tested |"),
    );
}

/// A newer package keeps changed files. It has changed the same files, which Debian asks about.
fn upgrades(chroot: &Chroot, install: &str) {
    let agent = format!("{CONFIGURATION}/agent.json");
    chroot.run(&format!("echo changed >> {agent}"));
    let next = install.replace(VERSION, packaging::kept::NEXT_VERSION);
    let (done, text) = chroot.attempt(&next);
    assert!(
        !done && text.contains("conffile"),
        "nobody is asked: {text}"
    );
    chroot.run(&next.replace(
        "apt-get",
        "apt-get --yes --option Dpkg::Options::=--force-confold",
    ));
    let version = chroot.run("dpkg-query --show --showformat='${Version}' mesos-overlay");
    assert_eq!(version, format!("{}-1", packaging::kept::NEXT_VERSION));
    assert!(chroot.read(&agent).ends_with("}\nchanged\n"), "lost");
    assert!(
        chroot
            .read(&format!("{agent}.dpkg-dist"))
            .ends_with("}\n\n")
    );
    let master = chroot.read(&format!("{CONFIGURATION}/master.json"));
    assert!(
        master.ends_with("}\n\n"),
        "the unchanged file is the new one"
    );
}

/// Nothing is left of the package, and nothing of anybody else's is changed.
fn assert_restored(before: &Snapshot, after: &Snapshot) {
    let left = differences(before, after);
    assert!(left.is_empty(), "{left:?}");
}
