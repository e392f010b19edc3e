//! Transcripts: files in which a line that begins with `>` is an input of a machine, and the
//! indented lines after it are all effects. Other lines are comments.
//!
//! `UPDATE_TRANSCRIPTS=1` writes the current effects into the files; the difference is to be
//! reviewed.

use std::path::{Path, PathBuf};

fn directory(role: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../core/tests/transcripts")
        .join(role)
}

/// Compares a transcript with the result of `play`.
pub fn check(role: &str, name: &str, play: impl Fn(&str) -> String) {
    let path = directory(role).join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap();
    let played = play(&expected);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        return std::fs::write(&path, played).unwrap();
    }
    for (number, (expected, played)) in expected.lines().zip(played.lines()).enumerate() {
        let line = number + 1;
        assert_eq!(
            played, expected,
            "{name}.txt, line {line}: left is what the {role} does"
        );
    }
    assert_eq!(
        played, expected,
        "{name}.txt: one goes on where the other ends"
    );
}

/// Returns the names of a role's transcripts.
pub fn names(role: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory(role))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

/// Defines a test for each transcript of a role, and one that fails if a file has no test.
#[macro_export]
macro_rules! transcripts {
    ($role:literal, $play:path; $($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            $crate::transcript::check($role, stringify!($name), $play);
        })*

        #[test]
        fn every_transcript_is_played() {
            let mut played = vec![$(stringify!($name).to_owned()),*];
            played.sort();
            assert_eq!($crate::transcript::names($role), played);
        }
    };
}
