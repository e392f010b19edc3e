//! Simulated hosts: network namespaces that are each connected by one veth pair to another
//! namespace with a bridge, the underlay. The machine's own interfaces, routes and rules are not
//! touched.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{AccessFlags, access};

use crate::cleanup::{self, NETNS_DIR};
use crate::netns::Netns;
use crate::run::{self, Run};

/// Calls `f` on a thread in a new network namespace that has loopback only (all of
/// 127.0.0.0/8). Threads and processes that `f` starts are in it too; the namespace ends with
/// the last of them.
pub fn isolated<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
            let netns = Netns::open(Path::new("/proc/thread-self/ns/net"))?;
            ip(&netns, &["link set lo up".into()])?;
            f()
        });
        inside
            .join()
            .map_err(|_| anyhow!("a thread in a network namespace panicked"))?
    })
}

/// A network namespace with a name; removed on drop.
#[derive(Debug)]
pub struct NamedNetns {
    name: String,
    path: PathBuf,
    netns: Netns,
}

impl NamedNetns {
    /// Makes a namespace for a part of the run, with loopback only.
    pub fn new(run: &Run, part: &str) -> Result<NamedNetns> {
        let _gate = run::creation_guard();
        let name = run.name(part);
        let path = Path::new(NETNS_DIR).join(&name);
        share_names()?;
        File::create_new(&path).with_context(|| format!("making {}", path.display()))?;
        let made = thread::spawn({
            let path = path.clone();
            move || make_namespace(&path)
        });
        made.join()
            .map_err(|_| anyhow!("a thread panicked"))?
            .with_context(|| format!("making the network namespace {name}"))?;
        let netns = Netns::open(&path)?;
        let named = NamedNetns { name, path, netns };
        named.ip(&["link set lo up".into()])?;
        Ok(named)
    }

    /// Returns the file that names the namespace, in [`NETNS_DIR`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the open namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    fn ip(&self, commands: &[String]) -> Result<()> {
        ip(&self.netns, commands)
    }
}

impl Drop for NamedNetns {
    fn drop(&mut self) {
        if let Err(error) = cleanup::remove_namespace(&self.path) {
            eprintln!("removing {}: {error:#}", self.name);
        }
    }
}

/// Makes /run/netns a shared mount point of its own, as `ip netns` does at its first use. If
/// `ip netns` did it later, it would hide the namespaces that are mounted there by then.
fn share_names() -> Result<()> {
    static SHARED: OnceLock<nix::Result<()>> = OnceLock::new();
    fs::create_dir_all(NETNS_DIR).with_context(|| format!("making {NETNS_DIR}"))?;
    let none = None::<&str>;
    let share = || {
        mount(
            none,
            NETNS_DIR,
            none,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            none,
        )
    };
    let bind = || {
        mount(
            Some(NETNS_DIR),
            NETNS_DIR,
            none,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            none,
        )
    };
    let shared = SHARED.get_or_init(|| share().or_else(|_| bind().and_then(|()| share())));
    shared.with_context(|| format!("sharing {NETNS_DIR}"))
}

/// Moves the calling thread into a new namespace and mounts the namespace at `path`. The thread
/// must end afterwards. (`ip netns add` would return to the namespace it came from, which root of
/// a user namespace may not.)
fn make_namespace(path: &Path) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let own = "/proc/thread-self/ns/net";
    mount(
        Some(own),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
}

/// Runs `ip` commands in a namespace, as one batch.
fn ip(netns: &Netns, commands: &[String]) -> Result<()> {
    let mut ip = Command::new("ip");
    netns.apply_to(&mut ip);
    ip.args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = ip
        .spawn()
        .context("running ip (Debian: apt-get install iproute2)")?;
    let mut stdin = child.stdin.take().context("ip without a standard input")?;
    stdin
        .write_all(commands.join("\n").as_bytes())
        .and_then(|()| stdin.write_all(b"\n"))?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", commands.join("; "), said.trim());
    }
    Ok(())
}

/// A simulated host: a network namespace with the device `eth0` on the underlay.
#[derive(Debug)]
pub struct Host {
    named: NamedNetns,
    ip: Ipv4Addr,
}

impl Host {
    /// Returns the name of the namespace for `ip -netns`.
    pub fn name(&self) -> &str {
        &self.named.name
    }

    /// Returns the address on the underlay.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Returns the network namespace.
    pub fn netns(&self) -> &Netns {
        &self.named.netns
    }

    /// Runs a tool (`ip`, `bridge`, `ping`) in the namespace and returns its standard output.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(args);
        self.netns().apply_to(&mut command);
        let output = command
            .output()
            .with_context(|| format!("running {program}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {}: {}", args.join(" "), said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The network that connects the hosts, 10.77.0.0/16.
#[derive(Debug)]
pub struct Underlay {
    bridge: NamedNetns,
}

impl Underlay {
    /// Makes an underlay without hosts.
    pub fn new(run: &Run) -> Result<Underlay> {
        let bridge = NamedNetns::new(run, "underlay")?;
        bridge.ip(&[
            "link add underlay type bridge".into(),
            "link set underlay up".into(),
        ])?;
        Ok(Underlay { bridge })
    }

    /// Adds a host. The other end of its veth pair, a port of the bridge, is called `part`.
    pub fn host(&self, run: &Run, part: &str, ip: Ipv4Addr) -> Result<Host> {
        let named = NamedNetns::new(run, part)?;
        self.bridge.ip(&[
            format!(
                "link add dev {part} type veth peer name eth0 netns {}",
                named.name
            ),
            format!("link set dev {part} master underlay up"),
        ])?;
        named.ip(&[
            format!("address add {ip}/16 dev eth0"),
            "link set eth0 up".into(),
        ])?;
        Ok(Host { named, ip })
    }

    /// Sets the MTU of a host's bridge port. The host itself does not see it: larger packets to it
    /// are lost, as on a switch.
    pub fn set_mtu(&self, part: &str, mtu: u32) -> Result<()> {
        self.bridge.ip(&[format!("link set dev {part} mtu {mtu}")])
    }

    /// Connects or disconnects a host, by setting its bridge port up or down.
    pub fn set_connected(&self, part: &str, connected: bool) -> Result<()> {
        self.bridge.ip(&[format!(
            "link set dev {part} {}",
            if connected { "up" } else { "down" }
        )])
    }
}

/// Checks that hosts can be made on this machine. The error says what is missing.
pub fn available() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("making network namespaces needs root, or a user namespace in which one is root");
    }
    // Root may lack the capability (in a container): try it, on a thread that ends afterwards.
    let unshared = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join();
    unshared
        .map_err(|_| anyhow!("a thread panicked"))?
        .context("making a network namespace")?;
    writable_names()
}

/// Makes [`NETNS_DIR`] writable. Root of a user namespace may not write below /run, but may mount
/// another file system over it in a mount namespace of its own.
fn writable_names() -> Result<()> {
    if fs::create_dir_all(NETNS_DIR).is_ok() && access(NETNS_DIR, AccessFlags::W_OK).is_ok() {
        return Ok(());
    }
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .context("/run/netns is not writable, and no other /run can be mounted")?;
    fs::create_dir_all(NETNS_DIR).with_context(|| format!("making {NETNS_DIR}"))
}
