//! Files of CNI configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use overlay_core::host_api::desired::Cni;
use overlay_core::util::line::one_line;

use super::content::{DefinedNetwork, defined_network, is_ours};
use crate::files::{self, Kind, Links, ReadError};
use crate::reconcile::observed::CniFile;

/// End of a file's name.
const SUFFIX: &str = ".conf";

/// Size limit of a file in bytes. Ours have some hundred.
const LIMIT: u64 = 1 << 20;

/// Longest name of somebody else's file that is shown, in characters.
const MAX_NAME: usize = 255;

/// Permissions: tools of other users read these files, so the umask of Mesos must not apply.
const MODE: u32 = 0o644;

/// Content of the directory.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Files that are ours, and those at the places of wanted ones, by overlay.
    pub files: BTreeMap<String, CniFile>,
    /// What is in the place of a wanted file and stays, by overlay.
    pub obstacles: BTreeMap<String, Obstacle>,
    /// Other files that define a network with the name of a wanted overlay, by overlay. Mesos takes
    /// whichever it reads first.
    pub rivals: BTreeMap<String, Rival>,
}

/// What is in the place of a wanted file, and is its owner's business.
#[derive(Debug, PartialEq)]
pub(crate) enum Obstacle {
    /// No regular file.
    NotRegular(Kind),
    /// Somebody else's network.
    Network(DefinedNetwork),
}

/// File that defines a network of an overlay's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    /// Name of the file.
    pub file: String,
    /// True if it is a copy of a file of ours.
    pub is_copy: bool,
}

/// Reads the files that are ours, and those at the places of `wanted` ones. A file of ours without
/// the prefix, which was configured later, is to go: that of a wanted overlay makes the wanted file
/// count as missing, because [`write()`] removes the former one.
///
/// # Errors
/// The directory cannot be read. (A directory that does not exist has no files.)
pub(crate) fn read(cni: &Cni, wanted: &BTreeSet<&str>) -> io::Result<Found> {
    let Cni {
        dir, file_prefix, ..
    } = cni;
    let mut found = Found::default();
    let mut former = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        let Some(file) = name.to_str() else { continue };
        if let Some((overlay, content)) = without_prefix(cni, file) {
            former.insert(overlay, content);
            continue;
        }
        let overlay = file
            .strip_prefix(file_prefix)
            .and_then(|rest| rest.strip_suffix(SUFFIX))
            .unwrap_or_default();
        if !wanted.contains(overlay) {
            found.add_rival(rival(dir, file, wanted));
        }
        if overlay.is_empty() {
            continue;
        }
        let is_wanted = wanted.contains(overlay);
        match files::read(&dir.join(&name), Links::Refuse, LIMIT) {
            Ok(content) => {
                let ours = is_ours(overlay, &content);
                let theirs = defined_network(&content).filter(|_| is_wanted && !ours);
                if let Some(network) = theirs {
                    let obstacle = Obstacle::Network(network);
                    found.obstacles.insert(overlay.to_owned(), obstacle);
                } else if ours || is_wanted {
                    let file = CniFile { content, ours };
                    found.files.insert(overlay.to_owned(), file);
                }
            }
            Err(ReadError::NotRegular(kind)) if is_wanted => {
                found
                    .obstacles
                    .insert(overlay.to_owned(), Obstacle::NotRegular(kind));
            }
            // Such a file is not ours. A wanted one replaces it.
            Err(_) => {}
        }
    }
    for (overlay, content) in former {
        if wanted.contains(overlay.as_str()) {
            found.files.remove(&overlay);
        } else {
            let file = CniFile {
                content,
                ours: true,
            };
            found.files.insert(overlay, file);
        }
    }
    Ok(found)
}

impl Found {
    /// Adds a file that defines a network of an overlay's name. Of several for one overlay the first
    /// counts that is no copy.
    fn add_rival(&mut self, rival: Option<(String, Rival)>) {
        let Some((overlay, rival)) = rival else {
            return;
        };
        let rank = |rival: &Rival| (rival.is_copy, rival.file.clone());
        let before = self.rivals.get(&overlay);
        if before.is_none_or(|before| rank(&rival) < rank(before)) {
            self.rivals.insert(overlay, rival);
        }
    }
}

/// Returns overlay and content of a file of ours that lacks the configured prefix; `None`: it is
/// another file, or there is no prefix.
fn without_prefix(cni: &Cni, file: &str) -> Option<(String, Vec<u8>)> {
    if cni.file_prefix.is_empty() {
        return None;
    }
    let overlay = file.strip_suffix(SUFFIX)?;
    let content = ours(&cni.dir.join(file), overlay)?;
    Some((overlay.to_owned(), content))
}

/// Returns the content of a file of an overlay; `None`: it cannot be read, or is not ours.
fn ours(path: &Path, overlay: &str) -> Option<Vec<u8>> {
    let content = files::read(path, Links::Refuse, LIMIT).ok()?;
    is_ours(overlay, &content).then_some(content)
}

/// Returns the overlay whose name another file gives to a network, and the file. Mesos reads files of
/// all names.
fn rival(dir: &Path, file: &str, wanted: &BTreeSet<&str>) -> Option<(String, Rival)> {
    // A file that is being written.
    if file.starts_with('.') {
        return None;
    }
    let content = files::read(&dir.join(file), Links::Refuse, LIMIT).ok()?;
    let network = defined_network(&content)?;
    let is_copy = is_ours(&network.name, &content);
    let file = one_line(file, MAX_NAME).into_owned();
    let is_rival = wanted.contains(network.name.as_str());
    is_rival.then_some((network.name, Rival { file, is_copy }))
}

/// Returns the name of an overlay's file.
pub(crate) fn name(cni: &Cni, overlay: &str) -> String {
    format!("{}{overlay}{SUFFIX}", cni.file_prefix)
}

/// Returns the path of an overlay's file.
pub(crate) fn path(cni: &Cni, overlay: &str) -> PathBuf {
    cni.dir.join(name(cni, overlay))
}

/// Writes the file of an overlay, and creates the directory if there is none. A reader, and
/// a machine that loses power, has either the old or the new content. A file of ours without the
/// prefix, which was configured later, goes.
///
/// # Errors
/// Directory or file cannot be written.
pub(crate) fn write(cni: &Cni, overlay: &str, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(&cni.dir)?;
    let name = name(cni, overlay);
    files::replace(&cni.dir, &name, content, MODE)?;
    // Mesos takes one of two files with the same network.
    match cni.file_prefix.is_empty() {
        true => Ok(()),
        false => remove_ours(&cni.dir.join(format!("{overlay}{SUFFIX}")), overlay),
    }
}

/// Removes the files of an overlay, with the prefix and without it, as far as they are ours.
///
/// # Errors
/// A file cannot be removed.
pub(crate) fn remove(cni: &Cni, overlay: &str) -> io::Result<()> {
    remove_ours(&path(cni, overlay), overlay)?;
    remove_ours(&cni.dir.join(format!("{overlay}{SUFFIX}")), overlay)
}

fn remove_ours(path: &Path, overlay: &str) -> io::Result<()> {
    if ours(path, overlay).is_none() {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn at(dir: &Path) -> Cni {
        Cni {
            dir: dir.into(),
            ..Cni::default()
        }
    }
    use crate::cni::content::content;
    use crate::cni::content::tests::{cni, overlay};

    #[test]
    fn files_are_written_whole_and_readable_and_leave_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let cni_dir = dir.path().join("not/there/yet");
        let text = content("dcos", &overlay(), &cni(None), None).unwrap();
        write(&at(&cni_dir), "dcos", b"old").unwrap();
        write(&at(&cni_dir), "dcos", &text).unwrap();
        assert_eq!(fs::read(cni_dir.join("dcos.conf")).unwrap(), text);
        let mode = fs::metadata(cni_dir.join("dcos.conf"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(fs::read_dir(&cni_dir).unwrap().count(), 1);
        remove(&at(&cni_dir), "dcos").unwrap();
        remove(&at(&cni_dir), "dcos").unwrap();
        assert_eq!(fs::read_dir(&cni_dir).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_in_the_place_of_a_file_is_an_error_and_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("dcos.conf")).unwrap();
        write(&at(dir.path()), "dcos", b"text").unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// Such a file is longer than any of ours, and is replaced like every other one.
    #[test]
    fn a_huge_file_is_not_read_and_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let huge = fs::File::create(dir.path().join("dcos.conf")).unwrap();
        huge.set_len(LIMIT + 1).unwrap();
        let found = read(&at(dir.path()), &BTreeSet::from(["dcos"])).unwrap();
        assert_eq!(found, Found::default());
        write(&at(dir.path()), "dcos", b"text").unwrap();
        assert_eq!(fs::read(dir.path().join("dcos.conf")).unwrap(), b"text");
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
        fs::create_dir(dir.path().join("obstructed.conf")).unwrap();
        let found = read(&at(dir.path()), &BTreeSet::from(["wanted", "obstructed"])).unwrap();
        let garbage = CniFile {
            content: b"garbage".to_vec(),
            ours: false,
        };
        let dcos = CniFile {
            content: ours,
            ours: true,
        };
        let expected = Found {
            files: [("dcos".into(), dcos), ("wanted".into(), garbage)].into(),
            obstacles: [("obstructed".into(), Obstacle::NotRegular(Kind::Directory))].into(),
            rivals: BTreeMap::new(),
        };
        assert_eq!(found, expected);
        // Nobody's network is replaced.
        fs::write(
            dir.path().join("wanted.conf"),
            r#"{"name": "calico", "type": "calico"}"#,
        )
        .unwrap();
        let found = read(&at(dir.path()), &BTreeSet::from(["wanted"])).unwrap();
        let Some(Obstacle::Network(network)) = found.obstacles.get("wanted") else {
            panic!("{found:?}")
        };
        assert_eq!(network.to_string(), r#"network "calico" of type "calico""#);
        assert!(!found.files.contains_key("wanted"));
        // Mesos reads files of all names.
        let found = read(&at(dir.path()), &BTreeSet::from(["dcos"])).unwrap();
        let copy = Rival {
            file: "dcos.conflist".into(),
            is_copy: true,
        };
        assert_eq!(found.rivals, [("dcos".into(), copy)].into());
        let theirs = r#"{"name": "dcos", "plugins": [{"type": "calico"}]}"#;
        fs::write(dir.path().join("dcos.conflist"), theirs).unwrap();
        let found = read(&at(dir.path()), &BTreeSet::from(["dcos"])).unwrap();
        assert!(!found.rivals["dcos"].is_copy);
    }

    #[test]
    fn a_missing_directory_has_no_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            read(&at(&dir.path().join("none")), &BTreeSet::new()).unwrap(),
            Found::default()
        );
    }

    #[test]
    fn files_move_to_names_with_a_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, prefixed) = (
            at(dir.path()),
            Cni {
                file_prefix: "overlay-".into(),
                ..at(dir.path())
            },
        );
        let text = content("dcos", &overlay(), &cni(None), None).unwrap();
        write(&plain, "dcos", &text).unwrap();
        fs::write(
            dir.path().join("web.conf"),
            r#"{"name": "web", "type": "calico"}"#,
        )
        .unwrap();
        let wanted = BTreeSet::from(["dcos", "web"]);
        let found = read(&prefixed, &wanted).unwrap();
        assert!(found.files.is_empty() && found.obstacles.is_empty());
        assert!(!found.rivals.contains_key("dcos") && !found.rivals["web"].is_copy);
        write(&prefixed, "dcos", &text).unwrap();
        assert!(!dir.path().join("dcos.conf").exists());
        let found = read(&prefixed, &wanted).unwrap();
        assert!(found.files["dcos"].ours && !found.rivals.contains_key("dcos"));
        write(&prefixed, "web", &text).unwrap();
        assert!(dir.path().join("web.conf").exists(), "somebody else's");
        // The agent ended after it had written the new file.
        write(&plain, "dcos", &text).unwrap();
        assert!(!read(&prefixed, &wanted).unwrap().files.contains_key("dcos"));
        remove(&prefixed, "dcos").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "those of web");
    }

    #[test]
    fn a_file_without_the_prefix_goes_with_its_overlay() {
        let dir = tempfile::tempdir().unwrap();
        let prefixed = Cni {
            file_prefix: "overlay-".into(),
            ..at(dir.path())
        };
        let text = content("dcos", &overlay(), &cni(None), None).unwrap();
        write(&at(dir.path()), "dcos", &text).unwrap();
        let theirs = r#"{"name": "dcos", "type": "calico"}"#;
        fs::write(dir.path().join("overlay-dcos.conf"), theirs).unwrap();
        let found = read(&prefixed, &BTreeSet::new()).unwrap();
        assert!(found.files["dcos"].ours);
        remove(&prefixed, "dcos").unwrap();
        assert!(!dir.path().join("dcos.conf").exists());
        assert!(dir.path().join("overlay-dcos.conf").exists());
        assert_eq!(read(&prefixed, &BTreeSet::new()).unwrap(), Found::default());
    }

    #[test]
    fn a_copy_hides_no_network_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let text = content("dcos", &overlay(), &cni(None), None).unwrap();
        for copy in ["a.conflist", "z.conflist"] {
            fs::write(dir.path().join(copy), &text).unwrap();
        }
        for file in ["c.conf", "b.conf"] {
            let theirs = r#"{"name": "dcos", "type": "calico"}"#;
            fs::write(dir.path().join(file), theirs).unwrap();
        }
        let found = read(&at(dir.path()), &BTreeSet::from(["dcos"])).unwrap();
        let first = Rival {
            file: "b.conf".into(),
            is_copy: false,
        };
        assert_eq!(found.rivals["dcos"], first);
    }
}
