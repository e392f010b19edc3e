//! Compiles the C++ shim.

use std::env;
use std::path::PathBuf;

#[path = "build/headers.rs"]
mod headers;

fn main() {
    compile_shim();
}

const SHIM: [&str; 12] = [
    "compatible",
    "disk",
    "leader",
    "libstdcxx",
    "metrics",
    "module",
    "process",
    "replica",
    "resolve",
    "storage",
    "text",
    "thread",
];

/// Compiles the shim and links it into the `cdylib` only, which Mesos loads.
fn compile_shim() {
    println!("cargo:rerun-if-changed=cpp_shim");
    println!("cargo:rerun-if-changed=include");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++11")
        .pic(true)
        .extra_warnings(true)
        .warnings_into_errors(true)
        .flag("-fvisibility=hidden")
        // The checks of _FORTIFY_SOURCE need optimisation; some compilers set another level.
        .opt_level(2)
        .flag("-U_FORTIFY_SOURCE")
        .flag("-D_FORTIFY_SOURCE=2")
        .flag("-fstack-protector-strong")
        .include("include")
        .files(SHIM.map(|name| format!("cpp_shim/{name}.cpp")));
    match installed_mesos() {
        // As system headers, which have no warnings.
        Some(includes) => includes.iter().for_each(|path| {
            build.flag("-isystem").flag(path);
        }),
        None => {
            build
                .define("MESOS_OVERLAY_SUBSET", None)
                .include("cpp_shim/mesos_subset");
        }
    }
    // Without the directories of this build, the result is the same everywhere.
    for (variable, name) in [("CARGO_MANIFEST_DIR", "."), ("OUT_DIR", "out")] {
        let directory = env::var(variable).expect("cargo sets it");
        build.flag(format!("-ffile-prefix-map={directory}={name}"));
    }
    // Tables of function addresses cannot be written, and no stack can be executed.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,relro,-z,now,-z,noexecstack");
    for object in build.compile_intermediates() {
        println!("cargo:rustc-cdylib-link-arg={}", object.display());
    }
    println!("cargo:rustc-cdylib-link-arg=-lstdc++");
}

/// Returns the include directories of an installed Mesos: below `MESOS_PREFIX`, or as
/// `pkg-config mesos` prints them. `None` if there is none, or if `MESOS_PREFIX` is set and empty;
/// then the subset of the headers in `cpp_shim/mesos_subset` is used.
///
/// The headers include those of boost, glog, protobuf, ZooKeeper and others. Mesos installs
/// them, too, if it was configured with `--enable-install-module-dependencies`; other
/// directories can be added with `CXXFLAGS`.
fn installed_mesos() -> Option<Vec<PathBuf>> {
    println!("cargo:rerun-if-env-changed=MESOS_PREFIX");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    let prefix = env::var_os("MESOS_PREFIX");
    headers::installed(prefix.as_deref(), headers::of_pkg_config)
        .unwrap_or_else(|error| panic!("{error}"))
}
