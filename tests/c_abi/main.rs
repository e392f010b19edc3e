//! The C ABI from C: the header by itself, its agreement with the Rust side, and the
//! example program against the static library, which needs no symbol of Mesos.
use std::fmt::Write;
use std::fs;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::Command;

use mesos_overlay::ffi::*;
use tempfile::TempDir;

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

/// `_Static_assert`s of what Rust thinks of the header's structures.
#[derive(Default)]
struct Assertions(String);

impl Assertions {
    fn equal(&mut self, c: &str, rust: u64) {
        writeln!(
            self.0,
            "_Static_assert(({c}) == {rust}u, \"Rust says {rust}\");"
        )
        .unwrap();
    }
}

macro_rules! structures {
    ($assertions:ident: $($c:literal = $rust:ident { $($c_field:literal = $field:ident),* })*) => {$(
        $assertions.equal(concat!("sizeof(", $c, ")"), size_of::<$rust>() as u64);
        $($assertions.equal(
            concat!("offsetof(", $c, ", ", $c_field, ")"),
            offset_of!($rust, $field) as u64,
        );)*
    )*};
}

#[test]
fn header_and_library_agree() {
    let mut all = Assertions("#include \"mesos_overlay.h\"\n".to_owned());
    structures! { all:
        "mo_bytes" = MoBytes { "ptr" = ptr, "len" = len }
        "mo_pair" = MoPair { "key" = key, "value" = value }
        "mo_options" = MoOptions {
            "size" = size, "parameters" = parameters, "parameter_count" = parameter_count, "wake" = wake,
            "wake_ctx" = wake_ctx, "now_ms" = now_ms, "now_ctx" = now_ctx, "seed" = seed
        }
        "mo_metric" = MoMetric { "size" = size, "name" = name, "value" = value }
        "mo_endpoint" = MoEndpoint { "size" = size, "path" = path, "help" = help, "flags" = flags }
        "mo_request" = MoRequest {
            "size" = size, "id" = id, "method" = method, "path" = path, "query" = query,
            "query_count" = query_count, "accept" = accept, "body" = body
        }
        "mo_none" = MoNone { "deadline_ms" = deadline_ms }
        "mo_send" = MoSend { "to" = to, "name" = name, "body" = body }
        "mo_link" = MoLink { "to" = to, "reconnect" = reconnect }
        "mo_respond" = MoRespond {
            "id" = id, "status" = status, "content_type" = content_type, "headers" = headers,
            "header_count" = header_count, "body" = body
        }
        "mo_detect" = MoDetect { "master" = master }
        "mo_open_log" = MoOpenLog {
            "quorum" = quorum, "path" = path, "zk_servers" = zk_servers, "zk_path" = zk_path,
            "zk_session_timeout_ms" = zk_session_timeout_ms, "zk_scheme" = zk_scheme,
            "zk_credentials" = zk_credentials, "metrics_prefix" = metrics_prefix
        }
        "mo_fetch" = MoFetch { "id" = id, "name" = name }
        "mo_store" = MoStore { "id" = id, "name" = name, "value" = value }
        "mo_effect" = MoEffect { "size" = size, "kind" = kind, "as" = as_ }
    }
    for (c, rust) in [
        ("MO_OK", MoResult::Ok),
        ("MO_PANIC", MoResult::Panic),
        ("MO_NULL", MoResult::Null),
        ("MO_INVALID", MoResult::Invalid),
        ("MO_CONFIG", MoResult::Config),
        ("MO_STATE", MoResult::State),
        ("MO_BUSY", MoResult::Busy),
        ("MO_END", MoResult::End),
    ] {
        all.equal(c, rust as u64);
    }
    for (c, rust) in [
        ("MO_EFFECT_NONE", MoEffectKind::None),
        ("MO_EFFECT_SEND", MoEffectKind::Send),
        ("MO_EFFECT_LINK", MoEffectKind::Link),
        ("MO_EFFECT_RESPOND", MoEffectKind::Respond),
        ("MO_EFFECT_DETECT", MoEffectKind::Detect),
        ("MO_EFFECT_OPEN_LOG", MoEffectKind::OpenLog),
        ("MO_EFFECT_FETCH", MoEffectKind::Fetch),
        ("MO_EFFECT_STORE", MoEffectKind::Store),
    ] {
        all.equal(c, rust as u64);
    }
    all.equal("MO_INFO", MoSeverity::Info as u64);
    all.equal("MO_WARNING", MoSeverity::Warning as u64);
    all.equal("MO_ERROR", MoSeverity::Error as u64);
    all.equal("MO_DONE", outcome::DONE.into());
    all.equal("MO_SUPERSEDED", outcome::SUPERSEDED.into());
    all.equal("MO_FAILED", outcome::FAILED.into());
    all.equal("sizeof(mo_result)", size_of::<MoResult>() as u64);
    all.equal("sizeof(mo_outcome)", size_of::<u32>() as u64);
    all.equal("MO_ABI_VERSION", ABI_VERSION.into());
    all.equal("MO_ENDPOINT_WRITES", ENDPOINT_WRITES);
    all.equal("MO_ENDPOINT_READS", ENDPOINT_READS);
    all.equal("MO_ENDPOINT_TREE", ENDPOINT_TREE);
    all.equal("MO_NEVER", NEVER);
    compile_text(&mut compiler("gcc", "c11"), "c", &all.0);
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
