//! Something else than a file in the place of a CNI configuration.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{mkdir, mkfifo};
use testkit::host::{Host, eventually};

use crate::{LIMIT, kept_host};

/// Creates an obstacle at a path.
type Create = fn(&Path) -> nix::Result<()>;

const OBSTACLES: [(&str, Create); 5] = [
    ("a FIFO", |path| mkfifo(path, Mode::S_IRWXU)),
    ("a directory", |path| mkdir(path, Mode::S_IRWXU)),
    ("a device", |path| {
        use nix::sys::stat::{SFlag, makedev, mknod};
        mknod(path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5))
    }),
    ("a socket", |path| {
        drop(UnixListener::bind(path).unwrap());
        Ok(())
    }),
    ("a symbolic link", |path| {
        fs::write(path.with_extension("precious"), "precious").unwrap();
        symlink(path.with_extension("precious"), path).unwrap();
        Ok(())
    }),
];

fn remove(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::remove_dir(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

/// The overlay fails in time, whether the obstacle is there from the start or comes later, the
/// obstacle is left alone, and the overlay works as soon as it is gone.
#[test]
fn in_the_place_of_a_cni_file_fails_the_overlay_and_hangs_nothing() {
    if !testkit::root("in_the_place_of_a_cni_file_fails_the_overlay") {
        return;
    }
    let (host, worker, desired) = kept_host();
    let file = host.cni.path().join("dcos.conf");
    for (what, create) in OBSTACLES {
        let start = Instant::now();
        fs::remove_file(&file).unwrap();
        match create(&file) {
            // In a user namespace nobody can create devices.
            Err(Errno::EPERM) => {
                eventually("the file is back", || file.exists());
                continue;
            }
            created => created.unwrap(),
        }
        let expected = format!(
            "cannot write CNI configuration dcos.conf: {} is {what} and not a regular file; \
             remove it",
            file.display()
        );
        let report = loop {
            let report = worker.finish();
            if !report.is_ok() {
                break report;
            }
        };
        assert_eq!(report.overlays["dcos"], expected);
        assert!(start.elapsed() < LIMIT, "{what}: {:?}", start.elapsed());
        assert!(is_obstructed(&file), "{what} was replaced");
        // A new desired state meets the obstacle at once.
        worker.start(&desired);
        assert_eq!(worker.finish().overlays["dcos"], expected);
        remove(&file);
        assert!(worker.finish().is_ok());
        assert!(!is_obstructed(&file), "{what}: the file is back");
    }
    let precious = file.with_extension("precious");
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
}

fn is_obstructed(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|found| !found.is_file())
}

/// Others who can write to the directory are a warning, and nothing else.
#[test]
fn a_host_with_an_open_directory_is_configured() {
    if !testkit::root("a_host_with_an_open_directory_is_configured") {
        return;
    }
    let host = Host::new();
    host.command(&format!("chmod 777 {}", host.cni.path().display()));
    host.settle(&host.desired(1));
}
