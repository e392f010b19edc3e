//! A server with a zone, in a network namespace of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use domain::base::Serial;
use overlay_dns::server::authority::Authority;
use overlay_dns::server::{Config, Server};
use overlay_dns::zone::{Batch, Data, Knowledge, Record, Soa, Zones, parse_name};
use testbed::{install, net, skip, wait};

/// Zone of the tests.
pub const ZONE: &str = "dcos.thisdcos.directory";

/// Longest time for something to happen.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A server and its zones.
pub struct Bed {
    pub authority: Arc<Authority>,
    pub server: Server,
}

/// Runs a test in a network namespace with loopback only.
pub fn isolated(test: &str, run: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    if let Err(error) = install::require(install::NAME_SERVERS) {
        skip::skip(test, &format!("{error:#}"));
        return Ok(());
    }
    if !skip::require_hosts(test) {
        return Ok(());
    }
    net::isolated(run)
}

impl Bed {
    /// Starts a server on 127.0.0.1 with the records of [`records`].
    pub fn start(config: Config) -> Result<Bed> {
        let mut zones = Zones::default();
        for apex in [ZONE, "9.in-addr.arpa"] {
            let soa = Soa::new(
                parse_name("ns.spartan")?,
                parse_name("support.mesosphere.com")?,
                Serial(1),
            );
            zones.insert(parse_name(apex)?, soa, SystemTime::now());
        }
        zones.set_ranges(&["9.0.0.0/8".parse()?]);
        zones.set_knowledge(Knowledge::Complete);
        let authority = Arc::new(Authority::new(zones));
        let bed = Bed {
            server: Server::start(&config, Arc::clone(&authority))?,
            authority,
        };
        bed.add(records())?;
        Ok(bed)
    }

    pub fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    /// Adds records.
    pub fn add(&self, added: Vec<Record>) -> Result<()> {
        self.apply(added, Vec::new())
    }

    /// Adds and removes records in one change.
    pub fn apply(&self, added: Vec<Record>, removed: Vec<Record>) -> Result<()> {
        let batch = Batch { added, removed };
        let is_changed = self
            .authority
            .update(|zones| zones.apply(batch, SystemTime::now()));
        ensure!(is_changed, "nothing changed");
        Ok(())
    }

    /// Asks with dig, and returns what it prints.
    pub fn dig(&self, arguments: &[&str]) -> Result<String> {
        dig(self.address(), arguments)
    }
}

/// Settings of a server on 127.0.0.1, on a port that the kernel chooses.
pub fn config() -> Config {
    Config {
        listen: vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)],
        ..Config::default()
    }
}

/// Asks a server with dig, and returns what it prints, with single spaces between words.
pub fn dig(server: SocketAddr, arguments: &[&str]) -> Result<String> {
    let output = Command::new("dig")
        .arg(format!("@{}", server.ip()))
        .args(["-p", &server.port().to_string()])
        .args(["+tries=1", "+time=5"])
        .args(arguments)
        .output()
        .context("running dig")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(text.lines().map(|line| words(line) + "\n").collect())
}

/// Waits until an answer of dig is as it is to be.
pub fn until_dig(
    server: SocketAddr,
    arguments: &[&str],
    is_right: impl Fn(&str) -> bool,
) -> Result<String> {
    wait::until(&format!("the answer to {arguments:?}"), LIMIT, || {
        let answer = dig(server, arguments)?;
        ensure!(is_right(&answer), "{answer}");
        Ok(Some(answer))
    })
}

/// Returns a record with an IPv4 address.
pub fn a(owner: &str, address: &str) -> Record {
    Record {
        owner: parse_name(owner).unwrap(),
        data: Data::A(address.parse().unwrap()),
    }
}

/// Returns a record with an IPv6 address.
pub fn aaaa(owner: &str, address: &str) -> Record {
    Record {
        owner: parse_name(owner).unwrap(),
        data: Data::Aaaa(address.parse().unwrap()),
    }
}

/// Returns the name of a task.
pub fn name(task: &str) -> String {
    format!("{task}.marathon.containerip.{ZONE}")
}

/// Records of the tests: `web` with one address, `both` with both families, `many` with 200
/// addresses, a service, an address with a name, and the zone's name server.
pub fn records() -> Vec<Record> {
    let web = name("web");
    let mut records = vec![
        a(&web, "9.0.0.1"),
        a(&name("both"), "9.0.0.2"),
        aaaa(&name("both"), "fd01:b::2"),
        Record {
            owner: parse_name(&format!("_http._web.marathon._tcp.{ZONE}")).unwrap(),
            data: Data::Srv {
                port: 8080,
                target: parse_name(&web).unwrap(),
            },
        },
        Record {
            owner: parse_name("1.0.0.9.in-addr.arpa").unwrap(),
            data: Data::Ptr(parse_name(&web).unwrap()),
        },
        Record {
            owner: parse_name(ZONE).unwrap(),
            data: Data::Ns(parse_name("ns.spartan").unwrap()),
        },
    ];
    records.extend((0..200).map(|last| a(&name("many"), &format!("9.0.1.{last}"))));
    records
}
