//! C++ compilers: the machine's own, and the oldest one that Debian still has.
//!
//! Files in `target/g++-9`: `tools/` and `root/`, the content of packages of Debian 11: the
//! compiler with its linker, and the headers and libraries of that release; `g++`, a script that
//! runs the compiler with them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::apt::{self, Apt};

/// The oldest suite of Debian that its mirrors still have.
const SUITE: &str = "bullseye";

/// Packages of the compiler and its linker.
const TOOLS: &[&str] = &[
    "g++-9",
    "gcc-9",
    "cpp-9",
    "libisl23",
    "libmpfr6",
    "libmpc3",
    "libgmp10",
    "binutils",
    "binutils-x86-64-linux-gnu",
    "binutils-common",
    "libbinutils",
    "libctf-nobfd0",
    "libctf0",
    "zlib1g",
];

/// Packages with the headers and libraries that programs are compiled with.
const ROOT: &[&str] = &[
    "libgcc-9-dev",
    "libstdc++-9-dev",
    "libstdc++6",
    "libgcc-s1",
    "libc6",
    "libc6-dev",
    "libcrypt1",
    "libcrypt-dev",
    "linux-libc-dev",
];

/// A C++ compiler.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The program, which takes the arguments of g++ and needs no environment of its own.
    pub path: PathBuf,
    /// Arguments that every call must have.
    pub flags: Vec<String>,
}

impl Compiler {
    /// Returns a command that calls the compiler, to which arguments can be added.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.flags);
        command
    }
}

/// Returns the compiler of the machine.
pub fn installed() -> Compiler {
    Compiler {
        path: "g++".into(),
        flags: Vec::new(),
    }
}

/// Returns the oldest compiler to be had, g++ 9 of Debian 11 with the C library 2.31; fetches it if
/// it is missing.
///
/// # Errors
/// It cannot be fetched; the error has apt's message.
pub fn oldest() -> Result<Compiler> {
    let dir = apt::directory("g++-9", fetch)
        .with_context(|| format!("fetching g++ 9 from Debian {SUITE}"))?;
    Ok(Compiler {
        path: dir.join("g++"),
        flags: Vec::new(),
    })
}

/// Fetches the packages, and returns the directory into which they were unpacked.
fn fetch(scratch: &Path) -> Result<PathBuf> {
    eprintln!("fetching g++ 9 from Debian {SUITE} (55 MB)");
    let content = scratch.join("content");
    let apt = Apt::new(&scratch.join("apt"), SUITE)?;
    // Apart, because the machine's own C library runs the compiler.
    apt.unpack(TOOLS, &content.join("tools"))?;
    let root = content.join("root");
    apt.unpack(ROOT, &root)?;
    for directory in ["lib64", "usr/lib/x86_64-linux-gnu"] {
        stay_below(&root, directory).context("the libraries of the package libc6")?;
    }
    let script = content.join("g++");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(content)
}

/// Makes absolute links in a directory of `root` relative, so that they lead to files of `root`.
fn stay_below(root: &Path, directory: &str) -> Result<()> {
    let up = PathBuf::from_iter(Path::new(directory).iter().map(|_| ".."));
    for entry in fs::read_dir(root.join(directory))? {
        let entry = entry?;
        if !entry.file_type()?.is_symlink() {
            continue;
        }
        if let Ok(below) = fs::read_link(entry.path())?.strip_prefix("/") {
            fs::remove_file(entry.path())?;
            symlink(up.join(below), entry.path())?;
        }
    }
    Ok(())
}

/// Finds everything beside itself, wherever the directory is.
const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
tools=$here/tools/usr
target=x86_64-linux-gnu
libraries=$tools/lib/$target:$here/tools/lib/$target
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$tools/bin/$target-g++-9" --sysroot="$here/root" \
  -B"$tools/bin/" -B"$here/root/usr/lib/gcc/$target/9/" \
  -isystem "$here/root/usr/include/c++/9" -isystem "$here/root/usr/include/$target/c++/9" \
  "$@"
"#;
