//! URLs of ZooKeeper, and the ZooKeeper that Mesos itself uses, from its environment. The caller
//! reads the environment and the files of `file://` URLs.

use std::time::Duration;

use super::{ConfigError, ZkConfig};

/// Default of `session_timeout`, as in the C++ module.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// Name of the znode below the URL's path under which the replicas of the log find each other.
const REPLICAS: &str = "overlay_log_replicas";

/// Remedy of every mistake in a URL.
pub const REMEDY: &str = "write zk://[user:password@]host:port[,host:port]…/path, \
                          or file:///path of a file that holds such a URL";

/// The parts of a `zk://` URL.
#[derive(Clone, PartialEq, Eq)]
pub struct ZkUrl {
    /// The servers, `host:port[,host:port]…`, without blanks and empty entries.
    pub servers: String,
    /// The path, absolute and without a slash at its end. The root is empty.
    pub path: String,
    /// User and password for ZooKeeper's scheme `digest`, `user:password`, or a user alone.
    pub credentials: Option<String>,
}

/// Shows no password.
impl std::fmt::Debug for ZkUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let credentials = if self.credentials.is_some() {
            "***@"
        } else {
            ""
        };
        write!(f, "zk://{credentials}{}{}", self.servers, self.path)
    }
}

impl ZkUrl {
    /// Returns the path of the znode under which the replicas of the log find each other.
    pub fn replicas_znode(&self) -> String {
        format!("{}/{REPLICAS}", self.path)
    }

    /// Returns the URL with the password, as Mesos reads it.
    pub fn to_text(&self) -> String {
        let at = match &self.credentials {
            Some(credentials) => format!("{credentials}@"),
            None => String::new(),
        };
        format!("zk://{at}{}{}", self.servers, self.path)
    }
}

/// The parts of a `zk://` URL as they are written: credentials, servers and path.
fn split(url: &str) -> Option<(Option<&str>, &str, &str)> {
    let rest = url.trim().strip_prefix("zk://")?;
    // As in Mesos, the path begins at the first slash, and the credentials end at the last @
    // before it.
    let (authority, path) = rest
        .find('/')
        .map_or((rest, ""), |slash| rest.split_at(slash));
    Some(match authority.rsplit_once('@') {
        Some((credentials, servers)) => (Some(credentials), servers, path),
        None => (None, authority, path),
    })
}

/// Returns what is odd about a valid `zk://` URL, but harmless: Mesos and ZooKeeper's client take
/// it. Each continues a sentence that begins with the URL.
pub fn remarks(url: &str) -> Vec<&'static str> {
    let Some((credentials, servers, _)) = split(url) else {
        return Vec::new();
    };
    let entries = || servers.split(',');
    let checks = [
        (
            entries().any(|entry| entry.trim().is_empty()),
            "has an empty entry in its list of servers, which is left out",
        ),
        (
            entries().any(|entry| entry.trim() != entry),
            "has a space in its list of servers, which is left out",
        ),
        (
            credentials.is_some_and(|text| !text.contains(':')),
            "has a user without a password",
        ),
    ];
    let odd = checks.into_iter().filter(|(is_odd, _)| *is_odd);
    odd.map(|(_, remark)| remark).collect()
}

/// Parses a `zk://` URL. The error continues a sentence that begins with the URL.
pub fn parse(url: &str) -> Result<ZkUrl, String> {
    let (credentials, servers, path) = split(url).ok_or("does not begin with zk://")?;
    let is_invalid = |c: char| c.is_control() || c.is_whitespace();
    let servers: Vec<&str> = servers
        .split(',')
        .map(str::trim)
        .filter(|server| !server.is_empty())
        .collect();
    if servers.is_empty() {
        return Err("names no server".to_owned());
    }
    if servers.iter().any(|server| server.contains(is_invalid)) || path.contains(is_invalid) {
        return Err("contains a space or a control character".to_owned());
    }
    servers.iter().copied().try_for_each(check_server)?;
    let path = path.trim_end_matches('/');
    if path.contains("//") {
        return Err("has an empty component in its path".to_owned());
    }
    Ok(ZkUrl {
        servers: servers.join(","),
        path: path.to_owned(),
        credentials: credentials.map(str::to_owned),
    })
}

fn check_server(server: &str) -> Result<(), String> {
    check_host_port(server).map_err(|what| format!("has the server \"{server}\", which {what}"))
}

/// Checks `host:port`, with a port from 1. The error continues a sentence that begins with the
/// text.
pub fn check_host_port(text: &str) -> Result<(), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("has no port".to_owned());
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/@,".contains(c)) {
        return Err("has no valid host".to_owned());
    }
    match port.parse::<u16>() {
        Ok(1..) if port.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        _ => Err("has no port from 1 to 65535".to_owned()),
    }
}

/// Returns the absolute path of a `file://` URL, or `None` for any other text.
pub fn file_path(url: &str) -> Option<&str> {
    url.trim()
        .strip_prefix("file://")
        .filter(|path| path.starts_with('/'))
}

/// Returns a URL without user and password, for logs.
pub fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (authority, path) = rest
        .find('/')
        .map_or((rest, ""), |slash| rest.split_at(slash));
    match authority.rsplit_once('@') {
        Some((_, servers)) => format!("{scheme}://***@{servers}{path}"),
        None => url.to_owned(),
    }
}

/// Checks a `zk://` URL, or the `file://` URL of a file that contains one. The error continues a
/// sentence that begins with the URL.
pub fn check(url: &str) -> Result<(), String> {
    if url.trim().starts_with("file://") {
        return file_path(url)
            .map(|_| ())
            .ok_or_else(|| "does not name an absolute path".to_owned());
    }
    parse(url).map(|_| ())
}

/// Returns the ZooKeeper of Mesos from the values of `MESOS_ZK` and `MESOS_QUORUM`, or `None` if
/// `MESOS_ZK` is not set.
///
/// # Errors
/// The mistakes in the two values.
pub fn from_environment(
    zk: Option<&str>,
    quorum: Option<&str>,
) -> Result<Option<ZkConfig>, ConfigError> {
    let Some(url) = zk.filter(|url| !url.trim().is_empty()) else {
        return Ok(None);
    };
    let checked = check(url).map_err(|what| {
        let problem = format!("\"{}\" {what}", redacted(url));
        ConfigError::new("environment", "MESOS_ZK", problem, REMEDY)
    });
    match (checked, quorum_from_environment(quorum)) {
        (Ok(()), Ok(quorum)) => Ok(Some(ZkConfig {
            url: url.trim().to_owned(),
            quorum,
            session_timeout: SESSION_TIMEOUT,
        })),
        (Ok(()), Err(error)) | (Err(error), Ok(_)) => Err(error),
        (Err(mut error), Err(other)) => {
            error.merge(other);
            Err(error)
        }
    }
}

fn quorum_from_environment(quorum: Option<&str>) -> Result<u32, ConfigError> {
    let remedy = "set it to the majority of the number of masters (2 of 3), \
                  or give zk.url and zk.quorum in the file that master_config names";
    let problem = match quorum.map(|text| (text, text.trim().parse())) {
        Some((_, Ok(quorum @ 1..))) => return Ok(quorum),
        Some((text, _)) => format!("\"{text}\" is not a whole number from 1"),
        None => "missing, though MESOS_ZK is set".to_owned(),
    };
    Err(ConfigError::new(
        "environment",
        "MESOS_QUORUM",
        problem,
        remedy,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed() {
        let url = parse("zk://a:2181,b:2182/mesos/one/").unwrap();
        assert_eq!(
            (url.servers.as_str(), url.path.as_str()),
            ("a:2181,b:2182", "/mesos/one")
        );
        assert_eq!(url.replicas_znode(), "/mesos/one/overlay_log_replicas");
        assert_eq!(url.credentials, None);

        let url = parse(" zk://me:p@ss:word@a:2181\n").unwrap();
        assert_eq!((url.servers.as_str(), url.path.as_str()), ("a:2181", ""));
        assert_eq!(url.credentials.as_deref(), Some("me:p@ss:word"));
        assert_eq!(url.replicas_znode(), "/overlay_log_replicas");
        assert_eq!(format!("{url:?}"), "zk://***@a:2181");
    }

    #[test]
    fn what_mesos_takes_is_taken() {
        let empty = "has an empty entry in its list of servers, which is left out";
        let space = "has a space in its list of servers, which is left out";
        let user = "has a user without a password";
        for (odd, plain, expected) in [
            ("zk://h:2181,/mesos", "zk://h:2181/mesos", vec![empty]),
            ("zk://,h:1,,i:2/m", "zk://h:1,i:2/m", vec![empty]),
            ("zk://a:2181, b:2181/m", "zk://a:2181,b:2181/m", vec![space]),
            ("zk://a:1 ,\tb:2 /m", "zk://a:1,b:2/m", vec![space]),
            ("zk://user@h:1/m", "zk://user@h:1/m", vec![user]),
            ("zk://u@a:1, /m/", "zk://u@a:1/m", vec![empty, space, user]),
            ("zk://u:p@a:1/m", "zk://u:p@a:1/m", vec![]),
        ] {
            let url = parse(odd).unwrap();
            assert_eq!(url.to_text(), plain);
            assert_eq!(remarks(odd), expected, "{odd}");
            assert_eq!(check(odd), Ok(()), "{odd}");
        }
    }

    #[test]
    fn invalid_urls_are_rejected() {
        for (url, what) in [
            ("http://a:1/", "does not begin with zk://"),
            ("zk:///mesos", "names no server"),
            ("zk://, ,/mesos", "names no server"),
            ("zk://a/mesos", "has the server \"a\", which has no port"),
            (
                "zk://a:0/mesos",
                "has the server \"a:0\", which has no port from 1 to 65535",
            ),
            (
                "zk://a:+1/mesos",
                "has the server \"a:+1\", which has no port from 1 to 65535",
            ),
            (
                "zk://:2181/mesos",
                "has the server \":2181\", which has no valid host",
            ),
            ("zk://a:1//mesos", "has an empty component in its path"),
            (
                "zk://a:1/mesos /",
                "contains a space or a control character",
            ),
            (
                "zk://a b:1/mesos",
                "contains a space or a control character",
            ),
            (
                "zk://a\u{13}:1/mesos",
                "contains a space or a control character",
            ),
        ] {
            assert_eq!(parse(url).unwrap_err(), what, "{url}");
        }
    }

    #[test]
    fn the_environment_needs_a_quorum_too() {
        assert_eq!(from_environment(None, Some("2")), Ok(None));
        let config = from_environment(Some("zk://a:1/m"), Some("2"))
            .unwrap()
            .unwrap();
        assert_eq!((config.url.as_str(), config.quorum), ("zk://a:1/m", 2));
        assert_eq!(
            from_environment(Some("zk://a:1/m"), None)
                .unwrap_err()
                .to_string(),
            "environment: MESOS_QUORUM: missing, though MESOS_ZK is set; set it to the majority of the \
             number of masters (2 of 3), or give zk.url and zk.quorum in the file that master_config names"
        );
        assert!(from_environment(Some("zk://a:1/m"), Some("0")).is_err());
        let both = from_environment(Some("a:1"), Some("none")).unwrap_err();
        let fields: Vec<&str> = both.mistakes().iter().map(|m| m.field.as_str()).collect();
        assert_eq!(fields, ["MESOS_ZK", "MESOS_QUORUM"]);
        let wrong = from_environment(Some("zk://u:secret@a/m"), Some("1"))
            .unwrap_err()
            .to_string();
        assert!(
            wrong.starts_with("environment: MESOS_ZK: \"zk://***@a/m\" has the server"),
            "{wrong}"
        );
    }

    #[test]
    fn blanks_around_the_environments_values_do_not_count() {
        assert_eq!(from_environment(Some(" "), None), Ok(None));
        let config = from_environment(Some(" zk://a:1/m\n"), Some(" 3\n"))
            .unwrap()
            .unwrap();
        assert_eq!((config.url.as_str(), config.quorum), ("zk://a:1/m", 3));
        assert_eq!(
            config.session_timeout,
            Duration::from_secs(10),
            "the default"
        );
        assert_eq!(check(" file:///etc/mesos/zk\n"), Ok(()));
        assert_eq!(check(" zk://a:1/m\n"), Ok(()));
    }

    #[test]
    fn no_part_of_a_password_is_shown() {
        for (url, shown) in [
            ("zk://me:p@ss:w@rd@a:1,b:2/m/n", "zk://***@a:1,b:2/m/n"),
            ("zk://me:secret@a:1", "zk://***@a:1"),
            ("http://me:secret@a/x@y", "http://***@a/x@y"),
            ("zk://a:1/m@n", "zk://a:1/m@n"),
            ("a:1", "a:1"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }

    #[test]
    fn one_host_and_one_port_are_required() {
        for fit in ["a:1", "10.0.0.1:65535", "[fd01::1]:5050"] {
            assert_eq!(check_host_port(fit), Ok(()), "{fit}");
        }
        for (text, what) in [
            ("a", "has no port"),
            (":1", "has no valid host"),
            ("a:1,b:2", "has no valid host"),
            ("me@a:1", "has no valid host"),
            ("a/b:1", "has no valid host"),
            ("a b:1", "has no valid host"),
            ("a:", "has no port from 1 to 65535"),
            ("a:0", "has no port from 1 to 65535"),
            ("a:65536", "has no port from 1 to 65535"),
        ] {
            assert_eq!(check_host_port(text), Err(what.to_owned()), "{text}");
        }
    }

    #[test]
    fn file_urls_are_absolute() {
        assert_eq!(file_path("file:///etc/mesos/zk"), Some("/etc/mesos/zk"));
        assert_eq!(file_path("file://zk"), None);
        assert_eq!(file_path("/etc/mesos/zk"), None);
    }
}
