//! Reads `auth_key_file`.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::unistd::geteuid;
use overlay_core::config::ConfigError;
use overlay_core::config::authentication::{AuthMode, Authentication};
use overlay_core::protocol::session::keys::Keys;

const FIELD: &str = "auth_key_file";
/// Largest size of a key file, in bytes.
const MAX_SIZE: u64 = 64 << 10;
/// Permissions of group and others.
const OTHERS: u32 = 0o077;

/// Reads the keys that the configuration in `source` names, if they are used.
///
/// # Errors
/// The file cannot be read, others can access it, or it has a mistake.
pub fn load(source: &str, authentication: &mut Authentication) -> Result<(), ConfigError> {
    if authentication.mode == AuthMode::Off {
        return Ok(());
    }
    let Some(path) = &authentication.key_file else {
        return Ok(());
    };
    let wrong = |what: &str, remedy: &str| {
        ConfigError::new(source, FIELD, format!("{} {what}", path.display()), remedy)
    };
    let text = read(path).map_err(|(what, remedy)| wrong(&what, &remedy))?;
    let keys = Keys::read(text.trim_start_matches('\u{feff}'))
        .map_err(|what| wrong(&format!("cannot be used: {what}"), "write one key a line"))?;
    authentication.keys = Some(keys);
    Ok(())
}

/// Returns the text of the file.
///
/// # Errors
/// What is wrong with the file, and the remedy.
fn read(path: &Path) -> Result<String, (String, String)> {
    let unreadable = |error: std::io::Error| {
        (
            format!("cannot be read: {error}"),
            "name a file with a key that Mesos can read".to_owned(),
        )
    };
    // Opening a FIFO must not wait for its writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)
        .map_err(unreadable)?;
    check(&file, path)?;
    let mut text = String::new();
    file.take(MAX_SIZE)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    Ok(text)
}

/// Checks the file that was opened, which may be another one than the path names by now.
fn check(file: &File, path: &Path) -> Result<(), (String, String)> {
    let metadata = file.metadata().map_err(|error| {
        let what = format!("cannot be examined: {error}");
        (what, "name a regular file".to_owned())
    })?;
    if !metadata.is_file() {
        let what = "is not a regular file".to_owned();
        return Err((what, "name a file with a key".to_owned()));
    }
    if metadata.len() >= MAX_SIZE {
        let what = format!("has {} bytes", metadata.len());
        return Err((what, format!("name a file of less than {MAX_SIZE} bytes")));
    }
    let owner = metadata.uid();
    if owner != 0 && owner != geteuid().as_raw() {
        let what = format!("belongs to the user {owner}, who could change it");
        return Err((what, format!("run chown root {}", path.display())));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 {
        let what = format!("is accessible to other users (mode {mode:04o})");
        return Err((what, format!("run chmod 600 {}", path.display())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

    fn load_file(path: PathBuf, mode: AuthMode) -> Result<Option<Keys>, String> {
        let mut authentication = Authentication {
            key_file: Some(path),
            mode,
            ..Authentication::default()
        };
        match load("agent.json", &mut authentication) {
            Ok(()) => Ok(authentication.keys),
            Err(error) => Err(error.to_string()),
        }
    }

    fn file(directory: &Path, text: &str, mode: u32) -> PathBuf {
        let path = directory.join(format!("key{mode:o}"));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_private_file_is_read() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o400] {
            let path = file(directory.path(), KEY, mode);
            assert!(
                load_file(path.clone(), AuthMode::Require)
                    .unwrap()
                    .is_some()
            );
            assert!(load_file(path.clone(), AuthMode::Warn).unwrap().is_some());
            assert!(load_file(path, AuthMode::Off).unwrap().is_none());
        }
        let missing = directory.path().join("missing");
        assert!(load_file(missing, AuthMode::Off).unwrap().is_none());
    }

    #[test]
    fn what_others_can_read_or_what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let fifo = path.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for (path, words) in [
            (file(path, KEY, 0o640), "(mode 0640); run chmod 600"),
            (file(path, KEY, 0o604), "(mode 0604)"),
            (file(path, "", 0o600), "it has no key"),
            (file(path, &"#\n".repeat(40_000), 0o400), "has 80000 bytes"),
            (path.join("missing"), "cannot be read: No such file"),
            (path.to_owned(), "is not a regular file"),
            (fifo, "is not a regular file"),
        ] {
            let error = load_file(path, AuthMode::Require).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert!(error.starts_with("agent.json: auth_key_file: "), "{error}");
        }
    }
}
