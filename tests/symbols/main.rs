//! Symbols and dependencies of the shared library.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Returns the shared library of this build, which is in the directory of the test.
fn library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let library = program.parent().unwrap().join("libmesos_overlay.so");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn run(program: &str, args: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(args).arg(file).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the dynamic symbols: the type letter of nm, and the name with version.
fn symbols(file: &Path, which: &str) -> Vec<(String, String)> {
    let listing = run("nm", &["-D", which], file);
    let last_two = |line: &str| {
        let mut words = line.split_whitespace().rev();
        let name = words.next()?.to_owned();
        Some((words.next()?.to_owned(), name))
    };
    listing.lines().filter_map(last_two).collect()
}

/// Returns the names in `symbols.inc`.
fn listed() -> BTreeSet<String> {
    let text = fs::read_to_string(project("cpp_shim/symbols.inc")).unwrap();
    let name = |line: &str| Some(line.strip_prefix("SYMBOL(")?.strip_suffix(')')?.to_owned());
    text.lines().filter_map(name).collect()
}

/// Returns the undefined symbols that are not in the system's libraries, with the type letter
/// of nm.
fn undefined() -> Vec<(String, String)> {
    let system = ["@GLIBC_", "@GLIBCXX_", "@CXXABI_", "@GCC_"];
    // Weak symbols that most systems do not have: of the C start-up code, and of newer C
    // libraries, with which Rust's standard library starts processes.
    let optional = [
        "__gmon_start__",
        "_ITM_deregisterTMCloneTable",
        "_ITM_registerTMCloneTable",
        "pidfd_getpid",
        "pidfd_spawnp",
        "posix_spawn_file_actions_addchdir",
    ];
    let ours = |name: &str| {
        !optional.contains(&name) && !system.iter().any(|version| name.contains(version))
    };
    symbols(&library(), "--undefined-only")
        .into_iter()
        .filter(|(_, name)| ours(name))
        .collect()
}

#[test]
fn exports_only_the_manifests_and_the_c_abi() {
    let header = fs::read_to_string(project("include/mesos_overlay.h")).unwrap();
    let mut expected: BTreeSet<String> = ["Master", "Agent"]
        .map(|role| format!("com_mesosphere_mesos_Overlay{role}Manager"))
        .into();
    for line in header
        .lines()
        .filter(|line| !line.starts_with([' ', '/', '#', '}']))
    {
        let Some((declaration, _)) = line.split_once('(') else {
            continue;
        };
        let name = declaration.rsplit([' ', '*']).next().unwrap();
        if name.starts_with("mo_") {
            expected.insert(name.to_owned());
        }
    }
    let exported: BTreeSet<String> = symbols(&library(), "--defined-only")
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert!(expected.len() > 10, "{expected:?}");
    assert_eq!(exported, expected);
}

#[test]
fn needs_only_system_libraries() {
    let allowed = [
        "libc.so.6",
        "libgcc_s.so.1",
        "libstdc++.so.6",
        "libm.so.6",
        "ld-linux-x86-64.so.2",
    ];
    let listing = run("readelf", &["-d", "-W"], &library());
    let needed: Vec<_> = listing
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .map(|line| line.split(['[', ']']).nth(1).unwrap())
        .collect();
    assert!(needed.contains(&"libstdc++.so.6"), "{needed:?}");
    for name in needed {
        assert!(allowed.contains(&name), "needs {name}");
    }
}

#[test]
fn the_shim_checks_its_stack_and_its_buffers() {
    let names: BTreeSet<String> = symbols(&library(), "--undefined-only")
        .into_iter()
        .filter_map(|(_, name)| name.split('@').next().map(str::to_owned))
        .collect();
    assert!(names.contains("__stack_chk_fail"), "{names:?}");
    let is_fortified = |name: &&String| name.starts_with("__") && name.ends_with("_chk");
    assert!(names.iter().any(|name| is_fortified(&name)), "{names:?}");
}

#[test]
fn neither_stack_nor_address_tables_can_be_abused() {
    let segments = run("readelf", &["-l", "-W"], &library());
    let segment = |kind: &str| {
        let line = segments.lines().find(|line| line.trim().starts_with(kind));
        line.unwrap_or_else(|| panic!("no {kind} in\n{segments}"))
    };
    segment("GNU_RELRO");
    let flags = segment("GNU_STACK").split_whitespace().nth(6).unwrap();
    assert_eq!(flags, "RW", "of the stack");
    let is_both = |line: &&str| line.contains(" LOAD ") && line.contains("RWE");
    assert_eq!(segments.lines().find(is_both), None, "written and executed");
    let dynamic = run("readelf", &["-d", "-W"], &library());
    assert!(
        dynamic.contains("BIND_NOW") || dynamic.contains("Flags: NOW"),
        "{dynamic}"
    );
}

#[test]
#[cfg_attr(debug_assertions, ignore = "of release builds only")]
fn is_small_when_stripped() {
    let directory = TempDir::new().unwrap();
    let stripped = directory.path().join("stripped.so");
    run("strip", &["-o", stripped.to_str().unwrap()], &library());
    let size = fs::metadata(&stripped).unwrap().len();
    assert!(size < 10_000_000, "{size} bytes");
}

/// Fails if the shim uses other symbols of Mesos than before; then update
/// `cpp_shim/symbols.inc`.
#[test]
fn the_list_has_all_symbols_of_mesos_and_they_are_weak() {
    let undefined = undefined();
    let names: BTreeSet<String> = undefined.iter().map(|(_, name)| name.clone()).collect();
    assert_eq!(names, listed());
    let strong: Vec<_> = undefined.iter().filter(|(kind, _)| kind == "U").collect();
    assert!(strong.is_empty(), "not weak: {strong:?}");
}

/// A weak symbol is that of an inline function or a template: builds of Mesos that are optimised
/// may not have it. The description of a class is weak, but cannot be left out.
#[test]
fn mesos_exports_all_symbols_from_source_files() {
    let test = "mesos_exports_all_symbols_from_source_files";
    let Some(mesos) = testbed::skip::require_mesos(test) else {
        return;
    };
    let exported: BTreeMap<String, String> = symbols(mesos.library(), "--defined-only")
        .into_iter()
        .map(|(kind, name)| (name, kind))
        .collect();
    let is_certain = |name: &str| match exported.get(name).map(String::as_str) {
        Some("V") => name.starts_with("_ZTI"),
        Some(kind) => ["T", "B", "D", "R"].contains(&kind),
        None => false,
    };
    let uncertain: Vec<_> = undefined()
        .into_iter()
        .filter(|(_, name)| !is_certain(name))
        .map(|(_, name)| (exported.get(&name), name.clone()))
        .map(|(kind, name)| format!("{name}: {kind:?}"))
        .collect();
    assert!(uncertain.is_empty(), "{uncertain:#?}");
}

/// Program without symbols of Mesos that loads the library and calls `compatible` of its
/// modules.
const OTHER_PROGRAM: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

struct manifest {
  const char *api, *mesos, *kind, *author, *email, *description;
  _Bool (*compatible)(void);
  void *(*create)(void *);
};

int main(int argc, char **argv)
{
  void *library = dlopen(argv[argc - 1], RTLD_NOW);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 2;
  }
  const char *const names[] = {"com_mesosphere_mesos_OverlayMasterManager",
                               "com_mesosphere_mesos_OverlayAgentManager"};
  for (int i = 0; i < 2; i++) {
    struct manifest *manifest = dlsym(library, names[i]);
    if (manifest == NULL || manifest->compatible == NULL || manifest->create == NULL) {
      return 3;
    }
    printf("%s %s %s\n", manifest->api, manifest->mesos, manifest->kind);
    if (manifest->compatible()) {
      return 4;
    }
  }
  return 0;
}
"#;

#[test]
fn missing_symbols_are_logged_and_the_library_loads() {
    let directory = TempDir::new().unwrap();
    let (source, program) = (
        directory.path().join("other_program.c"),
        directory.path().join("other_program"),
    );
    fs::write(&source, OTHER_PROGRAM).unwrap();
    run(
        "gcc",
        &["-Wall", "-Wextra", "-o", program.to_str().unwrap(), "-ldl"],
        &source,
    );
    let output = Command::new(&program).arg(library()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "2 1.11.0 Anonymous\n2 1.11.0 Anonymous\n"
    );
    for part in [
        "it lacks ",
        "process::spawn(process::ProcessBase*, bool)",
        "mesos::log::Log::~Log()",
    ] {
        assert!(stderr.contains(part), "no \"{part}\" in {stderr}");
    }
}
