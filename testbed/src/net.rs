//! Throw-away hosts: network namespaces with one wire each into another
//! namespace that has nothing but a bridge, the underlay. None of it touches the
//! machine's own interfaces, routes or rules.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{AccessFlags, access};

use crate::process;
use crate::remains::{self, NETNS_DIR};
use crate::run::{self, Run};

/// A network namespace of whatever origin. Clones are the same namespace.
#[derive(Clone, Debug)]
pub struct Netns(Arc<File>);

impl Netns {
    /// The namespace behind a file: `/run/netns/<name>` or `/proc/<pid>/ns/net`.
    pub fn open(path: &Path) -> Result<Netns> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Netns(Arc::new(file)))
    }

    /// Moves the calling thread there, for good.
    pub fn enter(&self) -> nix::Result<()> {
        setns(self.as_fd(), CloneFlags::CLONE_NEWNET)
    }

    /// Calls `f` on a thread that is there. Sockets that it makes belong to the
    /// namespace, wherever they are used later.
    pub fn within<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                self.enter()
                    .context("entering a network namespace")
                    .map(|()| f())
            });
            there
                .join()
                .map_err(|_| anyhow!("a thread in a network namespace panicked"))?
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Calls `f` on a thread with a network of its own that has nothing but loopback, all of
/// 127.0.0.0/8. Threads and processes that `f` starts are there too; it goes with the last.
pub fn alone<T: Send>(f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
            let netns = Netns::open(Path::new("/proc/thread-self/ns/net"))?;
            ip(&netns, &["link set lo up".into()])?;
            f()
        });
        there
            .join()
            .map_err(|_| anyhow!("a thread in a network namespace panicked"))?
    })
}

/// Connects from a namespace, or from this process's own.
pub fn connect(from: Option<&Netns>, to: SocketAddr, limit: Duration) -> Result<TcpStream> {
    let connect = || TcpStream::connect_timeout(&to, limit);
    let stream = match from {
        Some(netns) => netns.within(connect)?,
        None => connect(),
    };
    let stream = stream.with_context(|| format!("connecting to {to}"))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A network namespace with a name, removed on drop.
#[derive(Debug)]
pub struct Named {
    name: String,
    path: PathBuf,
    netns: Netns,
}

impl Named {
    /// Makes the namespace of a part of the run, with nothing in it but loopback.
    pub fn new(run: &Run, part: &str) -> Result<Named> {
        let _gate = run::gate();
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
        let named = Named { name, path, netns };
        named.ip(&["link set lo up".into()])?;
        Ok(named)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The namespace itself.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    fn ip(&self, commands: &[String]) -> Result<()> {
        ip(&self.netns, commands)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Err(error) = remains::remove_namespace(&self.path) {
            eprintln!("removing {}: {error:#}", self.name);
        }
    }
}

/// Makes /run/netns a mount point of its own that shares what is mounted in it, as `ip
/// netns` does at its first use. (If it came second, it would bury our mounts.)
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

/// Moves the calling thread, which ends then, into a new namespace and lets it keep
/// the name. (`ip netns add` would go back to the namespace it came from, which the root of
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

/// Runs `ip` commands in a namespace.
fn ip(netns: &Netns, commands: &[String]) -> Result<()> {
    let mut ip = Command::new("ip");
    process::enter(&mut ip, netns);
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

/// A host: a network namespace with the device `eth0` on the underlay.
#[derive(Debug)]
pub struct Host {
    named: Named,
    ip: Ipv4Addr,
}

impl Host {
    /// Its name for `ip -netns`.
    pub fn name(&self) -> &str {
        &self.named.name
    }

    /// Its address on the underlay.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.named.netns
    }

    /// Runs a tool there (`ip`, `bridge`, `ping`) and returns what it printed.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(args);
        process::enter(&mut command, self.netns());
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

/// The network between the hosts, 10.77.0.0/16.
#[derive(Debug)]
pub struct Underlay {
    bridge: Named,
}

impl Underlay {
    /// An underlay without hosts.
    pub fn new(run: &Run) -> Result<Underlay> {
        let bridge = Named::new(run, "underlay")?;
        bridge.ip(&[
            "link add underlay type bridge".into(),
            "link set underlay up".into(),
        ])?;
        Ok(Underlay { bridge })
    }

    /// Adds a host. Its wire's other end has the name of the host's part.
    pub fn host(&self, run: &Run, part: &str, ip: Ipv4Addr) -> Result<Host> {
        let named = Named::new(run, part)?;
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

    /// Pulls a host's plug, or puts it back.
    pub fn plug(&self, part: &str, plugged: bool) -> Result<()> {
        self.bridge.ip(&[format!(
            "link set dev {part} {}",
            if plugged { "up" } else { "down" }
        )])
    }
}

/// Whether hosts can be made here; if not, why.
pub fn available() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("making network namespaces needs root, or a user namespace in which one is root");
    }
    // The rights may be missing all the same (a container): see on a thread that ends then.
    let unshared = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join();
    unshared
        .map_err(|_| anyhow!("a thread panicked"))?
        .context("making a network namespace")?;
    writable_names()
}

/// `ip netns` keeps its names below /run, where the root of a user namespace may
/// not write. In a mount namespace of its own it may put another /run over it.
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
    .context("/run/netns cannot be written, nor another /run be mounted")?;
    fs::create_dir_all(NETNS_DIR).with_context(|| format!("making {NETNS_DIR}"))
}
