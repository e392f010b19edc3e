//! Key files, as the modules read them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use overlay_core::config::authentication::{AuthMode, Authentication};
use overlay_core::protocol::session::keys::Keys;
use overlay_host::files::{self, Links};

use crate::finding::Finding;
use crate::finding::kinds::configuration;

/// Largest size of a key file, in bytes. The modules' own.
const MAX_SIZE: u64 = 64 << 10;
/// Permissions of group and others.
const OTHERS: u32 = 0o077;

/// Reads the keys that a configuration names. Nothing of a key is shown. A file that only others may
/// read, such as root, is not an error of the configuration.
pub fn read(file: &str, authentication: &mut Authentication) -> Option<Finding> {
    let path = authentication.key_file.clone()?;
    if authentication.mode == AuthMode::Off {
        return None;
    }
    let wrong = |what: &str, remedy: &str| {
        let message = format!("auth_key_file: {} {what}", path.display());
        Some(configuration::INVALID.finding(message, remedy).about(file))
    };
    let text = match files::read_text(&path, Links::Follow, MAX_SIZE) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        Err(error) => {
            let remedy = "name a file with a key that Mesos can read";
            return wrong(&format!("cannot be read: {error}"), remedy);
        }
    };
    match Keys::read(&text) {
        Ok(keys) => authentication.keys = Some(keys),
        Err(what) => return wrong(&format!("cannot be used: {what}"), "write one key a line"),
    }
    let mode = mode(&path);
    if mode & OTHERS != 0 {
        let what = format!("is accessible to other users (mode {mode:04o})");
        return wrong(&what, &format!("run chmod 600 {}", path.display()));
    }
    None
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |data| data.mode() & 0o7777)
}
