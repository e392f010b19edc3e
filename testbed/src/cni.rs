//! CNI from both sides: calls of plugins, as container runtimes make them, and the parts that a
//! plugin of ours shares.

use std::fmt;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::netns::Netns;

/// Directory of the plugins of Debian's `containernetworking-plugins`.
pub const PLUGINS: &str = "/usr/lib/cni";

/// Parameters of a plugin, which are passed in its environment.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// `CNI_COMMAND`: `ADD` or `DEL`.
    pub command: String,
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`: the container's network namespace; empty: it was removed.
    pub netns: String,
    /// `CNI_IFNAME`: the interface in the namespace.
    pub interface: String,
    /// `CNI_PATH`: directories of the plugins.
    pub path: String,
}

impl Invocation {
    /// Reads the parameters that this process, a plugin, was started with.
    pub fn from_environment() -> Result<Invocation, CniError> {
        let variable = |name: &str| {
            std::env::var(name)
                .map_err(|_| CniError::new(4, format!("{name} is not in the environment")))
        };
        let command = variable("CNI_COMMAND")?;
        if command == "VERSION" {
            return Ok(Invocation {
                command,
                ..Invocation::empty()
            });
        }
        Ok(Invocation {
            command,
            container: variable("CNI_CONTAINERID")?,
            netns: std::env::var("CNI_NETNS").unwrap_or_default(),
            interface: variable("CNI_IFNAME")?,
            path: variable("CNI_PATH")?,
        })
    }

    fn empty() -> Invocation {
        let none = String::new;
        Invocation {
            command: none(),
            container: none(),
            netns: none(),
            interface: none(),
            path: none(),
        }
    }

    /// Runs the plugin named by `type` in the configuration, in a host's network namespace if one
    /// is given. Returns the plugin's result; `null` if it prints none (`DEL`).
    pub fn run(&self, config: &Value, host: Option<&Netns>) -> Result<Value, CniError> {
        let name = config["type"].as_str().unwrap_or_default();
        let plugin = find(name, &self.path).ok_or_else(|| {
            CniError::new(7, format!("no plugin \"{name}\" in CNI_PATH {}", self.path))
        })?;
        let (ok, output) = self
            .execute(&plugin, config, host)
            .map_err(|error| CniError::new(5, format!("{error:#}")))?;
        let answer = serde_json::from_slice(&output).unwrap_or(Value::Null);
        match ok {
            true => Ok(answer),
            false if answer["msg"].is_string() => Err(CniError(answer)),
            false => Err(CniError::new(
                5,
                format!("{name}: {}", String::from_utf8_lossy(&output).trim()),
            )),
        }
    }

    fn execute(
        &self,
        plugin: &Path,
        config: &Value,
        host: Option<&Netns>,
    ) -> Result<(bool, Vec<u8>)> {
        let mut command = Command::new(plugin);
        command
            .env("CNI_COMMAND", &self.command)
            .env("CNI_CONTAINERID", &self.container)
            .env("CNI_NETNS", &self.netns)
            .env("CNI_IFNAME", &self.interface)
            .env("CNI_PATH", &self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(host) = host {
            host.apply_to(&mut command);
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("running {}", plugin.display()))?;
        let mut stdin = child
            .stdin
            .take()
            .context("a plugin without a standard input")?;
        // A plugin may exit before it reads its configuration; its own error says why.
        let _ = stdin.write_all(config.to_string().as_bytes());
        drop(stdin);
        let output = child.wait_with_output()?;
        Ok((output.status.success(), output.stdout))
    }
}

fn find(name: &str, path: &str) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') {
        return None;
    }
    path.split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|plugin| plugin.is_file())
}

/// An error as CNI defines it: `cniVersion`, `code`, `msg`.
#[derive(Clone, Debug, PartialEq)]
pub struct CniError(pub Value);

impl CniError {
    /// Makes an error. CNI defines codes below 100: 4 environment, 5 I/O, 6 decoding, 7 bad
    /// configuration.
    pub fn new(code: u32, message: impl Into<String>) -> CniError {
        CniError(json!({ "cniVersion": "0.2.0", "code": code, "msg": message.into() }))
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            self.0["msg"]
                .as_str()
                .unwrap_or("an error without a message"),
        )
    }
}

impl std::error::Error for CniError {}

/// Returns the addresses in a plugin's result of version 0.2.0 (`ip4`, `ip6`) or newer (`ips`),
/// IPv4 first.
pub fn ips(result: &Value) -> Result<Vec<IpAddr>> {
    let old = ["ip4", "ip6"]
        .into_iter()
        .filter_map(|key| result[key]["ip"].as_str());
    let new = result["ips"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|ip| ip["address"].as_str());
    let parse = |address: &str| {
        let ip = address.split('/').next().unwrap_or(address);
        ip.parse()
            .with_context(|| format!("address {address:?} in a plugin's result"))
    };
    let mut ips = old.chain(new).map(parse).collect::<Result<Vec<IpAddr>>>()?;
    ips.sort_by_key(IpAddr::is_ipv6);
    Ok(ips)
}

/// Returns the IPv4 address in a plugin's result.
pub fn ip4(result: &Value) -> Result<Ipv4Addr> {
    let v4 = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    };
    ips(result)?
        .iter()
        .find_map(v4)
        .with_context(|| format!("no IPv4 address in {result}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_results_old_and_new() {
        let old = json!({ "cniVersion": "0.2.0", "ip4": { "ip": "9.0.0.2/25" } });
        let new = json!({ "ips": [{ "address": "fd00::2/80" }, { "address": "9.0.0.2/25" }] });
        for result in [old, new] {
            assert_eq!(ip4(&result).unwrap(), Ipv4Addr::new(9, 0, 0, 2));
        }
        assert!(ip4(&json!({})).is_err());
        let both = json!({ "ip6": { "ip": "fd00::2/80" }, "ip4": { "ip": "9.0.0.2/25" } });
        let expected: [IpAddr; 2] = ["9.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(ips(&both).unwrap(), expected);
        assert!(ips(&json!({ "ip6": { "ip": "nonsense" } })).is_err());
    }

    #[test]
    fn a_plugin_is_a_name_not_a_path() {
        assert_eq!(find("../../bin/sh", "/usr/lib"), None);
        assert_eq!(find("", "/usr/lib"), None);
    }
}
