//! Names of other zones, from upstream resolvers; and resolvers that ask this server.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use overlay_dns::server::Config;
use overlay_dns::server::forward::ForwardZone;
use overlay_dns::zone::{Knowledge, parse_name};
use testbed::name_server::{Source, Zone, start_nsd};
use testbed::process::Daemon;
use testbed::wait;

use crate::support::{Bed, LIMIT, config, dig, isolated, name, until_dig};

/// Address of the upstream server in these tests.
const UPSTREAM: &str = "127.0.0.1:5501";

/// Starts NSD with `example.org`.
fn upstream(dir: &std::path::Path) -> Result<Daemon> {
    let mut text = "$ORIGIN example.org.\n$TTL 60\n@ SOA ns host 1 2 3 4 5\n@ NS ns\n\
                    ns A 192.0.2.1\nwww A 192.0.2.2\nalias CNAME www\nmail MX 10 www\n"
        .to_owned();
    for last in 0..200 {
        text.push_str(&format!("large A 198.51.100.{last}\n"));
    }
    let zone = Zone {
        name: "example.org".to_owned(),
        source: Source::Text(text),
    };
    let daemon = start_nsd(dir, UPSTREAM.parse()?, &[zone])?;
    until_dig(UPSTREAM.parse()?, &["www.example.org"], |answer| {
        answer.contains("192.0.2.2")
    })?;
    Ok(daemon)
}

fn forward(zone: &str, resolvers: &[SocketAddr]) -> Result<Vec<ForwardZone>> {
    Ok(vec![ForwardZone {
        zone: parse_name(zone)?,
        resolvers: resolvers.to_vec(),
    }])
}

/// Starts a server with resolvers for all names.
fn start(resolvers: &[SocketAddr]) -> Result<Bed> {
    Bed::start(Config {
        forward: forward(".", resolvers)?,
        ..config()
    })
}

#[test]
fn other_names_come_from_upstream() -> Result<()> {
    isolated("other_names_come_from_upstream", || {
        let dir = tempfile::tempdir()?;
        let _upstream = upstream(dir.path())?;
        let bed = start(&[UPSTREAM.parse()?])?;
        for transport in ["+notcp", "+tcp"] {
            let answer = bed.dig(&[transport, "wWw.example.org"])?;
            let texts = [
                "wWw.example.org. 60 IN A 192.0.2.2",
                "flags: qr rd ra;",
                "status: NOERROR",
            ];
            ensure!(texts.iter().all(|text| answer.contains(text)), "{answer}");
            let answer = bed.dig(&[transport, "none.example.org"])?;
            ensure!(
                answer.contains("NXDOMAIN") && answer.contains(" SOA "),
                "{answer}"
            );
            let answer = bed.dig(&[transport, "alias.example.org"])?;
            ensure!(
                answer.contains("CNAME www.example.org.") && answer.contains("192.0.2.2"),
                "{answer}"
            );
            let answer = bed.dig(&[transport, "mail.example.org", "MX"])?;
            ensure!(answer.contains("MX 10 www.example.org."), "{answer}");
        }
        let answer = bed.dig(&["+noedns", "www.example.org"])?;
        ensure!(
            answer.contains("192.0.2.2") && !answer.contains("EDNS"),
            "{answer}"
        );
        // Own names are answered with authority all the same.
        let answer = bed.dig(&[&name("web")])?;
        ensure!(
            answer.contains("flags: qr aa rd ra;") && answer.contains("9.0.0.1"),
            "{answer}"
        );
        // Who does not want recursion is refused.
        let answer = bed.dig(&["+norecurse", "www.example.org"])?;
        ensure!(answer.contains("REFUSED"), "{answer}");
        Ok(())
    })
}

#[test]
fn large_answers_from_upstream_come_over_tcp() -> Result<()> {
    isolated("large_answers_from_upstream_come_over_tcp", || {
        let dir = tempfile::tempdir()?;
        let _upstream = upstream(dir.path())?;
        let bed = start(&[UPSTREAM.parse()?])?;
        let answer = bed.dig(&["+ignore", "large.example.org"])?;
        ensure!(answer.contains("flags: qr tc rd ra"), "{answer}");
        let answer = bed.dig(&["large.example.org"])?;
        ensure!(
            answer.matches(" A 198.51.100.").count() == 200 && answer.contains("(TCP)"),
            "{answer}"
        );
        Ok(())
    })
}

#[test]
fn only_one_zone_is_forwarded_where_only_one_is_named() -> Result<()> {
    isolated("only_one_zone_is_forwarded_where_only_one_is_named", || {
        let dir = tempfile::tempdir()?;
        let _upstream = upstream(dir.path())?;
        let bed = Bed::start(Config {
            forward: forward("example.org", &[UPSTREAM.parse()?])?,
            ..config()
        })?;
        let answer = bed.dig(&["www.example.org"])?;
        ensure!(answer.contains("192.0.2.2"), "{answer}");
        for other in ["www.example.com", "notexample.org", "org"] {
            let answer = bed.dig(&[other])?;
            ensure!(answer.contains("REFUSED"), "{answer}");
        }
        Ok(())
    })
}

#[test]
fn no_open_resolver() -> Result<()> {
    isolated("no_open_resolver", || {
        let dir = tempfile::tempdir()?;
        let _upstream = upstream(dir.path())?;
        let bed = Bed::start(Config {
            forward: forward(".", &[UPSTREAM.parse()?])?,
            allowed: ["127.0.0.2/32".parse()?].into_iter().collect(),
            ..config()
        })?;
        let answer = bed.dig(&["-b", "127.0.0.2", "www.example.org"])?;
        ensure!(answer.contains("192.0.2.2"), "{answer}");
        let answer = bed.dig(&["-b", "127.0.0.3", "+notcp", "www.example.org"])?;
        ensure!(answer.contains("REFUSED"), "{answer}");
        ensure!(bed.server.metrics().sum(|counters| &counters.forwarded) == 1);
        Ok(())
    })
}

/// Passes messages to the upstream server and back, and loses some.
struct Lossy {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    address: SocketAddr,
}

impl Lossy {
    /// Starts it. Of `lost.1` messages the first `lost.0` are lost.
    fn start(lost: (u32, u32)) -> Result<Lossy> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let address = socket.local_addr()?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
        let (ended, counter) = (Arc::clone(&stop), Arc::clone(&asked));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                if counter.fetch_add(1, Ordering::Relaxed) % lost.1 < lost.0 {
                    continue;
                }
                let onward = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                let limit = Some(Duration::from_secs(1));
                onward.set_read_timeout(limit).expect("a time limit");
                let mut answer = [0; 4096];
                let passed = onward
                    .send_to(&buffer[..length], UPSTREAM)
                    .and_then(|_| onward.recv(&mut answer))
                    .and_then(|length| socket.send_to(&answer[..length], client));
                drop(passed);
            }
        });
        Ok(Lossy {
            stop,
            asked,
            address,
        })
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_lost_message_is_sent_again() -> Result<()> {
    isolated("a_lost_message_is_sent_again", || {
        let dir = tempfile::tempdir()?;
        let _upstream = upstream(dir.path())?;
        let lossy = Lossy::start((1, 2))?;
        let bed = start(&[lossy.address])?;
        for _ in 0..3 {
            let answer = bed.dig(&["www.example.org"])?;
            ensure!(answer.contains("192.0.2.2"), "{answer}");
        }
        ensure!(lossy.asked.load(Ordering::Relaxed) == 6);
        Ok(())
    })
}

#[test]
fn a_resolver_that_fails_is_left_aside() -> Result<()> {
    isolated("a_resolver_that_fails_is_left_aside", || {
        let dir = tempfile::tempdir()?;
        let _upstream = upstream(dir.path())?;
        let silent = Lossy::start((1, 1))?;
        let bed = start(&[silent.address, UPSTREAM.parse()?])?;
        for _ in 0..3 {
            let answer = bed.dig(&["www.example.org"])?;
            ensure!(answer.contains("192.0.2.2"), "{answer}");
        }
        let asked = silent.asked.load(Ordering::Relaxed);
        let begin = Instant::now();
        let answer = bed.dig(&["www.example.org"])?;
        ensure!(answer.contains("192.0.2.2"), "{answer}");
        ensure!(
            begin.elapsed() < Duration::from_secs(1),
            "{:?}",
            begin.elapsed()
        );
        ensure!(silent.asked.load(Ordering::Relaxed) == asked);
        Ok(())
    })
}

#[test]
fn silence_upstream_is_a_failure() -> Result<()> {
    isolated("silence_upstream_is_a_failure", || {
        let silent = Lossy::start((1, 1))?;
        let bed = start(&[silent.address])?;
        let answer = bed.dig(&["+time=10", "www.example.org"])?;
        ensure!(
            answer.contains("SERVFAIL") && answer.contains("EDE: 23"),
            "{answer}"
        );
        ensure!(
            bed.server
                .metrics()
                .sum(|counters| &counters.forward_failures)
                == 1
        );
        Ok(())
    })
}

#[test]
fn too_many_questions_for_upstream_are_answered_at_once() -> Result<()> {
    isolated(
        "too_many_questions_for_upstream_are_answered_at_once",
        || {
            let silent = Lossy::start((1, 1))?;
            let bed = start(&[silent.address])?;
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(bed.address())?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            let question = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
            let begin = Instant::now();
            for _ in 0..2_200 {
                socket.send(&question)?;
            }
            let mut answer = [0; 512];
            for _ in 0..20 {
                socket.recv(&mut answer)?;
                ensure!(answer[3] & 0x0f == 2, "{answer:x?}");
            }
            // The resolver would have had four seconds for each.
            ensure!(
                begin.elapsed() < Duration::from_secs(3),
                "{:?}",
                begin.elapsed()
            );
            Ok(())
        },
    )
}

#[test]
fn one_client_does_not_take_all_places() -> Result<()> {
    isolated("one_client_does_not_take_all_places", || {
        let silent = Lossy::start((1, 1))?;
        let bed = start(&[silent.address])?;
        let question = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];
        let connect = |from: &str| -> Result<UdpSocket> {
            let socket = UdpSocket::bind(from)?;
            socket.connect(bed.address())?;
            Ok(socket)
        };
        let forwarded = || bed.server.metrics().sum(|counters| &counters.forwarded);
        let greedy = connect("127.0.0.1:0")?;
        for _ in 0..600 {
            greedy.send(&question)?;
        }
        wait::until("the places of one client", LIMIT, || {
            Ok((forwarded() == 512).then_some(()))
        })?;
        greedy.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut answer = [0; 512];
        for _ in 0..88 {
            greedy.recv(&mut answer)?;
            ensure!(answer[3] & 0x0f == 2, "{answer:x?}");
        }
        connect("127.0.0.9:0")?.send(&question)?;
        wait::until("the question of another client", LIMIT, || {
            Ok((forwarded() == 513).then_some(()))
        })
    })
}

/// Starts a resolver that does not know EDNS: it says so without more than a header, and answers other
/// questions with 192.0.2.7.
fn start_without_edns(stop: &Arc<AtomicBool>) -> Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, client)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let mut answer = buffer[..length].to_vec();
            answer[2] |= 0x80;
            if answer[11] == 0 {
                answer[7] = 1;
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
            } else {
                answer.truncate(12);
                answer[3] = 1;
                answer[4..].fill(0);
            }
            // The server may have ended.
            let _ = socket.send_to(&answer, client);
        }
    });
    Ok(address)
}

#[test]
fn a_resolver_may_lack_edns() -> Result<()> {
    isolated("a_resolver_may_lack_edns", || {
        let stop = Arc::<AtomicBool>::default();
        let bed = start(&[start_without_edns(&stop)?])?;
        let answer = bed.dig(&["www.example.org"])?;
        stop.store(true, Ordering::Relaxed);
        ensure!(
            answer.contains("status: NOERROR") && answer.contains(" A 192.0.2.7"),
            "{answer}"
        );
        ensure!(answer.contains("EDNS: version: 0"), "{answer}");
        Ok(())
    })
}

#[test]
fn names_of_addresses_outside_the_ranges_come_from_upstream() -> Result<()> {
    isolated(
        "names_of_addresses_outside_the_ranges_come_from_upstream",
        || {
            let stop = Arc::<AtomicBool>::default();
            let bed = start(&[start_without_edns(&stop)?])?;
            bed.authority.update(|zones| -> Result<()> {
                zones.set_ranges(&["9.0.0.0/25".parse()?]);
                Ok(())
            })?;
            for (address, expected) in [
                ("9.0.0.1", name("web")),
                ("9.0.0.127", "NXDOMAIN".to_owned()),
                ("9.0.0.128", "192.0.2.7".to_owned()),
                ("11.0.0.1", "192.0.2.7".to_owned()),
            ] {
                let answer = bed.dig(&["-x", address])?;
                ensure!(answer.contains(&expected), "{answer}");
            }
            // While nothing is known, any address can be one of a container.
            bed.authority
                .update(|zones| zones.set_knowledge(Knowledge::Nothing));
            for address in ["9.0.0.1", "11.0.0.1"] {
                let answer = bed.dig(&["-x", address])?;
                ensure!(answer.contains("SERVFAIL"), "{answer}");
            }
            let answer = bed.dig(&["www.example.org"])?;
            ensure!(answer.contains("192.0.2.7"), "{answer}");
            stop.store(true, Ordering::Relaxed);
            Ok(())
        },
    )
}

#[test]
fn a_server_does_not_ask_itself() -> Result<()> {
    isolated("a_server_does_not_ask_itself", || {
        for (listen, resolver) in [
            ("127.0.0.1:5502", "127.0.0.1:5502"),
            ("0.0.0.0:5502", "127.0.0.4:5502"),
        ] {
            let started = Bed::start(Config {
                listen: vec![listen.parse()?],
                forward: forward(".", &[resolver.parse()?])?,
                ..Config::default()
            });
            let error = started
                .err()
                .map(|error| format!("{error:#}"))
                .unwrap_or_default();
            ensure!(error.contains("this server itself"), "{error}");
        }
        Ok(())
    })
}

#[test]
fn dnsmasq_asks_for_the_zone() -> Result<()> {
    isolated("dnsmasq_asks_for_the_zone", || {
        let bed = Bed::start(config())?;
        let dir = tempfile::tempdir()?;
        let port = bed.address().port();
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--conf-file=/dev/null",
            "--user=root",
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--port=5503",
            &format!("--server=/thisdcos.directory/127.0.0.1#{port}"),
            &format!("--rev-server=9.0.0.0/8,127.0.0.1#{port}"),
        ]);
        let _dnsmasq = Daemon::spawn("dnsmasq", command, None, &dir.path().join("log"))?;
        let address: SocketAddr = "127.0.0.1:5503".parse()?;
        until_dig(address, &[&name("web")], |answer| {
            answer.contains("9.0.0.1")
        })?;
        until_dig(address, &[&name("none")], |answer| {
            answer.contains("NXDOMAIN")
        })?;
        until_dig(address, &["-x", "9.0.0.1"], |answer| {
            answer.contains(&name("web"))
        })?;
        let answer = dig(address, &[&name("many")])?;
        ensure!(answer.matches(" A 9.0.1.").count() == 200, "{answer}");
        Ok(())
    })
}
