//! Limits: clients that may ask, rates, numbers of connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use domain::base::iana::Rtype;
use domain::base::{MessageBuilder, Name};
use overlay_dns::server::Config;
use overlay_dns::server::tcp::Limits;
use socket2::{Domain, Socket, Type};
use testbed::wait;

use crate::support::{Bed, LIMIT, ZONE, a, config, dig, isolated, name};

/// Message that asks for the address of `a.`, which is in no zone.
const QUESTION: [u8; 19] = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];

#[test]
fn only_allowed_addresses_are_answered() -> Result<()> {
    isolated("only_allowed_addresses_are_answered", || {
        let mut settings = config();
        settings.allowed = ["127.0.0.2/32".parse()?].into_iter().collect();
        let bed = Bed::start(settings)?;
        let web = name("web");
        let ask = |from: &str, transport: &str| bed.dig(&["-b", from, transport, &web]);
        for transport in ["+notcp", "+tcp"] {
            let answer = ask("127.0.0.2", transport)?;
            ensure!(answer.contains(" A 9.0.0.1"), "{answer}");
        }
        let answer = ask("127.0.0.3", "+notcp")?;
        ensure!(
            answer.contains("status: REFUSED") && !answer.contains(" A 9."),
            "{answer}"
        );
        ensure!(answer.contains("EDE: 18 (Prohibited)"), "{answer}");
        let answer = ask("127.0.0.3", "+tcp")?;
        ensure!(!answer.contains("9.0.0.1"), "{answer}");
        Ok(())
    })
}

#[test]
fn containers_of_the_overlays_may_ask() -> Result<()> {
    isolated("containers_of_the_overlays_may_ask", || {
        // 9.0.0.0/8 is public, and has a reverse zone here; 11.0.0.0/8 has none.
        for address in ["9.0.0.1", "11.0.0.1"] {
            testbed_ip(&["addr", "add", &format!("{address}/32"), "dev", "lo"])?;
        }
        let bed = Bed::start(config())?;
        for (from, status) in [("9.0.0.1", "NOERROR"), ("11.0.0.1", "REFUSED")] {
            let answer = bed.dig(&["-b", from, "+notcp", &name("web")])?;
            ensure!(answer.contains(status), "{from}: {answer}");
        }
        // The reverse zone is wider than the range, outside of which nobody may ask.
        bed.authority.update(|zones| -> Result<()> {
            zones.set_ranges(&["9.0.0.128/25".parse()?]);
            Ok(())
        })?;
        let answer = bed.dig(&["-b", "9.0.0.1", "+notcp", &name("web")])?;
        ensure!(answer.contains("REFUSED"), "{answer}");
        Ok(())
    })
}

fn testbed_ip(arguments: &[&str]) -> Result<()> {
    let status = std::process::Command::new("ip").args(arguments).status()?;
    ensure!(status.success(), "ip {arguments:?}");
    Ok(())
}

#[test]
fn floods_are_limited_and_cookies_are_not() -> Result<()> {
    isolated("floods_are_limited_and_cookies_are_not", || {
        testbed_ip(&["addr", "add", "10.9.9.9/32", "dev", "lo"])?;
        let bed = Bed::start(Config {
            listen: vec!["10.9.9.9:0".parse()?],
            rate_limit: 50,
            ..Config::default()
        })?;
        let socket = UdpSocket::bind("10.9.9.9:0")?;
        socket.connect(bed.address())?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let (mut whole, mut truncated) = (0, 0);
        for _ in 0..2_000 {
            socket.send(&QUESTION)?;
        }
        let mut answer = [0; 512];
        while socket.recv(&mut answer).is_ok() {
            match answer[2] & 2 {
                0 => whole += 1,
                _ => truncated += 1,
            }
        }
        // Two thousand questions take a second or two.
        ensure!((50..=300).contains(&whole), "{whole} answers");
        ensure!(truncated > 50, "{truncated} to TCP");
        let metrics = bed.server.metrics();
        let dropped = metrics.sum(|counters| &counters.dropped);
        let slipped = metrics.sum(|counters| &counters.slipped);
        // Half of the questions above the limit are sent to TCP.
        ensure!(
            dropped > 500 && dropped.abs_diff(slipped) <= 4,
            "{dropped}, {slipped}"
        );
        // The client of the flood is not the one that it forges: it gets answers over TCP.
        let answer = bed.dig(&["+tcp", &name("web")])?;
        ensure!(answer.contains("9.0.0.1"), "{answer}");
        cookies_are_not_limited(&bed, &socket)
    })
}

/// Asks often with a cookie of the server.
fn cookies_are_not_limited(bed: &Bed, socket: &UdpSocket) -> Result<()> {
    let with_cookie = |cookie: &[u8]| -> Result<Vec<u8>> {
        let mut message = QUESTION.to_vec();
        message[11] = 1;
        let length = u16::try_from(cookie.len())?;
        message.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0]);
        message.extend((length + 4).to_be_bytes());
        message.extend([0, 10]);
        message.extend(length.to_be_bytes());
        message.extend(cookie);
        Ok(message)
    };
    let client = [7; 8];
    let mut answer = [0; 512];
    let server = wait::until("a cookie", LIMIT, || {
        socket.send(&with_cookie(&client)?)?;
        let length = socket.recv(&mut answer)?;
        let bytes = &answer[..length];
        let at = bytes.windows(8).position(|window| window == client);
        Ok(at.and_then(|at| bytes.get(at..at + 24)).map(<[u8]>::to_vec))
    })?;
    for _ in 0..500 {
        socket.send(&with_cookie(&server)?)?;
        socket
            .recv(&mut answer)
            .context("no answer with a cookie")?;
        ensure!(answer[2] & 2 == 0, "sent to TCP with a cookie");
    }
    // Another client's cookie is none.
    let before = bed.server.metrics().sum(|counters| &counters.slipped);
    let mut forged = server;
    forged[0] ^= 1;
    for _ in 0..500 {
        socket.send(&with_cookie(&forged)?)?;
        let _ = socket.recv(&mut answer);
        if bed.server.metrics().sum(|counters| &counters.slipped) > before {
            return Ok(());
        }
    }
    anyhow::bail!("a forged cookie is not limited")
}

#[test]
fn connections_are_limited_and_idle_ones_end() -> Result<()> {
    isolated("connections_are_limited_and_idle_ones_end", || {
        let mut settings = config();
        settings.tcp = Limits {
            connections: 8,
            per_client: 4,
            idle: Duration::from_secs(2),
            ..Limits::default()
        };
        let bed = Bed::start(settings)?;
        let mut open: Vec<TcpStream> = Vec::new();
        for _ in 0..4 {
            open.push(TcpStream::connect(bed.address())?);
        }
        wait::until("four connections", LIMIT, || {
            Ok((bed.server.connections() == 4).then_some(()))
        })?;
        // One more of the same address is closed; another address has its own.
        let mut more = TcpStream::connect(bed.address())?;
        more.set_read_timeout(Some(LIMIT))?;
        ensure!(matches!(more.read(&mut [0]), Ok(0) | Err(_)));
        let refused = bed
            .server
            .metrics()
            .sum(|counters| &counters.refused_connections);
        ensure!(refused == 1, "{refused} connections were refused");
        let answer = dig(bed.address(), &["-b", "127.0.0.5", "+tcp", &name("web")])?;
        ensure!(answer.contains("9.0.0.1"), "{answer}");
        let begin = Instant::now();
        for stream in &mut open {
            stream.set_read_timeout(Some(LIMIT))?;
            ensure!(stream.read(&mut [0])? == 0);
        }
        ensure!(begin.elapsed() < Duration::from_secs(10));
        wait::until("no connection", LIMIT, || {
            Ok((bed.server.connections() == 0).then_some(()))
        })
    })
}

#[test]
fn a_transfer_ends_in_time() -> Result<()> {
    isolated("a_transfer_ends_in_time", || {
        let mut settings = config();
        settings.transfer = ["127.0.0.1/32".parse()?].into_iter().collect();
        settings.tcp.idle = Duration::from_secs(60);
        settings.tcp.transfer = Duration::from_secs(1);
        let bed = Bed::start(settings)?;
        let records = (0..100_000).map(|number| {
            let [.., high, middle, low] = u32::to_be_bytes(number);
            a(
                &name(&format!("t-{number}")),
                &format!("9.{high}.{middle}.{low}"),
            )
        });
        bed.add(records.collect())?;
        let begin = Instant::now();
        // It takes the zone byte by byte, with no room for more in the kernel.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(4_096)?;
        socket.connect(&bed.address().into())?;
        let mut client = TcpStream::from(socket);
        let mut question = MessageBuilder::new_vec().question();
        question.push((Name::vec_from_str(ZONE)?, Rtype::AXFR))?;
        let question = question.finish();
        client.write_all(&u16::try_from(question.len())?.to_be_bytes())?;
        client.write_all(&question)?;
        client.set_read_timeout(Some(LIMIT))?;
        client.read_exact(&mut [0; 100])?;
        wait::until("the end of the connection", LIMIT, || {
            client.read_exact(&mut [0])?;
            Ok((bed.server.connections() == 0).then_some(()))
        })?;
        // Otherwise it would end when a message takes longer than ten seconds.
        ensure!(
            begin.elapsed() < Duration::from_secs(8),
            "{:?}",
            begin.elapsed()
        );
        Ok(())
    })
}

#[test]
fn a_slow_client_delays_nobody() -> Result<()> {
    isolated("a_slow_client_delays_nobody", || {
        let bed = Bed::start(config())?;
        let mut slow = TcpStream::connect(bed.address())?;
        // Half of a message.
        slow.write_all(&[0, 100, 1, 2, 3])?;
        // And one that reads no answers.
        let mut deaf = TcpStream::connect(bed.address())?;
        let length = u16::try_from(QUESTION.len())?.to_be_bytes();
        let many = [&length[..], &QUESTION].concat().repeat(1_000);
        deaf.set_nonblocking(true)?;
        while deaf.write(&many).is_ok() {}
        let begin = Instant::now();
        for transport in ["+notcp", "+tcp"] {
            let answer = bed.dig(&[transport, &name("web")])?;
            ensure!(answer.contains("9.0.0.1"), "{answer}");
        }
        ensure!(
            begin.elapsed() < Duration::from_secs(4),
            "{:?}",
            begin.elapsed()
        );
        Ok(())
    })
}

#[test]
fn an_address_in_use_is_named() -> Result<()> {
    isolated("an_address_in_use_is_named", || {
        let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = taken.local_addr()?;
        let mut settings = config();
        settings.listen = vec![address];
        let error = Bed::start(settings).err().context("it started")?;
        let sentence = format!("{error:#}");
        ensure!(
            sentence.contains(&format!("cannot listen on {address}")),
            "{sentence}"
        );
        Ok(())
    })
}
