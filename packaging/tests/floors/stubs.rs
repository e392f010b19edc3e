//! Programs that are linked with the stub libraries.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use packaging::floor;
use packaging::glibc::Stubs;
use tempfile::TempDir;
use testbed::paths;

/// Links a file of C with the stubs.
fn link(directory: &TempDir, name: &str, code: &str, flags: &[&str]) -> (PathBuf, Output) {
    let stubs = Stubs::make(&paths::target()).unwrap();
    let source = directory.path().join(format!("{name}.c"));
    let result = directory.path().join(name);
    fs::write(&source, code).unwrap();
    let mut gcc = Command::new(stubs.linker());
    let gcc = gcc
        .args(["-O1", "-Wall", "-o"])
        .args([&result, &source])
        .args(flags);
    let output = gcc.output().unwrap();
    (result, output)
}

fn linked(directory: &TempDir, name: &str, code: &str, flags: &[&str]) -> PathBuf {
    let (path, output) = link(directory, name, code, flags);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    path
}

fn run(program: &Path, preloaded: Option<&Path>) -> String {
    let mut command = Command::new(program);
    command
        .arg("one")
        .envs(preloaded.map(|library| ("LD_PRELOAD", library)));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Program whose constructor and `main` print their arguments.
const CONSTRUCTOR: &str = r#"
#include <stdio.h>
__attribute__((constructor)) static void construct(int argc, char **argv, char **environment)
{
  printf("constructor %d %s %d\n", argc, argv[1], environment != NULL);
}
int main(int argc, char **argv)
{
  printf("main %d %s\n", argc, argv[1]);
  return 0;
}
"#;

/// The start of a program as it was before glibc 2.34, which called the constructors only through
/// the initialiser.
const OLD_START: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int __libc_start_main(int (*run)(int, char **, char **), int argc, char **argv,
                      void (*init)(int, char **, char **), void (*fini)(void),
                      void (*at_exit)(void), void *stack)
{
  (void)fini; (void)stack;
  if (at_exit != NULL) {
    atexit(at_exit);
  }
  if (init != NULL) {
    init(argc, argv, environ);
  }
  exit(run(argc, argv, environ));
}
"#;

#[test]
fn constructors_run_once_with_every_release_of_the_c_library() {
    let directory = TempDir::new().unwrap();
    let expected = "constructor 2 one 1\nmain 2 one\n";
    let old = directory.path().join("old.so");
    let source = directory.path().join("old.c");
    fs::write(&source, OLD_START).unwrap();
    let compiled = Command::new("gcc")
        .args(["-shared", "-fPIC", "-D_GNU_SOURCE", "-o"])
        .args([&old, &source])
        .status();
    assert!(compiled.unwrap().success());
    for flags in [["-pie", "-fPIE"], ["-no-pie", "-fno-pie"]] {
        let program = linked(&directory, "program", CONSTRUCTOR, &flags);
        assert_eq!(run(&program, None), expected, "{flags:?}");
        assert_eq!(run(&program, Some(&old)), expected, "{flags:?}");
    }
}

#[test]
fn files_are_examined_without_later_symbols() {
    const CODE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
static void leave(void) { puts("left"); }
int main(int argc, char **argv)
{
  struct stat a, b, c, d;
  int memory = memfd_create("test", 0);
  atexit(leave);
  if (stat("/", &a) != 0 || lstat("/", &b) != 0 || fstatat(AT_FDCWD, "/", &c, 0) != 0 ||
      memory < 0 || fstat(memory, &d) != 0) {
    return 1;
  }
  printf("%d %d %d %s\n", a.st_ino == b.st_ino, a.st_ino == c.st_ino, (int)d.st_size, argv[argc - 1]);
  return 0;
}
"#;
    let directory = TempDir::new().unwrap();
    let program = linked(&directory, "program", CODE, &[]);
    assert_eq!(run(&program, None), "1 1 0 one\nleft\n");
    let needs = floor::needs(&program).unwrap();
    assert_eq!(
        floor::violations(&needs, &floor::RELEASE, &std::collections::BTreeSet::new()),
        [""; 0]
    );
}

#[test]
fn symbols_are_in_the_libraries_that_old_hosts_have_them_in() {
    const CODE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <mqueue.h>
#include <pthread.h>
#include <pty.h>
#include <time.h>
int main(int argc, char **argv)
{
  struct timespec now;
  return dlsym(NULL, argv[0]) == NULL && exp(argc) > 0 && mq_close(-1) != 0 &&
    pthread_setname_np(pthread_self(), "a") == 0 && openpty(0, 0, 0, 0, 0) != 0 &&
    clock_gettime(CLOCK_REALTIME, &now) == 0;
}
"#;
    let directory = TempDir::new().unwrap();
    let flags = ["-ldl", "-lm", "-lrt", "-lpthread", "-lutil"];
    let needs = floor::needs(&linked(&directory, "program", CODE, &flags)).unwrap();
    let place = |name: &str| {
        let symbol = needs.symbols.iter().find(|symbol| symbol.name == name);
        symbol.map(|symbol| {
            (
                symbol.library.as_str(),
                symbol.version.as_deref().unwrap_or(""),
            )
        })
    };
    for (name, library, version) in [
        ("dlsym", "libdl.so.2", "GLIBC_2.2.5"),
        ("exp", "libm.so.6", "GLIBC_2.2.5"),
        ("mq_close", "librt.so.1", "GLIBC_2.3.4"),
        ("pthread_setname_np", "libpthread.so.0", "GLIBC_2.12"),
        ("openpty", "libutil.so.1", "GLIBC_2.2.5"),
        ("clock_gettime", "libc.so.6", "GLIBC_2.17"),
        ("__libc_start_main", "libc.so.6", "GLIBC_2.2.5"),
    ] {
        assert_eq!(place(name), Some((library, version)), "{name}");
    }
}

#[test]
fn what_needs_a_later_symbol_is_not_linked() {
    let directory = TempDir::new().unwrap();
    let code = "int getentropy(void *, unsigned long); int main() { return getentropy(0, 0); }";
    let (_, output) = link(&directory, "program", code, &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for part in ["getentropy", "may be one that is newer than GLIBC_2.17"] {
        assert!(errors.contains(part), "no {part} in {errors}");
    }
}
