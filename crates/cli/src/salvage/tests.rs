use super::{File, lock, write_all};

fn file(name: &str) -> File {
    File {
        name: name.into(),
        content: b"content".to_vec(),
    }
}

#[test]
fn a_copy_has_all_files() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    write_all(
        directory.path(),
        &copy,
        &[file("CURRENT"), file("000003.log")],
    )
    .unwrap();
    for name in ["CURRENT", "000003.log"] {
        assert_eq!(std::fs::read(copy.join(name)).unwrap(), b"content");
    }
}

#[test]
fn a_copy_that_fails_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    let files = [file("CURRENT"), file("missing/000003.log")];
    let sentence = write_all(directory.path(), &copy, &files).unwrap_err();
    assert!(sentence.contains("cannot be written"), "{sentence}");
    assert!(!copy.exists());
}

#[test]
fn a_copy_does_not_touch_a_directory_that_exists() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("mine"), "").unwrap();
    write_all(directory.path(), &copy, &[file("CURRENT")]).unwrap_err();
    assert!(copy.join("mine").exists());
}

#[test]
fn a_replica_that_nobody_has_open_is_locked() {
    let directory = tempfile::tempdir().unwrap();
    assert!(lock(directory.path()).unwrap().is_none());
    std::fs::write(directory.path().join("LOCK"), "").unwrap();
    assert!(lock(directory.path()).unwrap().is_some());
}
