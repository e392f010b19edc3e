//! The C ABI: the header by itself, its agreement with the Rust side, and the example
//! program with the static library, which needs no symbols of Mesos.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

mod bindings;

/// Returns the static library of this build, which is in the directory of the test.
fn static_library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let library = program.parent().unwrap().join("libmesos_overlay.a");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a program, which must succeed, and returns its output.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{printed}\n{errors}",
        output.status
    );
    printed
}

fn compiler(program: &str, standard: &str) -> Command {
    let mut command = Command::new(program);
    command.arg(format!("-std={standard}")).args([
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
        "-I",
    ]);
    command.arg(project("include"));
    command
}

fn compile_text(compiler: &mut Command, language: &str, text: &str) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("text");
    fs::write(&file, text).unwrap();
    run(compiler.args(["-fsyntax-only", "-x", language]).arg(&file));
}

#[test]
fn the_header_compiles_alone_as_c_and_cpp() {
    let text = "#include \"mesos_overlay.h\"\n#include \"mesos_overlay.h\"\n";
    for standard in ["c11", "c17"] {
        compile_text(&mut compiler("gcc", standard), "c", text);
    }
    for standard in ["c++14", "c++20"] {
        compile_text(&mut compiler("g++", standard), "c++", text);
    }
}

/// Checks the value of `MO_NEVER`, which bindgen leaves out because it is `UINT64_MAX`.
#[test]
fn never_has_the_same_value() {
    let text = format!(
        "#include \"mesos_overlay.h\"\n_Static_assert(MO_NEVER == {}u, \"MO_NEVER\");\n",
        mesos_overlay::ffi::NEVER
    );
    compile_text(&mut compiler("gcc", "c11"), "c", &text);
}

/// Builds the example with `flags` and runs it in a directory of its own.
fn example(flags: &[&str]) -> String {
    let directory = TempDir::new().unwrap();
    let program = directory.path().join("in_memory");
    run(compiler("gcc", "c11")
        .args(["-g"])
        .args(flags)
        .arg(project("examples/in_memory.c"))
        .arg(static_library())
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program));
    let work = directory.path().join("work");
    fs::create_dir(&work).unwrap();
    // These variables are a part of the configuration.
    run(Command::new(&program)
        .arg(&work)
        .env_remove("MESOS_ZK")
        .env_remove("MESOS_QUORUM")
        .env_remove("MESOS_MASTER"))
}

fn check_milestones(printed: &str) {
    for milestone in [
        "registered at first",
        "registered after the failover",
        "registered after the deletion",
    ] {
        assert!(
            printed.contains(milestone),
            "no \"{milestone}\" in\n{printed}"
        );
    }
}

#[test]
fn the_example_runs_without_mesos() {
    check_milestones(&example(&["-O2"]));
}

#[test]
fn the_example_has_no_memory_errors_or_leaks() {
    check_milestones(&example(&["-fsanitize=address", "-fno-omit-frame-pointer"]));
}
