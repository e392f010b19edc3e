//! Files of recorded bytes.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use overlay_core::{Effect, Io};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Compares the text `made` with the file `name` below `tests/fixtures`, or writes it there.
pub fn check(name: &str, made: &str) {
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        return std::fs::write(path(name), made).unwrap();
    }
    let recorded =
        std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for (number, (recorded, made)) in recorded.lines().zip(made.lines()).enumerate() {
        assert_eq!(
            made,
            recorded,
            "{name}, line {}: left is what is made now",
            number + 1
        );
    }
    assert_eq!(made, recorded, "{name}: one goes on where the other ends");
}

/// [`check`] of bytes, which are written as hexadecimal digits.
pub fn check_bytes(name: &str, made: &[u8]) {
    check(name, &hex(made, ""));
}

/// The bytes of the file `name` below `tests/fixtures`.
pub fn bytes(name: &str) -> Bytes {
    let text =
        std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let digits: String = text.split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// Hexadecimal digits in lines of 48 bytes, each behind `indent`.
fn hex(bytes: &[u8], indent: &str) -> String {
    let mut text = String::new();
    for line in bytes.chunks(48) {
        text += indent;
        line.iter()
            .for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

/// An input as lines: a title, and bytes that come with it.
pub fn input(title: &str, body: &[u8]) -> String {
    format!("> {title}\n{}", hex(body, "    "))
}

/// An effect as lines. Log lines are left out, since their wording is no format, and so is
/// the desired state of a host, which does not leave the process.
pub fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Io(Io::Send {
            to,
            name,
            body,
            session,
        }) => {
            let session = match session.is_empty() {
                true => String::new(),
                false => format!("  session\n{}", hex(session, "    ")),
            };
            format!("send {to} {name}\n{}{session}", hex(body, "    "))
        }
        Effect::Io(Io::Link { to, reconnect }) => {
            format!("link {to}{}\n", if *reconnect { " anew" } else { "" })
        }
        Effect::Io(Io::Respond { id, response }) => {
            let headers: String = response
                .headers
                .iter()
                .map(|(key, value)| format!(" {key}: {value}"))
                .collect();
            let head = format!(
                "respond {} {} {}{headers}",
                id.0, response.status, response.content_type
            );
            let body = match std::str::from_utf8(&response.body) {
                Ok(text) => format!(
                    "    {}\n",
                    text.replace('\n', "\\n").replace("},{", "},\n    {")
                ),
                Err(_) => hex(&response.body, "    "),
            };
            format!("{head}\n{body}")
        }
        Effect::Fetch { .. } => "fetch\n".to_owned(),
        Effect::Io(Io::Store { number, state }) => {
            format!("store {number}\n{}", hex(state, "    "))
        }
        Effect::ApplyHost { generation, .. } => format!("apply host {generation}\n"),
        Effect::ApplyEngine { generation, .. } => format!("apply engine {generation}\n"),
        Effect::Log(..) => String::new(),
    }
}
