use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::*;

const LIMIT: u64 = 100;

/// A directory with something of each kind.
fn kinds() -> (TempDir, Vec<(&'static str, Kind)>) {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("regular"), "text").unwrap();
    fs::create_dir(path("directory")).unwrap();
    mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
    symlink("regular", path("link")).unwrap();
    symlink("nowhere", path("broken")).unwrap();
    drop(UnixListener::bind(path("socket")).unwrap());
    let kinds = [
        ("directory", Kind::Directory),
        ("fifo", Kind::Fifo),
        ("link", Kind::Link),
        ("broken", Kind::Link),
        ("socket", Kind::Socket),
    ];
    (dir, kinds.into())
}

#[test]
fn only_regular_files_are_read_and_nothing_waits() {
    let (dir, kinds) = kinds();
    for (name, kind) in kinds {
        let error = read(&dir.path().join(name), Links::Refuse, LIMIT).unwrap_err();
        let expected = format!("it is {kind} and not a regular file");
        assert_eq!(error.to_string(), expected, "{name}");
        assert!(write_setting(dir.path().join(name).to_str().unwrap(), "1").is_err());
    }
    let device = read(Path::new("/dev/zero"), Links::Refuse, LIMIT).unwrap_err();
    assert!(matches!(device, ReadError::NotRegular(Kind::Device)));
    let regular = dir.path().join("regular");
    assert_eq!(read(&regular, Links::Refuse, LIMIT).unwrap(), b"text");
}

#[test]
fn a_link_of_an_operator_is_followed_to_a_regular_file_only() {
    let (dir, _) = kinds();
    let text = |name: &str| read_text(&dir.path().join(name), Links::Follow, LIMIT);
    assert_eq!(text("link").unwrap(), "text");
    assert_eq!(
        text("broken").unwrap_err().kind(),
        io::ErrorKind::NotFound,
        "a link to nowhere"
    );
    symlink("fifo", dir.path().join("link-to-fifo")).unwrap();
    assert_eq!(
        text("link-to-fifo").unwrap_err().to_string(),
        "it is a FIFO and not a regular file"
    );
}

#[test]
fn texts_are_utf8() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    let read = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        read_text(&path, Links::Refuse, LIMIT).map_err(|error| error.to_string())
    };
    assert_eq!(read(b"\xef\xbb\xbf{}"), Ok("{}".to_owned()));
    assert_eq!(
        read(b"\xff\xfe{\0}\0").unwrap_err(),
        "it is UTF-16; save it as UTF-8"
    );
}

#[test]
fn the_size_is_limited() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, [b'x'; LIMIT as usize]).unwrap();
    assert_eq!(read(&path, Links::Refuse, LIMIT).unwrap().len(), 100);
    let error = read(&path, Links::Refuse, LIMIT - 1).unwrap_err();
    assert_eq!(error.to_string(), "it has more than 99 bytes");
}

#[test]
fn a_link_in_the_place_of_a_new_file_is_replaced_and_not_followed() {
    let (dir, _) = kinds();
    replace(dir.path(), "link", b"new", 0o640).unwrap();
    assert_eq!(fs::read(dir.path().join("regular")).unwrap(), b"text");
    let found = fs::symlink_metadata(dir.path().join("link")).unwrap();
    assert!(found.is_file());
    assert_eq!(found.permissions().mode() & 0o777, 0o640);
    assert!(replace(dir.path(), "directory", b"new", 0o640).is_err());
    assert_eq!(temporary(dir.path()), [""; 0]);
}

/// Returns the names of temporary files.
fn temporary(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let names = names.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(TEMPORARY)).collect()
}

/// Whatever somebody puts in the place of a temporary file is neither followed nor written.
#[test]
fn a_temporary_file_is_always_a_new_one() {
    let (dir, _) = kinds();
    let planted = dir.path().join(".file.new");
    symlink("regular", &planted).unwrap();
    assert!(write_new(&planted, b"new", 0o600).is_err());
    // The next attempt removes it, like the remains of an interrupted one.
    replace(dir.path(), "file", b"new", 0o600).unwrap();
    assert_eq!(temporary(dir.path()), [""; 0]);
    assert_eq!(fs::read(dir.path().join("regular")).unwrap(), b"text");
}

#[test]
fn directories_that_others_can_write_are_found() {
    let outer = TempDir::new().unwrap();
    let dir = outer.path().join("cni");
    fs::create_dir(&dir).unwrap();
    let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let warning = || exposure("cni_dir", &dir, "do harm");
    for (outer_mode, mode, exposed) in [
        (0o700, 0o755, None),
        (0o700, 0o777, Some("cni")),
        (0o700, 0o1777, Some("cni")),
        (0o777, 0o755, Some("")),
        // Nobody can replace the directory of another user here.
        (0o1777, 0o755, None),
    ] {
        set(outer.path(), outer_mode);
        set(&dir, mode);
        let expected = exposed.map(|place| {
            let place = outer.path().join(place);
            let place = place.display().to_string();
            let place = place.trim_end_matches('/');
            let dir = dir.display();
            format!(
                "cni_dir {dir}: {place} can be written by all users, and they can do harm; \
                 chmod go-w {place}"
            )
        });
        assert_eq!(warning(), expected, "{outer_mode:o} {mode:o}");
    }
    assert_eq!(exposure("cni_dir", Path::new("/no/such"), "do harm"), None);
}

#[test]
fn directories_of_other_users_and_groups_are_found() {
    if !nix::unistd::geteuid().is_root() {
        testbed::skip::skip("directories_of_other_users", "not root");
        return;
    }
    let dir = TempDir::new().unwrap();
    let warning = || exposure("cni_dir", dir.path(), "do harm");
    let own = |user, group| std::os::unix::fs::chown(dir.path(), user, group).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o770)).unwrap();
    assert_eq!(warning(), None, "the group of root");
    own(None, Some(1000));
    let line = warning().unwrap();
    assert!(line.contains("can be written by the group with id 1000"));
    own(Some(1000), None);
    let line = warning().unwrap();
    let expected = "belongs to the user with id 1000, and they can do harm; chown root";
    assert!(line.contains(expected), "{line}");
}
