//! Secrets that this host has, so that they are found wherever they stand.

use std::path::{Path, PathBuf};

use overlay_core::config::zk;
use overlay_host::files::{self, Links};
use serde_json::Value;

use super::redact::Redactor;
use super::sources::Mesos;
use crate::connection::ConnectionOptions;
use crate::this_host::processes::Process;

/// Size limit of a file with secrets, in bytes.
const LIMIT: u64 = 1 << 20;
/// Flags of Mesos that name a file with logins or keys, or have them.
const FLAGS: [&str; 7] = [
    "credential",
    "credentials",
    "http_credential",
    "http_credentials",
    "jwt_secret_key",
    "executor_secret_key",
    "authentication_secret",
];
/// Flags of Mesos that have a URL of ZooKeeper, or name a file with one.
const URLS: [&str; 2] = ["zk", "master"];

/// Returns a remover that knows the secrets of this host.
pub fn redactor(options: &ConnectionOptions, mesos: &Mesos) -> Redactor {
    let mut redactor = Redactor::default();
    for process in &mesos.host.processes {
        redactor.learn(of_process(process));
    }
    for file in mesos.configs.iter().filter_map(|config| key_file(config)) {
        redactor.learn(lines(&read(&file)));
    }
    redactor.learn(
        options
            .secret_file
            .iter()
            .flat_map(|file| lines(&read(file))),
    );
    let given = options.master.clone().into_iter();
    let given = given.chain(std::env::var("MESOS_MASTER").ok());
    redactor.learn(given.flat_map(|url| of_url(&url)));
    redactor
}

fn of_process(process: &Process) -> Vec<String> {
    let mut secrets = Vec::new();
    for flag in FLAGS {
        let Some(value) = process.flag(flag) else {
            continue;
        };
        match file_of(&value) {
            Some(file) => secrets.extend(of_credentials(&read(Path::new(file)))),
            None => secrets.extend(of_credentials(&value)),
        }
    }
    for flag in URLS {
        secrets.extend(process.flag(flag).iter().flat_map(|url| of_url(url)));
    }
    secrets
}

/// Returns the key file that a module's configuration names, also if it has mistakes.
fn key_file(config: &Path) -> Option<PathBuf> {
    let config: Value = serde_json::from_str(&read(config)).ok()?;
    config["auth_key_file"].as_str().map(PathBuf::from)
}

/// Returns the path that a flag names.
fn file_of(value: &str) -> Option<&str> {
    let path = value.strip_prefix("file://").unwrap_or(value);
    path.starts_with('/').then_some(path)
}

/// Returns the secrets of a text with logins: JSON, or a principal and a secret in each line.
fn of_credentials(text: &str) -> Vec<String> {
    if let Ok(value) = serde_json::from_str(text) {
        let mut secrets = Vec::new();
        of_value(&value, &mut secrets);
        return secrets;
    }
    let words = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some(_), Some(secret)) => Some(secret.to_owned()),
            (only, _) => only.map(str::to_owned),
        }
    });
    words.collect()
}

/// Collects the strings with the key `secret` or `password`.
fn of_value(value: &Value, secrets: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value
                    .as_str()
                    .filter(|_| matches!(key.as_str(), "secret" | "password"))
                {
                    Some(secret) => secrets.push(secret.to_owned()),
                    None => of_value(value, secrets),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| of_value(value, secrets)),
        _ => {}
    }
}

/// Returns the password of a URL, or of the URL in the file that it names.
fn of_url(url: &str) -> Vec<String> {
    let content = zk::file_path(url.trim())
        .or(file_of(url))
        .map(|file| read(Path::new(file)));
    let url = content.as_deref().unwrap_or(url);
    let login = url
        .split_once("://")
        .and_then(|(_, rest)| rest.rsplit_once('@'));
    let Some((login, _)) = login else {
        return Vec::new();
    };
    let password = login
        .split_once(':')
        .map(|(_, password)| password.to_owned());
    password.into_iter().chain([login.to_owned()]).collect()
}

fn read(file: &Path) -> String {
    files::read_text(file, Links::Follow, LIMIT).unwrap_or_default()
}

fn lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}
