//! Secondaries: NSD and BIND copy the zone, and follow its changes.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use overlay_dns::server::keys;
use overlay_dns::zone::{Knowledge, parse_name};
use testbed::name_server::{Key, Source, Zone, start_bind, start_nsd};
use testbed::process::Daemon;
use testbed::wait;

use crate::support::{Bed, LIMIT, ZONE, a, config, dig, isolated, name, until_dig};

/// A program that copies zones, with its address.
type Start = fn(&Path, SocketAddr, &[Zone]) -> Result<Daemon>;

const NSD: (&str, Start) = ("127.0.0.1:5401", start_nsd);
const BIND: (&str, Start) = ("127.0.0.1:5402", start_bind);

/// Returns the records of a zone, as a server sends them: all of them, one a line, sorted.
fn zone_of(server: SocketAddr, extra: &[&str]) -> Result<BTreeSet<String>> {
    let answer = dig(
        server,
        &[&["+noall", "+answer", "+onesoa", ZONE, "AXFR"], extra].concat(),
    )?;
    let records: BTreeSet<String> = answer
        .lines()
        .filter(|line| line.contains(" IN "))
        .map(str::to_owned)
        .collect();
    ensure!(!records.is_empty(), "no zone: {answer}");
    Ok(records)
}

fn until_equal(primary: SocketAddr, secondary: SocketAddr) -> Result<BTreeSet<String>> {
    wait::until("the secondary to have the zone", LIMIT, || {
        let (one, other) = (zone_of(primary, &[])?, zone_of(secondary, &[])?);
        let missing: Vec<_> = one.symmetric_difference(&other).take(5).collect();
        ensure!(missing.is_empty(), "{missing:?}");
        Ok(Some(one))
    })
}

/// Starts a secondary, and checks that it follows changes of many kinds.
fn follows(secondary: (&str, Start), key: Option<Key>) -> Result<()> {
    let address: SocketAddr = secondary.0.parse()?;
    let mut settings = config();
    settings.notify = vec![address];
    match &key {
        None => settings.transfer = ["127.0.0.1/32".parse()?].into_iter().collect(),
        Some(key) => {
            let line = format!("{}:{}:{}", key.algorithm, key.name, key.secret);
            settings.keys = keys::parse(&line)?;
        }
    }
    let bed = Bed::start(settings)?;
    let dir = tempfile::tempdir()?;
    let zone = Zone {
        name: ZONE.to_owned(),
        source: Source::Primary {
            address: bed.address(),
            key: key.clone(),
        },
    };
    let mut program = secondary.1(dir.path(), address, &[zone])?;
    until_dig(address, &[&name("web")], |answer| {
        answer.contains("9.0.0.1")
    })
    .with_context(|| program.log())?;
    program.check()?;
    let whole_zones = bed.server.metrics().sum(|counters| &counters.axfr);
    for round in 0..20 {
        let task = name(&format!("task-{round}"));
        let added = vec![
            a(&task, "9.0.2.1"),
            a(&name("shared"), &format!("9.0.2.{round}")),
        ];
        let removed = match round {
            0 => Vec::new(),
            _ => vec![a(&name(&format!("task-{}", round - 1)), "9.0.2.1")],
        };
        bed.apply(added, removed)?;
        until_dig(address, &[&task], |answer| answer.contains("9.0.2.1"))?;
    }
    let last = name("task-18");
    until_dig(address, &[&last], |answer| answer.contains("NXDOMAIN"))?;
    let answer = dig(address, &["+tcp", &name("shared")])?;
    ensure!(answer.matches(" A 9.0.2.").count() == 20, "{answer}");
    // All of it came as changes.
    let metrics = bed.server.metrics();
    ensure!(
        metrics.sum(|counters| &counters.axfr) == whole_zones,
        "a whole zone was sent"
    );
    ensure!(
        metrics.sum(|counters| &counters.ixfr) > 0,
        "no changes were sent"
    );
    if key.is_none() {
        let records = until_equal(bed.address(), address)?;
        ensure!(records.len() > 220, "{}", records.len());
    }
    program.terminate(LIMIT)?;
    Ok(())
}

fn key() -> Key {
    Key {
        name: "secondary.example".to_owned(),
        algorithm: "hmac-sha256".to_owned(),
        secret: "c2VjcmV0IG9mIHRoZSB0ZXN0cywgbG9uZyBlbm91Z2g=".to_owned(),
    }
}

#[test]
fn nsd_follows_changes() -> Result<()> {
    isolated("nsd_follows_changes", || follows(NSD, None))
}

#[test]
fn bind_follows_changes() -> Result<()> {
    isolated("bind_follows_changes", || follows(BIND, None))
}

#[test]
fn nsd_follows_changes_with_a_key() -> Result<()> {
    isolated("nsd_follows_changes_with_a_key", || {
        follows(NSD, Some(key()))
    })
}

#[test]
fn bind_follows_changes_with_a_key() -> Result<()> {
    isolated("bind_follows_changes_with_a_key", || {
        follows(BIND, Some(key()))
    })
}

#[test]
fn a_secondary_that_was_away_gets_what_it_lacks() -> Result<()> {
    isolated("a_secondary_that_was_away_gets_what_it_lacks", || {
        let address: SocketAddr = NSD.0.parse()?;
        let mut settings = config();
        settings.notify = vec![address];
        settings.transfer = ["127.0.0.1/32".parse()?].into_iter().collect();
        let bed = Bed::start(settings)?;
        let dir = tempfile::tempdir()?;
        let zone = Zone {
            name: ZONE.to_owned(),
            source: Source::Primary {
                address: bed.address(),
                key: None,
            },
        };
        let mut program = start_nsd(dir.path(), address, std::slice::from_ref(&zone))?;
        until_equal(bed.address(), address)?;
        program.terminate(LIMIT)?;
        let records = (0..5_000).map(|number| {
            let [.., high, low] = u32::to_be_bytes(number);
            a(
                &name(&format!("later-{number}")),
                &format!("9.1.{high}.{low}"),
            )
        });
        bed.add(records.collect())?;
        let mut program = start_nsd(dir.path(), address, &[zone])?;
        // It was told of the change in vain, and will be again.
        bed.add(vec![a(&name("last"), "9.0.3.1")])?;
        until_dig(address, &[&name("last")], |answer| {
            answer.contains("9.0.3.1")
        })?;
        let records = until_equal(bed.address(), address)?;
        ensure!(records.len() > 5_200, "{}", records.len());
        program.check()
    })
}

#[test]
fn only_secondaries_get_the_zone() -> Result<()> {
    isolated("only_secondaries_get_the_zone", || {
        let mut settings = config();
        settings.transfer = ["127.0.0.9/32".parse()?].into_iter().collect();
        let key = key();
        let signature = |secret: &str| format!("{}:{}:{secret}", key.algorithm, key.name);
        settings.keys = keys::parse(&signature(&key.secret))?;
        let bed = Bed::start(settings)?;
        let transfer = |extra: &[&str]| zone_of(bed.address(), extra).map(|records| records.len());
        ensure!(transfer(&["-b", "127.0.0.9"])? > 200);
        ensure!(transfer(&["-y", &signature(&key.secret)])? > 200);
        for refused in [
            &[][..],
            &["-b", "127.0.0.8"],
            &["-y", &signature("b3RoZXI=")],
        ] {
            ensure!(transfer(refused).is_err(), "{refused:?}");
        }
        // Over UDP there is the start of authority alone, and for other zones nothing.
        let answer = bed.dig(&["-b", "127.0.0.9", "+notcp", "+ignore", ZONE, "IXFR=1"])?;
        ensure!(answer.contains(" SOA "), "{answer}");
        let answer = bed.dig(&["-b", "127.0.0.9", &format!("containerip.{ZONE}"), "AXFR"])?;
        ensure!(answer.contains("Transfer failed"), "{answer}");
        // Signed questions have signed answers.
        let answer = bed.dig(&["-y", &signature(&key.secret), &name("web")])?;
        ensure!(
            answer.contains("ANY TSIG hmac-sha256.") && answer.contains("9.0.0.1"),
            "{answer}"
        );
        ensure!(!answer.contains("verify"), "{answer}");
        bed.authority
            .update(|zones| zones.set_knowledge(Knowledge::Partial));
        ensure!(transfer(&["-b", "127.0.0.9"]).is_err());
        Ok(())
    })
}

#[test]
fn transfers_are_the_zone() -> Result<()> {
    isolated("transfers_are_the_zone", || {
        let mut settings = config();
        settings.transfer = ["127.0.0.1/32".parse()?].into_iter().collect();
        let bed = Bed::start(settings)?;
        let records = (0..20_000).map(|number| {
            let [.., high, low] = u32::to_be_bytes(number);
            a(&name(&format!("t-{number}")), &format!("9.1.{high}.{low}"))
        });
        bed.add(records.collect())?;
        let sent = zone_of(bed.address(), &[])?;
        let zones = Arc::clone(&bed.authority);
        let zones = zones.zones();
        let zone = zones
            .zone(parse_name(ZONE)?.as_slice())
            .context("no zone")?;
        let mut owners: HashMap<String, usize> = HashMap::new();
        for (owner, _) in zone.records() {
            *owners.entry(format!("{owner}.")).or_default() += 1;
        }
        ensure!(
            sent.len() == zone.len() + 1,
            "{} of {}",
            sent.len(),
            zone.len()
        );
        for line in sent.iter().filter(|line| !line.contains(" SOA ")) {
            let owner = line.split(' ').next().unwrap_or_default();
            ensure!(owners.contains_key(owner), "{line}");
        }
        Ok(())
    })
}

#[test]
fn zones_change_while_they_are_sent() -> Result<()> {
    isolated("zones_change_while_they_are_sent", || {
        let mut settings = config();
        settings.transfer = ["127.0.0.1/32".parse()?].into_iter().collect();
        let bed = Bed::start(settings)?;
        thread::scope(|scope| {
            let copier = scope.spawn(|| -> Result<()> {
                for _ in 0..10 {
                    // Every copy is of one moment: the two records change together.
                    let records = zone_of(bed.address(), &[])?;
                    let last = |task: &str| {
                        let owner = format!("{}.", name(task));
                        let line = records.iter().find(|line| line.starts_with(&owner));
                        line.and_then(|line| line.rsplit('.').next())
                            .map(str::to_owned)
                    };
                    ensure!(
                        last("left") == last("right"),
                        "{:?} {:?}",
                        last("left"),
                        last("right")
                    );
                }
                Ok(())
            });
            let mut number = 0_u8;
            let pair = |number: u8| {
                let address = format!("9.0.4.{number}");
                vec![a(&name("left"), &address), a(&name("right"), &address)]
            };
            bed.add(pair(0))?;
            while !copier.is_finished() {
                let next = number.wrapping_add(1);
                bed.apply(pair(next), pair(number))?;
                number = next;
            }
            copier.join().ok().context("the copier panicked")?
        })
    })
}
