//! The label function against an independent model in Python, over random texts.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use overlay_dns::label::label;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Number of texts.
const TEXTS: usize = 20_000;

/// Returns texts of several kinds: arbitrary bytes, names as people choose them, other scripts, and
/// long ones with dashes around the last byte of a label.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..150),
        "[a-zA-Z0-9._/ -]{0,120}".prop_map(String::into_bytes),
        "\\PC{0,80}".prop_map(String::into_bytes),
        "[-_.%]{0,3}[a-z]{55,64}[-_.]{0,9}[a-z0-9-]{0,12}".prop_map(String::into_bytes),
        "[a-z-]{60,66}[-é]{0,4}[A-Z-]{0,9}".prop_map(String::into_bytes),
    ]
}

/// Returns the labels by the model; `None`: there is no Python.
fn by_the_model(texts: &[Vec<u8>]) -> Option<Vec<String>> {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/label/model.py");
    let mut python = Command::new("python3")
        .arg(model)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let hex = |text: &Vec<u8>| {
        text.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let lines: String = texts.iter().map(|text| hex(text) + "\n").collect();
    let mut input = python.stdin.take().unwrap();
    let writer = thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let output = String::from_utf8(output.stdout).unwrap();
    Some(output.lines().map(str::to_owned).collect())
}

#[test]
fn labels_are_those_of_the_model() {
    let mut runner = TestRunner::default();
    let text = || texts().new_tree(&mut runner).unwrap().current();
    let texts: Vec<Vec<u8>> = std::iter::repeat_with(text).take(TEXTS).collect();
    let Some(expected) = by_the_model(&texts) else {
        testbed::skip::skip("labels_are_those_of_the_model", "there is no python3");
        return;
    };
    assert_eq!(expected.len(), texts.len());
    for (text, expected) in texts.iter().zip(expected) {
        assert_eq!(label(text), expected, "{}", String::from_utf8_lossy(text));
    }
    let full = texts.iter().filter(|text| label(text).len() == 63).count();
    assert!(full > TEXTS / 10, "{full} labels are full");
}
