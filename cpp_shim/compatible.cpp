#include "compatible.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <new>
#include <string>

#include "mesos.hpp"
#include "text.hpp"

#ifndef MESOS_OVERLAY_SUBSET

// Compiled against the headers of an installed Mesos: Mesos compares the versions
// itself, and the dynamic linker the symbols.
namespace overlay {

bool compatible() { return true; }
bool processLayoutMatches() { return true; }

} // namespace overlay {

#else

namespace overlay {

// Logs at ERROR, or to standard error if it is the logger that is missing.
static void reportIncompatible(const std::string& difference)
{
  const std::string line =
    "mesos_overlay: the overlay modules do not work with this Mesos: " + difference;
  if (dlsym(RTLD_DEFAULT, "_ZN6google10LogMessageC1EPKcii") != nullptr &&
      dlsym(RTLD_DEFAULT, "_ZN6google10LogMessage6streamEv") != nullptr &&
      dlsym(RTLD_DEFAULT, "_ZN6google10LogMessageD1Ev") != nullptr) {
    log(MO_ERROR, line);
  } else {
    fprintf(stderr, "%s\n", line.c_str());
  }
}

#ifdef MESOS_OVERLAY_WEAK_SYMBOLS

static std::string demangle(const char* symbol)
{
  int status = 0;
  char* text = abi::__cxa_demangle(symbol, nullptr, nullptr, &status);
  const std::string name = status == 0 ? text : symbol;
  free(text);
  return name;
}

// Returns whether Mesos was compiled with the std::string before that of C++11, which is
// another class under other names. No string is passed to such a Mesos, not even to report it:
// the logger's functions have none.
static bool hasCxx11Strings()
{
  // A constructor of ProcessBase with the string of g++ 4.8, or _GLIBCXX_USE_CXX11_ABI=0.
  const bool before = dlsym(RTLD_DEFAULT, "_ZN7process11ProcessBaseC2ERKSs") != nullptr;
  if (before) {
    reportIncompatible(
        "it was compiled with the std::string of g++ 4.8 (_GLIBCXX_USE_CXX11_ABI=0), as that of "
        "DC/OS is, and this library with the one of g++ 5 and later; compile the modules for "
        "this Mesos, with the archive mesos-overlay-sdk and the compiler of this Mesos");
  }
  return !before;
}

static bool symbolsExist()
{
#define SYMBOL(name) #name,
  static const char* const symbols[] = {
#include "symbols.inc"
  };
#undef SYMBOL
  std::string missing;
  for (const char* symbol : symbols) {
    if (dlsym(RTLD_DEFAULT, symbol) == nullptr) {
      missing += (missing.empty() ? "" : ", ") + demangle(symbol);
    }
  }
  if (!missing.empty()) {
    reportIncompatible("it lacks " + missing);
  }
  return missing.empty();
}

#else

// The dynamic linker has found all of them.
static bool hasCxx11Strings() { return true; }
static bool symbolsExist() { return true; }

#endif // MESOS_OVERLAY_WEAK_SYMBOLS

// The space used by a message without any field set is the size of its class.
template <typename T>
static bool hasSize(const char* name)
{
  const size_t size = T::default_instance().SpaceUsedLong();
  if (size != sizeof(T)) {
    reportIncompatible(
        std::string(name) + " has " + std::to_string(size) + " bytes instead of " +
        std::to_string(sizeof(T)));
  }
  return size == sizeof(T);
}

static bool messageLayoutsMatch()
{
  if (!hasSize<mesos::Parameter>("mesos::Parameter") ||
      !hasSize<mesos::Parameters>("mesos::Parameters") ||
      !hasSize<mesos::MasterInfo>("mesos::MasterInfo") ||
      !hasSize<mesos::internal::state::Entry>("mesos::internal::state::Entry")) {
    return false;
  }

  // Field 1: two parameters, each with key (1) and value (2).
  mesos::Parameters parameters;
  const bool parsed = parameters.ParseFromString(
      "\x0a\x06\x0a\x01" "a" "\x12\x01" "b" "\x0a\x06\x0a\x01" "c" "\x12\x01" "d");
  if (!parsed || parameters.parameter_size() != 2 ||
      parameters.parameter(0).key() != "a" ||
      parameters.parameter(0).value() != "b" ||
      parameters.parameter(1).key() != "c" ||
      parameters.parameter(1).value() != "d") {
    reportIncompatible("mesos::Parameters has a different layout");
    return false;
  }

  // name (1), uuid (2), value (3).
  const std::string empty = "\x0a\x01n\x12\x01u\x1a";
  mesos::internal::state::Entry entry;
  if (!entry.ParseFromString(empty + std::string("\x01v")) ||
      entry.name() != "n" || entry.uuid() != "u" || entry.value() != "v") {
    reportIncompatible("mesos::internal::state::Entry has a different layout");
    return false;
  }
  entry.set_value("other");
  if (entry.SerializeAsString() != empty + std::string("\x05other")) {
    reportIncompatible("mesos::internal::state::Entry has a different layout");
    return false;
  }
  return true;
}

static bool pidLayoutMatches()
{
  const process::UPID pid(std::string("overlay@127.0.0.1:5050"));
  if (toString(pid) != "overlay@127.0.0.1:5050") {
    reportIncompatible("process::UPID has a different layout");
    return false;
  }
  return true;
}

bool compatible()
{
  return hasCxx11Strings() && symbolsExist() && messageLayoutsMatch() && pidLayoutMatches();
}

bool processLayoutMatches()
{
  using process::ProcessBase;

  // Constructs a process in memory filled with a pattern: the constructor must not
  // overwrite the spare bytes at the end of our declaration.
  const unsigned char pattern = 0xa5;
  const size_t spare = 64;
  alignas(ProcessBase) unsigned char memory[sizeof(ProcessBase)];
  memset(memory, pattern, sizeof(memory));
  ProcessBase* process = new (memory) ProcessBase("overlay-probe");
  const volatile unsigned char* bytes = memory;
  bool untouched = true;
  for (size_t i = sizeof(ProcessBase) - spare; i < sizeof(ProcessBase); i++) {
    untouched = untouched && bytes[i] == pattern;
  }
  const bool named = toString(process::UPID(*process)).find("overlay-probe@") == 0;
  process->~ProcessBase();
  if (!untouched || !named) {
    reportIncompatible("process::ProcessBase has a different layout");
  }
  return untouched && named;
}

} // namespace overlay {

#endif // MESOS_OVERLAY_SUBSET
