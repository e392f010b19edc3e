//! Removal of secrets from texts.
//!
//! Secrets that the host tells ([`Redactor::learn`]) are removed wherever they stand. Besides,
//! everything is removed that has the form of a secret, or stands where secrets stand: too much
//! rather than too little.

mod json;
mod patterns;

use std::collections::BTreeSet;

/// Mark in the place of a secret.
pub const MARK: &str = "***";
/// Shortest secret that is searched for, in bytes. Shorter ones are parts of other words.
const MIN_SECRET: usize = 4;

/// Rules of what is removed, for the manifest.
pub const RULES: [&str; 11] = [
    "users and passwords in URLs, such as zk://user:password@host",
    "the keys of auth_key_file, and the secrets in credentials files, wherever they stand",
    "HTTP headers Authorization, Cookie and those of proxies",
    "values of keys, flags and variables that are called password, secret, token, credential or the like",
    "values of docker_config, executor_environment_variables and default_container_info, unless they are paths",
    "parameters of other modules, and --modules that are no file",
    "variables of Mesos's environment other than MESOS_*, LIBPROCESS_* and GLOG_*",
    "texts in JSON that begin like JSON and cannot be parsed",
    "registries in Docker's configuration",
    "private keys, keys of WireGuard, and other texts with the form of a key",
    "all but the first 12 of 64 or more hexadecimal digits",
];

/// Text without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
    /// Text.
    pub text: String,
    /// Number of places where something was removed.
    pub count: usize,
}

/// Remover of secrets.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    /// Known secrets in all forms in which they appear, the longest first.
    known: Vec<String>,
}

impl Redactor {
    /// Adds secrets that are removed wherever they stand.
    pub fn learn(&mut self, secrets: impl IntoIterator<Item = String>) {
        let mut known: BTreeSet<String> = std::mem::take(&mut self.known).into_iter().collect();
        for secret in secrets {
            let secret = secret.trim();
            if secret.len() >= MIN_SECRET && secret != MARK {
                known.extend(forms(secret));
            }
        }
        self.known = known.into_iter().collect();
        self.known
            .sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// Returns a text without secrets.
    pub fn text(&self, text: &str) -> Redacted {
        let mut count = 0;
        let mut text = text.to_owned();
        for secret in &self.known {
            let found = text.matches(secret.as_str()).count();
            if found > 0 {
                count += found;
                text = text.replace(secret.as_str(), MARK);
            }
        }
        let (text, more) = patterns::remove(&text);
        Redacted {
            text,
            count: count + more,
        }
    }

    /// Returns a JSON document without secrets.
    ///
    /// # Errors
    /// The text is no JSON, so that its keys are not known. The error is a sentence without any
    /// of the text.
    pub fn json(&self, text: &str) -> Result<Redacted, String> {
        let text = text.trim_start_matches('\u{feff}');
        if text.trim().is_empty() {
            return Ok(self.text(text));
        }
        let mut value = serde_json::from_str(text).map_err(|error| {
            format!("it is no JSON, so that its secrets cannot be found by their keys: {error}")
        })?;
        let count = json::remove(&mut value);
        let text = self.text(&format!("{value:#}\n"));
        Ok(Redacted {
            count: text.count + count,
            ..text
        })
    }
}

/// Returns the forms in which a secret appears: as it is, in JSON, and in JSON of Mesos, which
/// escapes slashes.
fn forms(secret: &str) -> [String; 3] {
    let json = serde_json::Value::String(secret.to_owned()).to_string();
    let json = json.trim_matches('"').to_owned();
    [secret.to_owned(), json.replace('/', "\\/"), json]
}

#[cfg(test)]
mod tests;
