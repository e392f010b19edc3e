//! Files of CNI configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::content::is_ours;
use crate::reconcile::observed::CniFile;

/// End of a file's name.
const SUFFIX: &str = ".conf";

/// Reads the files that are ours, and those at the places of `wanted` ones.
///
/// # Errors
/// The directory cannot be read. (A directory that does not exist has no files.)
pub(crate) fn read(dir: &Path, wanted: &BTreeSet<&str>) -> io::Result<BTreeMap<String, CniFile>> {
    let mut files = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(overlay) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else {
            continue;
        };
        // An unreadable file is not ours. If a wanted file belongs in its place, writing
        // that one fails and is reported.
        let Ok(content) = fs::read(dir.join(&name)) else {
            continue;
        };
        let ours = is_ours(overlay, &content);
        if ours || wanted.contains(overlay) {
            files.insert(overlay.to_owned(), CniFile { content, ours });
        }
    }
    Ok(files)
}

/// Returns the path of an overlay's file.
fn path(dir: &Path, overlay: &str) -> PathBuf {
    dir.join(format!("{overlay}{SUFFIX}"))
}

/// Writes the file of an overlay, and creates the directory if there is none. A reader, and
/// a machine that loses power, has either the old or the new content.
///
/// # Errors
/// Directory or file cannot be written.
pub(crate) fn write(dir: &Path, overlay: &str, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    // All attempts use one name, so that the next one overwrites the remains of one that was
    // interrupted. The suffix keeps others from reading it as a configuration.
    let temporary = dir.join(format!(".{overlay}{SUFFIX}.new"));
    let written = write_through(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path(dir, overlay)))
        .and_then(|()| File::open(dir)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes a file and waits until it is on the disk.
fn write_through(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    // Tools of other users read these files, so the umask of Mesos must not apply.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Removes the file of an overlay, if there is one.
///
/// # Errors
/// The file cannot be removed.
pub(crate) fn remove(dir: &Path, overlay: &str) -> io::Result<()> {
    match fs::remove_file(path(dir, overlay)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::content::content;
    use crate::cni::content::tests::{cni, overlay};

    #[test]
    fn files_are_written_whole_and_readable_and_leave_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let cni_dir = dir.path().join("not/there/yet");
        let text = content("dcos", &overlay(), &cni(None), None).unwrap();
        write(&cni_dir, "dcos", b"old").unwrap();
        write(&cni_dir, "dcos", &text).unwrap();
        assert_eq!(fs::read(cni_dir.join("dcos.conf")).unwrap(), text);
        let mode = fs::metadata(cni_dir.join("dcos.conf"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_dir(&cni_dir).unwrap().count(), 1);
        remove(&cni_dir, "dcos").unwrap();
        remove(&cni_dir, "dcos").unwrap();
        assert_eq!(fs::read_dir(&cni_dir).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_in_the_place_of_a_file_is_an_error_and_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("dcos.conf")).unwrap();
        write(dir.path(), "dcos", b"text").unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn reads_our_files_and_those_in_the_place_of_wanted_ones() {
        let dir = tempfile::tempdir().unwrap();
        let ours = content("dcos", &overlay(), &cni(None), None).unwrap();
        fs::write(dir.path().join("dcos.conf"), &ours).unwrap();
        fs::write(dir.path().join("wanted.conf"), "garbage").unwrap();
        fs::write(dir.path().join("foreign.conf"), "{}").unwrap();
        fs::write(dir.path().join("dcos.conflist"), &ours).unwrap();
        fs::create_dir(dir.path().join("directory.conf")).unwrap();
        let files = read(dir.path(), &BTreeSet::from(["wanted"])).unwrap();
        let garbage = CniFile {
            content: b"garbage".to_vec(),
            ours: false,
        };
        let dcos = CniFile {
            content: ours,
            ours: true,
        };
        assert_eq!(
            files,
            BTreeMap::from([("dcos".into(), dcos), ("wanted".into(), garbage)])
        );
    }

    #[test]
    fn a_missing_directory_has_no_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            read(&dir.path().join("none"), &BTreeSet::new()).unwrap(),
            BTreeMap::new()
        );
    }
}
