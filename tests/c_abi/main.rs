//! The C ABI from C: the header by itself, its agreement with the Rust side, and the
//! example program against the static library, which needs no symbol of Mesos.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

mod bindings;

/// The static library of this very build, which lies beside the test's program.
fn static_library() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let library = program.parent().unwrap().join("libmesos_overlay.a");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a program to its end, which must be a good one; returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{printed}\n{complaints}",
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
fn the_header_stands_alone_in_c_and_in_cpp() {
    let text = "#include \"mesos_overlay.h\"\n#include \"mesos_overlay.h\"\n";
    for standard in ["c11", "c17"] {
        compile_text(&mut compiler("gcc", standard), "c", text);
    }
    for standard in ["c++14", "c++20"] {
        compile_text(&mut compiler("g++", standard), "c++", text);
    }
}

/// bindgen does not know the value of `UINT64_MAX`, with which this one is defined.
#[test]
fn a_deadline_that_never_comes_is_the_largest_number() {
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
    // The environment of a Mesos host would be taken for configuration.
    run(Command::new(&program)
        .arg(&work)
        .env_remove("MESOS_ZK")
        .env_remove("MESOS_QUORUM")
        .env_remove("MESOS_MASTER"))
}

fn check_story(printed: &str) {
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
    check_story(&example(&["-O2"]));
}

#[test]
fn the_example_has_no_memory_errors_and_leaks_nothing() {
    check_story(&example(&["-fsanitize=address", "-fno-omit-frame-pointer"]));
}
