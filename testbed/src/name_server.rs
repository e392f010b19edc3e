//! Name servers of others: NSD and BIND, as primary or secondary of a zone.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::install::program;
use crate::process::Daemon;

/// Key that signs zone transfers (TSIG).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Name.
    pub name: String,
    /// Algorithm, such as `hmac-sha256`.
    pub algorithm: String,
    /// Secret in base64.
    pub secret: String,
}

/// Source of the records of a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The text of a zone file.
    Text(String),
    /// Another server, which allows transfers and sends NOTIFY.
    Primary {
        /// Address of the server.
        address: SocketAddr,
        /// Key that signs the transfers.
        key: Option<Key>,
    },
}

/// Zone of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Name.
    pub name: String,
    /// Source of the records.
    pub source: Source,
}

/// Starts Debian's NSD with one process that answers. It has its files in `dir`, which is made.
///
/// # Errors
/// NSD is not installed, or cannot be started.
pub fn start_nsd(dir: &Path, listen: SocketAddr, zones: &[Zone]) -> Result<Daemon> {
    fs::create_dir_all(dir)?;
    let place = dir.display();
    let mut config = format!(
        "server:\n  ip-address: {}@{}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  \
         zonesdir: \"{place}\"\n  pidfile: \"{place}/nsd.pid\"\n  xfrdir: \"{place}\"\n  \
         xfrdfile: \"{place}/xfrd.state\"\n  zonelistfile: \"{place}/zone.list\"\n  \
         database: \"\"\n  rrl-ratelimit: 0\n  verbosity: 2\n  xfrd-reload-timeout: 0\n\
         remote-control:\n  control-enable: no\n",
        listen.ip(),
        listen.port()
    );
    for zone in zones {
        let file = dir.join(format!("{}.zone", zone.name));
        let mut clause = format!(
            "zone:\n  name: \"{}\"\n  zonefile: \"{}\"\n  provide-xfr: 127.0.0.0/8 NOKEY\n",
            zone.name,
            file.display()
        );
        match &zone.source {
            Source::Text(text) => fs::write(&file, text)?,
            Source::Primary { address, key } => {
                let (ip, port) = (address.ip(), address.port());
                let name = key.as_ref().map_or("NOKEY", |key| &key.name);
                writeln!(
                    clause,
                    "  allow-notify: 127.0.0.0/8 NOKEY\n  request-xfr: {ip}@{port} {name}"
                )?;
                if let Some(key) = key {
                    let Key {
                        name,
                        algorithm,
                        secret,
                    } = key;
                    let clause = format!(
                        "key:\n  name: \"{name}\"\n  algorithm: {algorithm}\n  secret: \"{secret}\"\n"
                    );
                    config.push_str(&clause);
                }
            }
        }
        config.push_str(&clause);
    }
    let path = dir.join("nsd.conf");
    fs::write(&path, config)?;
    let mut command = Command::new(program("nsd").context("nsd is not installed")?);
    command.arg("-d").arg("-c").arg(&path);
    Daemon::spawn("nsd", command, None, &dir.join("nsd.log"))
}

/// Starts Debian's BIND. It has its files in `dir`, which is made.
///
/// # Errors
/// BIND is not installed, or cannot be started.
pub fn start_bind(dir: &Path, listen: SocketAddr, zones: &[Zone]) -> Result<Daemon> {
    fs::create_dir_all(dir)?;
    let place = dir.display();
    let mut config = format!(
        "options {{\n  directory \"{place}\";\n  pid-file \"{place}/named.pid\";\n  \
         session-keyfile \"{place}/session.key\";\n  lock-file none;\n  \
         listen-on port {} {{ {}; }};\n  listen-on-v6 {{ none; }};\n  recursion no;\n  \
         allow-transfer {{ 127.0.0.0/8; }};\n  dnssec-validation no;\n  notify no;\n  \
         allow-query {{ any; }};\n  \
         max-records-per-type 0;\n}};\ncontrols {{ }};\n",
        listen.port(),
        listen.ip()
    );
    for zone in zones {
        let file = dir.join(format!("{}.zone", zone.name));
        let name = &zone.name;
        match &zone.source {
            Source::Text(text) => {
                fs::write(&file, text)?;
                let file = file.display();
                writeln!(
                    config,
                    "zone \"{name}\" {{ type primary; file \"{file}\"; }};"
                )?;
            }
            Source::Primary { address, key } => {
                let (ip, port, file) = (address.ip(), address.port(), file.display());
                let mut with_key = String::new();
                if let Some(Key {
                    name,
                    algorithm,
                    secret,
                }) = key
                {
                    writeln!(
                        config,
                        "key \"{name}\" {{ algorithm {algorithm}; secret \"{secret}\"; }};"
                    )?;
                    with_key = format!(" key \"{name}\"");
                }
                writeln!(
                    config,
                    "zone \"{name}\" {{ type secondary; file \"{file}\"; masterfile-format text;\n  \
                     primaries {{ {ip} port {port}{with_key}; }};\n  allow-notify {{ 127.0.0.0/8; }}; }};"
                )?;
            }
        }
    }
    let path = dir.join("named.conf");
    fs::write(&path, config)?;
    let mut command = Command::new(program("named").context("named is not installed")?);
    command.arg("-g").arg("-n").arg("1").arg("-c").arg(&path);
    Daemon::spawn("named", command, None, &dir.join("named.log"))
}
