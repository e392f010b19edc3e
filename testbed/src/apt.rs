//! Packages of Debian's suites that are unpacked below `target/`, not installed.
//!
//! apt fetches them with lists of its own, so the machine's packages stay as they are, and checks
//! the signatures.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::paths;

/// Keys that sign Debian's suites.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Mirror of Debian that every installation of apt knows.
const MIRROR: &str = "http://deb.debian.org/debian";

/// Returns `target/<name>`. If it does not exist, `fetch` makes its content in another directory,
/// which it returns, below a temporary one, which it is given. Only one process fetches at a time.
///
/// # Errors
/// As those of `fetch`; or Debian's keys are missing, or a directory cannot be made or moved.
pub fn directory(name: &str, fetch: impl FnOnce(&Path) -> Result<PathBuf>) -> Result<PathBuf> {
    let dir = paths::target().join(name);
    if dir.exists() {
        return Ok(dir);
    }
    fs::create_dir_all(paths::target())?;
    let lock = suffixed(&dir, "lock");
    let lock = File::create(&lock).with_context(|| format!("making {}", lock.display()))?;
    lock.lock().with_context(|| format!("locking {name}"))?;
    if dir.exists() {
        return Ok(dir);
    }
    ensure!(
        Path::new(KEYRING).exists(),
        "there is no {KEYRING}; install the package debian-archive-keyring"
    );
    // Files of an interrupted run.
    let scratch = suffixed(&dir, "fetch");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    let content = fetch(&scratch)?;
    fs::rename(content, &dir).with_context(|| format!("moving {name} into place"))?;
    fs::remove_dir_all(&scratch).context("removing temporary files")?;
    Ok(dir)
}

fn suffixed(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    name.into()
}

/// apt with lists, sources and a cache of its own, of one suite.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Makes a state of apt in a directory, and fetches the lists of a suite.
    ///
    /// # Errors
    /// A file cannot be written, or apt cannot be run or cannot fetch the lists; the error has its
    /// message.
    pub fn new(dir: &Path, suite: &str) -> Result<Apt> {
        for part in ["lists/partial", "cache/archives/partial", "packages"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {MIRROR} {suite} main\n");
        fs::write(dir.join("sources.list"), source)?;
        let apt = Apt {
            dir: dir.to_owned(),
        };
        apt.run("apt-get", &["update"])?;
        Ok(apt)
    }

    /// Returns the version of a package in the suite.
    ///
    /// # Errors
    /// The suite has no such package, or apt cannot be run.
    pub fn version(&self, package: &str) -> Result<String> {
        let found = self.run("apt-cache", &["show", "--no-all-versions", package])?;
        let version = found
            .lines()
            .find_map(|line| line.strip_prefix("Version: "));
        version
            .map(str::to_owned)
            .with_context(|| format!("the suite has no package {package}"))
    }

    /// Fetches packages, without their dependencies, and unpacks them into a directory, which is
    /// made if it is missing.
    ///
    /// # Errors
    /// A package cannot be fetched or unpacked; the error has the message of apt or dpkg-deb.
    pub fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        let download = [&["download"], packages].concat();
        self.run("apt-get", &download)?;
        // dpkg-deb makes the last directory of a path only.
        fs::create_dir_all(root).with_context(|| format!("making {}", root.display()))?;
        for entry in fs::read_dir(self.dir.join("packages"))? {
            let path = entry?.path();
            let mut dpkg = Command::new("dpkg-deb");
            dpkg.arg("--extract").arg(&path).arg(root);
            output(dpkg)?;
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Runs a program of apt in the directory of fetched packages and returns its output.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let options = [
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=-".to_owned(),
            format!("Dir::Cache={}", path("cache")),
            // The packages are chosen from the suite, whatever is installed.
            "Dir::State::status=/dev/null".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Acquire::http::Timeout=30".to_owned(),
            // A suite that was not fetched is an error and not a warning.
            "APT::Update::Error-Mode=any".to_owned(),
            // The directory need not be one that the user _apt can read.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let mut apt = Command::new(program);
        apt.arg("--quiet").current_dir(self.dir.join("packages"));
        options
            .iter()
            .for_each(|option| _ = apt.args(["--option", option]));
        apt.args(arguments);
        output(apt)
    }
}

/// Runs a tool and returns its output. The error has what the tool printed last.
fn output(mut command: Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = errors.lines().filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(3)..];
        bail!("{program}: {}", last.join("; "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
