//! The shim, compiled by the tests themselves.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use testbed::compiler::Compiler;

/// ABI of libstdc++.
#[derive(Clone, Copy, Debug)]
pub enum Abi {
    /// The one of g++ 5 and later.
    Cxx11,
    /// The one of g++ 4.8, in which `std::string` is another class.
    Before,
}

impl Abi {
    /// Returns the option of the compiler.
    pub fn define(self) -> &'static str {
        match self {
            Abi::Cxx11 => "-D_GLIBCXX_USE_CXX11_ABI=1",
            Abi::Before => "-D_GLIBCXX_USE_CXX11_ABI=0",
        }
    }

    /// Returns the newest versions of GLIBCXX and CXXABI that hosts have: those of g++ 5, the first
    /// with this ABI; or those of g++ 4.8, which is CentOS 7's.
    pub fn newest_versions(self) -> (Vec<u32>, Vec<u32>) {
        match self {
            Abi::Cxx11 => (vec![3, 4, 21], vec![1, 3, 9]),
            Abi::Before => (vec![3, 4, 19], vec![1, 3, 7]),
        }
    }
}

/// A version of a system library that a symbol needs.
#[derive(Debug)]
pub struct Version {
    /// Name of the symbol.
    #[expect(dead_code, reason = "part of the message of a failed test")]
    symbol: String,
    /// `GLIBCXX`, for example.
    pub name: String,
    pub number: Vec<u32>,
}

pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Returns the source files of the shim.
pub fn sources() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(project("cpp_shim")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension() == Some(OsStr::new("cpp")))
}

/// Runs a command and returns its output. Panics with what it printed if it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the call of a compiler with the options of all files of the shim, as in the build
/// script.
pub fn strict(compiler: &Compiler, abi: Abi, standard: &str) -> Command {
    let mut command = compiler.command();
    command.args([
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fPIC",
        "-fvisibility=hidden",
    ]);
    command.arg(format!("-std={standard}")).arg(abi.define());
    command.arg("-I").arg(project("include"));
    command
}

/// Adds the subset of Mesos's headers to a call of a compiler.
pub fn with_subset(command: &mut Command) -> &mut Command {
    command.args(["-DMESOS_OVERLAY_SUBSET", "-I"]);
    command.arg(project("cpp_shim/mesos_subset"))
}

/// Lets a compiler check the shim, without making anything.
pub fn check(compiler: &Compiler, abi: Abi, standard: &str) {
    let mut command = strict(compiler, abi, standard);
    run(with_subset(&mut command)
        .arg("-fsyntax-only")
        .args(sources()));
}

/// The shim as a library of its own.
pub struct Shim {
    // Removed when dropped.
    _directory: TempDir,
    library: PathBuf,
}

impl Shim {
    /// Compiles it as C++11.
    pub fn compile(compiler: &Compiler, abi: Abi) -> Shim {
        let directory = TempDir::new().unwrap();
        let library = directory.path().join("shim.so");
        let mut command = strict(compiler, abi, "c++11");
        with_subset(&mut command).args(["-O2", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]);
        command.args(["-fstack-protector-strong", "-shared", "-o"]);
        run(command.arg(&library).args(sources()));
        Shim {
            _directory: directory,
            library,
        }
    }

    /// Returns the names of undefined symbols, with `@` and a version if they have one.
    fn undefined(&self) -> Vec<String> {
        let mut nm = Command::new("nm");
        let listing = run(nm.args(["-D", "--undefined-only"]).arg(&self.library));
        let names = listing
            .lines()
            .filter_map(|line| line.split_whitespace().last());
        names.map(str::to_owned).collect()
    }

    /// Returns the versions of system libraries that the library needs.
    pub fn versions(&self) -> Vec<Version> {
        let version = |name: &String| {
            let (symbol, version) = name.split_once('@')?;
            let (name, number) = version.split_once('_')?;
            let number = number.split('.').map(|part| part.parse().unwrap());
            Some(Version {
                symbol: symbol.to_owned(),
                name: name.to_owned(),
                number: number.collect(),
            })
        };
        self.undefined().iter().filter_map(version).collect()
    }

    /// Returns the functions and variables of Mesos that the library imports, as C++ spells them,
    /// without what is different in the two ABIs.
    pub fn imports(&self) -> BTreeSet<String> {
        let undefined = self.undefined();
        let mangled = undefined
            .iter()
            .filter(|name| name.starts_with("_Z") && !name.contains('@'));
        let listing = run(Command::new("c++filt").args(mangled));
        let plain = |line: &str| {
            let long =
                "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >";
            let short = "std::basic_string<char, std::char_traits<char>, std::allocator<char> >";
            let plain = line
                .replace(long, "std::string")
                .replace(short, "std::string");
            plain.replace("[abi:cxx11]", "")
        };
        listing.lines().map(plain).collect()
    }
}
