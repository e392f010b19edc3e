//! The few commands that sample outputs use, and pipes between them.

use std::process::Command;

use serde_json::Value;

use crate::blocks::Shell;
use crate::{jq, page, product};

/// An HTTP request as curl's arguments describe it.
#[derive(Debug, Default)]
pub struct Curl {
    pub method: String,
    /// `ip:port`.
    pub server: String,
    pub path: String,
    /// Behind the question mark; empty if there is none.
    pub query: String,
    /// `-H`: names and values.
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// `-w`: what is printed after the body.
    pub write_out: String,
    /// `-i`: status line and headers are printed before the body.
    pub include: bool,
}

impl Curl {
    /// Takes the arguments behind `curl` apart.
    pub fn parse(arguments: &[String]) -> Curl {
        let mut curl = Curl {
            method: "GET".to_owned(),
            ..Curl::default()
        };
        let mut arguments = arguments.iter();
        let mut next = || arguments.next().cloned();
        while let Some(argument) = next() {
            let mut value = || next().unwrap_or_else(|| panic!("{argument} without a value"));
            match argument.as_str() {
                "-s" => {}
                "-i" => curl.include = true,
                "-X" => curl.method = value(),
                "-d" => curl.body = value(),
                "-w" => curl.write_out = value(),
                "-H" => {
                    let header = value();
                    let (name, value) = header.split_once(": ").unwrap();
                    curl.headers.push((name.to_owned(), value.to_owned()));
                }
                url => {
                    let rest = url
                        .strip_prefix("http://")
                        .unwrap_or_else(|| panic!("no url: {url}"));
                    let (server, path) = rest.split_once('/').unwrap();
                    let (path, query) = path.split_once('?').unwrap_or((path, ""));
                    (curl.server, curl.path) = (server.to_owned(), format!("/{path}"));
                    curl.query = query.to_owned();
                }
            }
        }
        curl
    }

    /// Returns the value of the header that `-H` sets.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(value.clone())
    }

    /// Returns the `Content-Type` that curl sends: that of forms with `-d`, unless `-H` sets
    /// another one.
    pub fn content_type(&self) -> Option<String> {
        let form = || Some("application/x-www-form-urlencoded".to_owned());
        let default = (!self.body.is_empty()).then(form).flatten();
        self.header("Content-Type").or(default)
    }

    /// Returns the output of curl for an answer.
    pub fn print(&self, status: u16, body: &str) -> String {
        let status = status.to_string();
        let end = self
            .write_out
            .replace("\\n", "\n")
            .replace("%{http_code}", &status);
        format!("{body}{end}")
    }
}

/// The parts of a pipeline, each as words. Quotes are as in a shell; nothing is expanded.
pub fn pipeline(command: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ' | '|') => {
                commands.last_mut().unwrap().extend(word.take());
                if c == '|' {
                    commands.push(Vec::new());
                }
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut().unwrap().extend(word);
    commands
}

/// The output of a pipeline whose first command `first` runs.
pub fn run(command: &str, first: impl FnOnce(&[String]) -> String) -> String {
    let commands = pipeline(command);
    let (source, filters) = commands.split_first().unwrap();
    let mut text = first(source);
    for filter in filters {
        let arguments: Vec<&str> = filter.iter().map(String::as_str).collect();
        text = match *arguments {
            ["jq", "-r", "keys[]"] => json(&text)
                .as_object()
                .unwrap()
                .keys()
                .map(|key| format!("{key}\n"))
                .collect(),
            ["jq"] => jq::print(&json(&text), ".", false),
            ["jq", "-c", filter] => jq::print(&json(&text), filter, true),
            ["jq", filter] => jq::print(&json(&text), filter, false),
            ["head", "-n", "1"] => text.lines().next().map(str::to_owned).unwrap_or_default(),
            ["grep", "-v", "^#"] => keep(&text, |line| !line.starts_with('#')),
            ["grep", "-F", word] => keep(&text, |line| line.contains(word)),
            _ => panic!("no such filter: {filter:?}"),
        };
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn keep(text: &str, keep: impl Fn(&str) -> bool) -> String {
    text.lines()
        .filter(|line| keep(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Runs `mesos-overlay` and `cat` in `tests/docs/files`.
pub struct Program;

impl Shell for Program {
    fn run(&mut self, command: &str) -> String {
        run(command, |words| {
            let files = page::workspace().join("tests/docs/files");
            if words[0] == "cat" {
                return std::fs::read_to_string(files.join(&words[1])).unwrap();
            }
            assert_eq!(words[0], "mesos-overlay");
            let output = Command::new(product::program())
                .args(&words[1..])
                .current_dir(files)
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
        })
    }
}

#[test]
fn commands_are_split_as_a_shell_does() {
    let commands =
        pipeline(r#"curl -s -d '{"a": "b|c"}' http://1.2.3.4:5/x?y=z | jq -c '.[] | {a}'"#);
    assert_eq!(
        commands[0],
        [
            "curl",
            "-s",
            "-d",
            r#"{"a": "b|c"}"#,
            "http://1.2.3.4:5/x?y=z"
        ]
    );
    assert_eq!(commands[1], ["jq", "-c", ".[] | {a}"]);
}
