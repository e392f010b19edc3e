//! Documents that the program `mesos-overlay` makes of itself: docs/findings.md and docs/schemas.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::product;

/// Line of docs/findings.md behind which the table stands.
const TABLE: &str = "<!-- table of all findings, made by the program -->\n\n";

/// Returns the files that the program writes, by name.
fn written() -> BTreeMap<String, String> {
    let directory = tempfile::tempdir().unwrap();
    let mut program = Command::new(product::program());
    let status = program
        .arg("--write-reference")
        .arg(directory.path())
        .status();
    assert!(status.unwrap().success());
    files(directory.path())
}

fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// Programs rely on the form of the output, so each change of it is seen in a review.
#[test]
fn schemas_and_findings_are_those_of_the_program() {
    let mut written = written();
    let table = written.remove("findings.md").unwrap();
    let page = docs().join("findings.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, _) = text.split_once(TABLE).expect("a place for the table");
    let expected = format!("{before}{TABLE}{table}");
    let schemas = docs().join("schemas");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&page, &expected).unwrap();
        let _ = fs::remove_dir_all(&schemas);
        fs::create_dir_all(&schemas).unwrap();
        for (name, schema) in &written {
            fs::write(schemas.join(name), schema).unwrap();
        }
    }
    assert_eq!(
        fs::read_to_string(&page).unwrap(),
        expected,
        "docs/findings.md"
    );
    let stand = files(&schemas);
    assert_eq!(
        stand.keys().collect::<Vec<_>>(),
        written.keys().collect::<Vec<_>>(),
        "docs/schemas"
    );
    for (name, schema) in &written {
        assert_eq!(&stand[name], schema, "docs/schemas/{name}");
    }
}
