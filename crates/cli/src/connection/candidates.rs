//! Addresses of masters, from the command line, the environment or this host.

use std::path::Path;

use overlay_core::config::{agent, zk};
use overlay_host::files::{self, Links};

use super::{ConnectionOptions, HTTPS, zookeeper};
use crate::output::Failure;
use crate::this_host::ThisHost;

/// Default port of Mesos masters.
const MASTER_PORT: u16 = 5050;
/// Size limit of a file that says where the masters are, in bytes.
const MAX_TEXT: u64 = 64 << 10;
/// Depth of `file://` URLs that lead to another one.
const MAX_DEPTH: usize = 4;

/// Addresses of masters, and where they are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Addresses, `host:port`, the likely leader first.
    pub masters: Vec<String>,
    /// Origin of the addresses, such as `--master`, as a phrase.
    pub origin: String,
}

/// Returns the addresses of masters.
///
/// # Errors
/// Nothing says where the masters are, or what says it is wrong.
pub fn find(options: &ConnectionOptions, host: &ThisHost) -> Result<Place, Failure> {
    named(options, host)?.resolve(options)
}

/// Text that says where the masters are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPlace {
    /// Text: addresses, or where they are found.
    text: String,
    /// Origin of the text, such as `--master`, as a phrase.
    pub origin: String,
}

impl NamedPlace {
    /// Returns true if ZooKeeper knows the masters.
    pub fn is_zookeeper(&self) -> bool {
        let text = zk::file_path(&self.text)
            .map(|path| files::read_text(Path::new(path), Links::Follow, MAX_TEXT));
        let text = text.and_then(Result::ok);
        text.as_ref()
            .unwrap_or(&self.text)
            .trim()
            .starts_with("zk://")
    }

    /// Returns the addresses of masters.
    ///
    /// # Errors
    /// The text is wrong, or ZooKeeper does not name a master.
    pub fn resolve(&self, options: &ConnectionOptions) -> Result<Place, Failure> {
        let origin = self.origin.clone();
        let masters = resolve(&self.text, options, 0);
        let masters = masters.map_err(|problem| format!("{origin}: {problem}"))?;
        Ok(Place { masters, origin })
    }
}

/// Returns the text that says where the masters are.
///
/// # Errors
/// Nothing says it.
pub fn named(options: &ConnectionOptions, host: &ThisHost) -> Result<NamedPlace, Failure> {
    let (text, origin) = text(options, host)?;
    Ok(NamedPlace { text, origin })
}

/// Returns the text that says where the masters are, and its origin.
fn text(options: &ConnectionOptions, host: &ThisHost) -> Result<(String, String), Failure> {
    if let Some(text) = &options.master {
        return Ok((text.clone(), "--master".to_owned()));
    }
    if let Some(text) = std::env::var("MESOS_MASTER")
        .ok()
        .filter(|text| !text.trim().is_empty())
    {
        return Ok((text, "the variable MESOS_MASTER".to_owned()));
    }
    if let Some((file, config)) = host.agent_config(options.agent_config.as_deref())?
        && let Some(text) = config.master
    {
        return Ok((text, format!("\"master\" in {}", file.display())));
    }
    if let Some((text, origin)) = host.master() {
        return Ok((text, origin));
    }
    Err("cannot tell where the master is: this host runs no Mesos whose flags say it; give --master host:port or --master zk://host:port/path, or set MESOS_MASTER".into())
}

/// Returns the addresses that a text names. The error continues a phrase that names its origin.
fn resolve(text: &str, options: &ConnectionOptions, depth: usize) -> Result<Vec<String>, String> {
    let text = text.trim();
    if let Some(path) = zk::file_path(text).or(text.starts_with('/').then_some(text)) {
        if depth == MAX_DEPTH {
            return Err(format!("{path} leads from file to file"));
        }
        let content = files::read_text(Path::new(path), Links::Follow, MAX_TEXT)
            .map_err(|error| format!("cannot read {path}: {error}"))?;
        return resolve(&content, options, depth + 1);
    }
    if text.starts_with("zk://") {
        let url = zk::parse(text).map_err(|what| {
            format!(
                "\"{}\" {what}; {}",
                zk::redacted(text),
                agent::MASTER_REMEDY
            )
        })?;
        return zookeeper::masters(&url, options.limit());
    }
    let https = text.strip_prefix(HTTPS);
    if https.is_some() && !options.is_https() {
        // A secret must not be sent in clear text.
        return Err(format!("\"{text}\" speaks https; give --https as well"));
    }
    let list = https.or(text.strip_prefix("http://")).unwrap_or(text);
    let list = list.trim_end_matches('/');
    list.split(',')
        .map(|entry| address(entry.trim(), text))
        .collect()
}

/// Returns `host:port` of one entry of a list of masters.
fn address(entry: &str, whole: &str) -> Result<String, String> {
    let entry = entry.strip_prefix("master@").unwrap_or(entry);
    let with_port = match zk::check_host_port(entry) {
        Err(_) if !entry.is_empty() && !entry.contains(':') => format!("{entry}:{MASTER_PORT}"),
        _ => entry.to_owned(),
    };
    match zk::check_host_port(&with_port) {
        Ok(()) => Ok(with_port),
        Err(what) => Err(format!(
            "\"{}\" {what}; {}",
            zk::redacted(whole),
            agent::MASTER_REMEDY
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_addresses() {
        for (text, addresses) in [
            ("10.0.0.1:5050", vec!["10.0.0.1:5050"]),
            ("master@10.0.0.1:5050\n", vec!["10.0.0.1:5050"]),
            ("a, b:6060", vec!["a:5050", "b:6060"]),
            ("http://a:5050/", vec!["a:5050"]),
            ("[::1]:5050", vec!["[::1]:5050"]),
        ] {
            assert_eq!(
                resolve(text, &ConnectionOptions::for_tests(), 0).unwrap(),
                addresses,
                "{text}"
            );
        }
    }

    /// The scheme of an address in a file must not be lost, since the password would be sent in
    /// clear text.
    #[test]
    fn https_is_kept_or_refused() {
        let options = ConnectionOptions::for_tests();
        let refused = resolve("https://a:5050", &options, 0).unwrap_err();
        assert!(refused.contains("give --https"), "{refused}");
        let options = ConnectionOptions {
            https: true,
            ..options
        };
        assert_eq!(resolve("https://a:5050", &options, 0).unwrap(), ["a:5050"]);
    }

    #[test]
    fn a_wrong_text_is_named_without_its_password() {
        for (text, start) in [
            (
                "a:0",
                "\"a:0\" has no port from 1 to 65535; write host:port",
            ),
            ("zk://me:secret@", "\"zk://***@\" names no server; write"),
            ("file:///nowhere/at/all", "cannot read /nowhere/at/all: "),
            ("", "\"\" has no port; write"),
        ] {
            let error = resolve(text, &ConnectionOptions::for_tests(), 0).unwrap_err();
            assert!(error.starts_with(start), "{error}");
        }
    }
}
