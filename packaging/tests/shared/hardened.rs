//! Protections of a linked file against abuse of mistakes in memory.

use std::path::Path;
use std::process::Command;

fn run(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that neither the stack can be executed nor the tables of addresses be written, once a file
/// is loaded.
#[track_caller]
pub fn memory(file: &Path) {
    let segments = run("readelf", &["-l", "-W"], file);
    assert!(segments.contains("GNU_RELRO"), "{segments}");
    let is_stack = |line: &&str| line.contains("GNU_STACK");
    let stack = segments.lines().find(is_stack).unwrap();
    assert!(stack.contains(" RW ") && !stack.contains("RWE"), "{stack}");
    let dynamic = run("readelf", &["-d", "-W"], file);
    assert!(dynamic.contains("BIND_NOW"), "{dynamic}");
}

/// Returns the names of the symbols that a file needs.
fn needed(module: &Path) -> Vec<String> {
    let symbols = run("nm", &["-D", "--undefined-only"], module);
    let names = symbols.lines().filter_map(|line| {
        let name = line.split_whitespace().last()?;
        name.split('@').next().map(str::to_owned)
    });
    names.collect()
}

/// Asserts that the C++ part of a module checks its stack.
#[track_caller]
pub fn stack(module: &Path) {
    let names = needed(module);
    let is_check = |name: &String| name == "__stack_chk_fail";
    assert!(names.iter().any(is_check), "{names:?}");
}

/// Asserts that the C++ part of a module checks the sizes of its buffers (`_FORTIFY_SOURCE`).
#[track_caller]
#[allow(
    dead_code,
    reason = "the module of the SDK has no buffer to be checked"
)]
pub fn buffers(module: &Path) {
    let names = needed(module);
    let is_check = |name: &String| name.starts_with("__") && name.ends_with("_chk");
    assert!(names.iter().any(is_check), "{names:?}");
}

/// Asserts that a program is loaded at an address that others cannot know.
#[track_caller]
#[allow(dead_code, reason = "the SDK has no program")]
pub fn position(program: &Path) {
    let header = run("readelf", &["-h", "-W"], program);
    let is_type = |line: &&str| line.trim_start().starts_with("Type:");
    let kind = header.lines().find(is_type).unwrap();
    assert!(kind.contains(" DYN "), "{kind}");
    let dynamic = run("readelf", &["-d", "-W"], program);
    assert!(dynamic.contains("PIE"), "{dynamic}");
}
