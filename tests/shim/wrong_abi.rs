//! A Mesos with the `std::string` of g++ 4.8, such as that of DC/OS.

use std::fs;
use std::process::Command;

use tempfile::TempDir;
use testbed::compiler::{self, Compiler};
use testbed::{paths, skip};

use crate::support::{self, Abi};

/// Program that has some of Mesos's functions, under the names that they have in the executable's
/// ABI, and does what Mesos does to load modules. Its `google::LogMessage` writes to stderr.
const MESOS: &str = r#"
#include <dlfcn.h>
#include <iostream>
#include <sstream>
#include <string>

namespace google {

class LogMessage
{
public:
  LogMessage(const char* file, int line, int severity);
  ~LogMessage();
  std::ostream& stream();

private:
  std::ostringstream* text;
};

LogMessage::LogMessage(const char* file, int, int severity) : text(new std::ostringstream)
{
  *text << "IWEF"[severity] << " " << file << "] ";
}

LogMessage::~LogMessage()
{
  std::cerr << text->str() << std::endl;
  delete text;
}

std::ostream& LogMessage::stream() { return *text; }

} // namespace google {

namespace process {

class ProcessBase
{
public:
  explicit ProcessBase(const std::string& id);

private:
  std::string id_;
};

ProcessBase::ProcessBase(const std::string& id) : id_(id) {}

} // namespace process {

struct Manifest
{
  const char* moduleApiVersion;
  const char* mesosVersion;
  const char* kind;
  const char* authorName;
  const char* authorEmail;
  const char* description;
  bool (*compatible)();
};

int main(int, char** arguments)
{
  void* library = dlopen(arguments[1], RTLD_NOW);
  if (library == nullptr) {
    std::cerr << dlerror() << std::endl;
    return 2;
  }
  const char* const names[] = {
    "com_mesosphere_mesos_OverlayMasterManager", "com_mesosphere_mesos_OverlayAgentManager"};
  for (const char* name : names) {
    Manifest* manifest = static_cast<Manifest*>(dlsym(library, name));
    if (manifest == nullptr || manifest->kind != std::string("Anonymous")) {
      return 3;
    }
    if (manifest->compatible()) {
      return 4;
    }
  }
  return 0;
}
"#;

/// Compiles the program with an ABI, lets it load the library of this build, and returns what it
/// logs.
fn load(compiler: &Compiler, abi: Abi) -> String {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("mesos.cpp");
    let program = directory.path().join("mesos");
    fs::write(&source, MESOS).unwrap();
    let mut compile = compiler.command();
    compile.args(["-std=c++11", "-rdynamic", abi.define(), "-o"]);
    support::run(compile.arg(&program).arg(&source).arg("-ldl"));
    let output = Command::new(&program)
        .arg(paths::module().unwrap())
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}: {log}", output.status);
    log
}

fn assert_names_the_archive(log: &str) {
    let lines: Vec<_> = log.lines().collect();
    assert_eq!(lines.len(), 2, "one for each module: {log}");
    for line in lines {
        assert!(
            line.starts_with("E mesos_overlay] mesos_overlay: "),
            "{line}"
        );
        assert!(line.contains("std::string of g++ 4.8"), "{line}");
        assert!(line.contains("mesos-overlay-sdk"), "{line}");
    }
}

#[test]
fn a_mesos_with_old_strings_is_told_from_others() {
    assert_names_the_archive(&load(&compiler::installed(), Abi::Before));
    let log = load(&compiler::installed(), Abi::Cxx11);
    assert!(log.contains("it lacks "), "{log}");
    assert!(!log.contains("mesos-overlay-sdk"), "{log}");
}

#[test]
fn so_is_one_of_an_old_compiler() {
    if let Some(compiler) = skip::require_oldest_compiler("so_is_one_of_an_old_compiler") {
        assert_names_the_archive(&load(&compiler, Abi::Before));
    }
}
