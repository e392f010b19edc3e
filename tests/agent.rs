//! The agent against transcripts: what happens to it, and all that it does about
//! it, in files to be read (`tests/transcripts/agent`).
//!
//! A line that begins with `>` is something that happens; the indented lines after
//! it are what the agent does. `UPDATE_TRANSCRIPTS=1` writes what the agent does
//! now into the files, for the difference to be looked at.

// The bans of clippy.toml are meant for the core.
#![allow(clippy::disallowed_methods)]

#[path = "agent/garbage.rs"]
mod garbage;
#[path = "agent/player.rs"]
mod player;
#[path = "agent/show.rs"]
mod show;

use std::path::{Path, PathBuf};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/agent")
}

fn check(name: &str) {
    let path = directory().join(format!("{name}.txt"));
    let expected = std::fs::read_to_string(&path).unwrap();
    let played = player::play(&expected);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        return std::fs::write(&path, played).unwrap();
    }
    for (number, (expected, played)) in expected.lines().zip(played.lines()).enumerate() {
        let line = number + 1;
        assert_eq!(played, expected, "{name}.txt, line {line}: left is what the agent does");
    }
    assert_eq!(played, expected, "{name}.txt: one goes on where the other ends");
}

macro_rules! transcripts {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*

        #[test]
        fn every_transcript_is_played() {
            let mut files: Vec<String> = std::fs::read_dir(directory())
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
                .collect();
            files.sort();
            let mut played = vec![$(stringify!($name).to_owned()),*];
            played.sort();
            assert_eq!(files, played);
        }
    };
}

transcripts![
    registers,
    obeys_the_leader_only,
    loses_the_leader_while_configuring,
    tells_errors,
    retries_with_one_growing_timer,
    follows_the_masters_list,
    follows_its_peers,
    is_deleted,
    refuses_bad_values,
    asks_again_for_what_was_missing,
    answers_http,
    reports_before_it_is_sure,
    leaves_the_data_plane_to_another,
    refreshes,
];
