//! Versions of stored variables, on a system that gives no random numbers.

use std::process::Command;

use tempfile::TempDir;
use testbed::compiler;

use crate::support::{self, Abi};

/// Fetches a new variable and stores one that is there, with stand-ins for libmesos and for the
/// random numbers of libstdc++.
const PROGRAM: &str = r#"
#include <stdio.h>

#include <new>
#include <random>
#include <stdexcept>

#include <mesos/state/state.hpp>

using mesos::internal::state::Entry;
using mesos::state::State;
using mesos::state::Variable;
using process::Future;

void std::random_device::_M_init(const std::string&)
{
  throw std::runtime_error("no such device");
}

namespace google {
namespace protobuf {
namespace internal {

ExplicitlyConstructed<std::string> fixed_address_empty_string;

} // namespace internal {
} // namespace protobuf {
} // namespace google {

static std::string* const empty = reinterpret_cast<std::string*>(
    &google::protobuf::internal::fixed_address_empty_string);

Entry::Entry() : has_bits_(0), name_(empty), uuid_(empty), value_(empty) {}
Entry::Entry(const Entry& from)
  : has_bits_(from.has_bits_), name_(from.name_), uuid_(from.uuid_), value_(from.value_) {}
Entry::~Entry() {}

struct Memory : mesos::state::Storage
{
  Future<Option<Entry>> get(const std::string& name) override
  {
    return name == "old" ? Option<Entry>(Entry()) : Option<Entry>();
  }
  Future<bool> set(const Entry&, const id::UUID&) override { return true; }
  Future<bool> expunge(const Entry&) override { return false; }
  Future<std::set<std::string>> names() override { return std::set<std::string>(); }
};

int main()
{
  new (empty) std::string();
  Memory memory;
  State state(&memory);
  const Future<Variable> fetched = state.fetch("new");
  const Future<Option<Variable>> stored = state.store(state.fetch("old").get());
  printf("%s\n%s\n", fetched.failure().c_str(), stored.failure().c_str());
  return 0;
}
"#;

#[test]
fn a_system_without_random_numbers_fails_calls_and_ends_nothing() {
    let directory = TempDir::new().unwrap();
    let source = directory.path().join("random.cpp");
    let program = directory.path().join("random");
    std::fs::write(&source, PROGRAM).unwrap();
    let mut compile = support::strict(&compiler::installed(), Abi::Cxx11, "c++11");
    support::run(
        support::with_subset(&mut compile)
            .arg("-o")
            .args([&program, &source]),
    );
    let expected = "no random numbers: no such device\n".repeat(2);
    assert_eq!(support::run(&mut Command::new(&program)), expected);
}
