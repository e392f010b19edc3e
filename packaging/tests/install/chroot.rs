//! File systems of Debian's releases, in which programs are run.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use testbed::run::Run;

/// Mounts what programs expect below the root, in a mount namespace that ends with the program. Mesos
/// also expects that the root itself is a mount.
const ENTER: &str = r#"
mount --bind "$0" "$0" && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --rbind /sys "$0/sys" || exit 125
exec chroot "$0" "$@"
"#;

/// Search path inside.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Directories whose files change with every installation, whatever is installed.
const VOLATILE: [&str; 9] = [
    "dev",
    "opt",
    "proc",
    "run",
    "sys",
    "tmp",
    "var/cache",
    "var/lib/apt",
    "var/lib/dpkg",
];

/// Files of the same kind.
const VOLATILE_FILES: [&str; 2] = ["var/log/apt", "var/log/dpkg.log"];

/// A file system with a release of Debian. It ends with its run.
pub struct Chroot {
    root: PathBuf,
}

/// Permissions and owner of each file, and the hash of its content in `/etc`, or else its size and date.
pub type Snapshot = BTreeMap<String, String>;

impl Chroot {
    /// Unpacks the archive of a release into the directory of a run.
    pub fn new(run: &Run, archive: &Path) -> Chroot {
        let root = run.dir().join("root");
        fs::create_dir(&root).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--numeric-owner", "--directory"]);
        tar.arg(&root).arg("--file").arg(archive);
        assert!(tar.status().unwrap().success(), "unpacking {archive:?}");
        Chroot { root }
    }

    /// Returns the path of a file on the machine.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// Reads a file.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Writes a file; makes its directory.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Copies a file of the machine into a directory.
    pub fn copy(&self, file: &Path, directory: &str) {
        let directory = self.path(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::copy(file, directory.join(file.file_name().unwrap())).unwrap();
    }

    /// Returns a command that runs a program inside, without the variables of this process.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", ENTER])
            .arg(&self.root)
            .arg(program)
            .env_clear()
            .envs([("PATH", PATH), ("HOME", "/root"), ("LC_ALL", "C")])
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Runs the lines of a script in `/tmp`; returns what it printed.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        let (success, text) = self.attempt(script);
        assert!(success, "{script}\n{text}");
        text
    }

    /// Runs the lines of a script in `/tmp`. Returns whether it succeeded, and what it printed.
    pub fn attempt(&self, script: &str) -> (bool, String) {
        let mut command = self.command("sh");
        command.args(["-euc", &format!("exec 2>&1 </dev/null; cd /tmp\n{script}")]);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), text + &errors)
    }

    /// Lists all files but those that change with every installation.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        self.list(&self.root, &mut snapshot);
        snapshot
    }

    fn list(&self, directory: &Path, snapshot: &mut Snapshot) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let inside = path.strip_prefix(&self.root).unwrap();
            let inside = inside.to_string_lossy().into_owned();
            let volatile = VOLATILE.contains(&inside.as_str());
            if volatile || VOLATILE_FILES.iter().any(|file| inside.starts_with(file)) {
                continue;
            }
            let data = path.symlink_metadata().unwrap();
            let mode = data.permissions().mode();
            let mut about = format!("{mode:o} {}:{}", data.uid(), data.gid());
            if data.is_dir() {
                self.list(&path, snapshot);
            } else if data.is_file() && inside.starts_with("etc/") {
                let hash = Sha256::digest(fs::read(&path).unwrap());
                about += &format!(" {hash:x?}");
            } else {
                about += &format!(" {} {}.{}", data.len(), data.mtime(), data.mtime_nsec());
            }
            snapshot.insert(inside, about);
        }
    }
}

/// Returns the paths that one of two snapshots lacks, or that differ.
pub fn differences(a: &Snapshot, b: &Snapshot) -> Vec<String> {
    let paths = a
        .keys()
        .chain(b.keys().filter(|path| !a.contains_key(*path)));
    let different = paths.filter(|path| a.get(*path) != b.get(*path));
    different.cloned().collect()
}
