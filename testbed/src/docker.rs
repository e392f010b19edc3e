//! Docker engines, one per host: several run on one machine, each with directories, a socket and a
//! network namespace of its own. The machine's own engine is not used; its programs are, unless
//! the environment names another [`Release`].

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cleanup::RUN_VARIABLE;
use crate::install::{self, Requirement};
use crate::netns::Netns;
use crate::process::Daemon;
use crate::run::Run;
use crate::task::PORT;
use crate::{paths, wait};

pub use release::Release;

pub mod release;

/// Image that every engine has.
pub const IMAGE: &str = "busybox";

/// Timeout of starting and stopping an engine.
const LIMIT: Duration = Duration::from_secs(60);

/// Checks that engines can run on this machine. The error says what is missing.
pub fn available() -> Result<()> {
    crate::net::available()?;
    let users = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let users: Vec<&str> = users.split_whitespace().collect();
    ensure!(
        users == ["0", "0", "4294967295"],
        "Docker needs root outside of user namespaces"
    );
    let missing: Vec<&Requirement> = install::DOCKER
        .iter()
        .filter(|need| !need.is_met())
        .collect();
    match missing.first() {
        Some(need) => bail!("missing: {need}"),
        None => Release::selected()?.fetch(),
    }
}

/// An engine. Dropping it ends the engine with all its containers; its files are kept until the
/// run ends.
#[derive(Debug)]
pub struct Engine {
    daemon: Option<Daemon>,
    netns: Netns,
    dir: PathBuf,
    run: String,
    release: Release,
}

impl Engine {
    /// Makes an engine for a namespace, which is not started yet. `part` is its name in the run. Its
    /// release is the one that the environment names.
    pub fn new(run: &Run, part: &str, netns: &Netns) -> Result<Engine> {
        let dir = run.dir().join(part);
        fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        // Without a file of its own it reads the file of the machine's engine.
        fs::write(dir.join("daemon.json"), "{}")?;
        Ok(Engine {
            daemon: None,
            netns: netns.clone(),
            dir,
            run: run.id().to_owned(),
            release: Release::selected()?,
        })
    }

    /// Selects another release, from the next start on.
    pub fn set_release(&mut self, release: Release) {
        self.release = release;
    }

    /// Makes containers survive a stop of the engine, from the next start on.
    pub fn keep_containers(&self) -> Result<()> {
        let file = self.dir.join("daemon.json");
        fs::write(&file, r#"{ "live-restore": true }"#)
            .with_context(|| format!("writing {}", file.display()))
    }

    /// Returns the path of the API socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// Starts the engine, without waiting until it answers.
    pub fn spawn(&mut self) -> Result<()> {
        let mut command = self.release.command("dockerd")?;
        let dir = |name: &str| self.dir.join(name).display().to_string();
        command
            .args(["--host", &format!("unix://{}", self.socket().display())])
            .args([
                "--data-root",
                &dir("data"),
                "--exec-root",
                &dir("exec"),
                "--pidfile",
                &dir("pid"),
            ])
            .args([
                "--config-file",
                &dir("daemon.json"),
                "--cgroup-parent",
                &format!("/{}", self.run),
            ])
            // The driver that works everywhere; the image is small.
            .args(["--storage-driver", "vfs"])
            .env(RUN_VARIABLE, &self.run)
            .env_remove("DOCKER_HOST");
        let log = self.dir.join("log");
        self.daemon = Some(Daemon::spawn("dockerd", command, Some(&self.netns), &log)?);
        Ok(())
    }

    /// Starts the engine, waits until it answers, and imports [`IMAGE`].
    pub fn start(&mut self) -> Result<()> {
        if self.daemon.is_none() {
            self.spawn()?;
        }
        self.wait()?;
        if self.docker(&["image", "ls", "--quiet", IMAGE])?.is_empty() {
            self.import()?;
        }
        Ok(())
    }

    /// Waits until the engine answers.
    pub fn wait(&mut self) -> Result<()> {
        wait::until("the container engine to answer", LIMIT, || {
            if let Some(daemon) = &mut self.daemon {
                daemon.check()?;
            }
            Ok(self.docker(&["version"]).ok().map(drop))
        })
    }

    /// Ends the engine with SIGTERM. Containers end too, unless
    /// [`keep_containers`](Engine::keep_containers) was called.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.terminate(LIMIT)?;
        }
        Ok(())
    }

    /// Ends the engine with SIGKILL. Containers live on.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill()?;
            // Its containerd died with it, but remains a zombie on machines whose init does not
            // reap, and the next engine would take it for alive.
            let _ = fs::remove_file(self.dir.join("exec/containerd/containerd.pid"));
        }
        Ok(())
    }

    /// Returns the process id; `None`: the engine is not running.
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::pid)
    }

    /// Runs a `docker` command with this engine and returns its standard output.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        let mut docker = self.command();
        let output = docker.args(args).output().context("running docker")?;
        if !output.status.success() {
            bail!(
                "docker {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Starts a container that sleeps, in a network; `args` are additional arguments of
    /// `docker run`.
    pub fn container(&self, name: &str, network: &str, args: &[&str]) -> Result<()> {
        let variable = format!("{RUN_VARIABLE}={}", self.run);
        let mut all = vec![
            "run",
            "--detach",
            "--init",
            "--name",
            name,
            "--network",
            network,
            "--env",
            &variable,
        ];
        all.extend(args);
        all.extend([IMAGE, "sleep", "86400"]);
        self.docker(&all).map(drop)
    }

    /// Starts a task ([`crate::task`]) as a container in a network. Returns the address on which it
    /// listens; the IPv4 one if there are both.
    pub fn task(&self, name: &str, network: &str) -> Result<SocketAddr> {
        Ok(self.task_addresses(name, network)?[0])
    }

    /// Starts a task as a container in a network. Returns all addresses, IPv4 first.
    pub fn task_addresses(&self, name: &str, network: &str) -> Result<Vec<SocketAddr>> {
        let program = paths::program("overlay-test-executor")?;
        let (variable, program) = (
            format!("{RUN_VARIABLE}={}", self.run),
            format!("{}:/task:ro", program.display()),
        );
        let mut args = vec![
            "run",
            "--detach",
            "--init",
            "--name",
            name,
            "--network",
            network,
            "--env",
            &variable,
        ];
        // The program needs the machine's C library.
        for volume in ["/lib:/lib:ro", "/lib64:/lib64:ro", "/usr:/usr:ro", &program] {
            args.extend(["--volume", volume]);
        }
        let address = format!("[::]:{PORT}");
        args.extend([IMAGE, "/task", "--alone", &address]);
        self.docker(&args)?;
        let network = format!("(index .NetworkSettings.Networks \"{network}\")");
        let format = format!("{{{{{network}.IPAddress}}}} {{{{{network}.GlobalIPv6Address}}}}");
        let said = self.docker(&["inspect", "--format", &format, name])?;
        let ips = said
            .split_whitespace()
            .map(|ip| Ok(SocketAddr::new(ip.parse()?, PORT)));
        let ips = ips
            .collect::<Result<Vec<_>>>()
            .with_context(|| format!("the addresses {said:?} of {name}"))?;
        ensure!(!ips.is_empty(), "{name} has no address");
        Ok(ips)
    }

    /// Leaves the engine and its containers running.
    pub fn leave(mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.leave();
        }
        std::mem::forget(self);
    }

    fn command(&self) -> Command {
        let mut docker = Command::new("docker");
        docker.args(["--host", &format!("unix://{}", self.socket().display())]);
        // A context or host in the environment would select another engine.
        docker
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT");
        docker.env("DOCKER_CONFIG", &self.dir).stdin(Stdio::null());
        docker
    }

    /// Imports the image, made of the machine's busybox.
    fn import(&self) -> Result<()> {
        let tar = self.dir.join("image.tar");
        image(&tar).context("making an image of busybox")?;
        let path = "ENV PATH=/bin";
        self.docker(&[
            "import",
            "--change",
            path,
            &tar.display().to_string(),
            IMAGE,
        ])
        .map(drop)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // After a failure the clean-up of the run removes the containers.
        if let Err(error) = self.stop() {
            eprintln!("cannot stop an engine: {error:#}");
        }
    }
}

/// Writes a root file system that contains a static busybox and links to it.
fn image(tar: &Path) -> Result<()> {
    let mut tar = tar::Builder::new(File::create(tar)?);
    tar.append_path_with_name(install::BUSYBOX, "bin/busybox")?;
    for applet in [
        "sh", "sleep", "ping", "nc", "ip", "cat", "wget", "mkdir", "httpd", "nslookup",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    tar.into_inner()?;
    Ok(())
}
