//! The commands of docs/install.md, and its table of distributions.

use std::fs;
use std::path::PathBuf;

use packaging::packages::VERSION;
use testbed::paths;

fn path() -> PathBuf {
    paths::workspace().join("docs/install.md")
}

fn text() -> String {
    fs::read_to_string(path()).unwrap()
}

/// Returns the commands of the blocks below `<!-- run: NAME -->`, in their order.
pub fn commands(name: &str) -> String {
    let mark = format!("<!-- run: {name} -->");
    let text = text();
    let mut commands = String::new();
    for block in text.split(&mark).skip(1) {
        let block = block.split("```").nth(1).unwrap();
        commands.extend(block.lines().map(|line| format!("{}\n", line.trim())));
    }
    assert!(!commands.is_empty(), "no commands below {mark}");
    commands
}

/// The page names the packages of this version.
#[test]
fn the_page_has_the_version_of_the_packages() {
    for name in ["deb", "rpm", "archive"] {
        let commands = commands(name);
        assert!(commands.contains(VERSION), "{commands}");
    }
}

/// Every block of commands is run by a test.
#[test]
fn every_block_of_the_page_is_run() {
    let tests = [
        include_str!("archive.rs"),
        include_str!("debian.rs"),
        include_str!("rpm.rs"),
        include_str!("switch.rs"),
    ];
    let text = text();
    let names = text.split("<!-- run: ").skip(1);
    let names: Vec<&str> = names
        .map(|rest| rest.split_once(" -->").unwrap().0)
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let call = format!("commands(\"{name}\")");
        assert!(
            tests.iter().any(|test| test.contains(&call)),
            "{name} is not run"
        );
    }
}

/// The page shows the lines of a file that are no comments.
#[test]
fn the_page_shows_files_as_they_are() {
    let text = text();
    let mut count = 0;
    for block in text.split("<!-- file: ").skip(1) {
        let (path, rest) = block.split_once(" -->").unwrap();
        let file = fs::read_to_string(paths::workspace().join(path)).unwrap();
        let lines: Vec<&str> = file.lines().filter(|l| !l.starts_with('#')).collect();
        let shown = rest.split("```").nth(1).unwrap().trim();
        assert_eq!(shown, lines.join("\n"), "{path}");
        count += 1;
    }
    assert_eq!(count, 1);
}

/// Compares the line of a table that begins with `start` with `line`, or rewrites it.
#[track_caller]
pub fn check_line(start: &str, line: &str) {
    let text = text();
    let stands: Vec<&str> = text.lines().filter(|l| l.starts_with(start)).collect();
    let [stands] = stands[..] else {
        panic!("lines that begin with {start:?}: {stands:?}");
    };
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let page = fs::File::open(path()).unwrap();
        page.lock().unwrap(); // other tests do the same
        let text = fs::read_to_string(path()).unwrap();
        fs::write(path(), text.replace(stands, line)).unwrap();
        return;
    }
    assert_eq!(
        stands, line,
        "UPDATE_DOCS=1 cargo test -p packaging --test install rewrites it"
    );
}
