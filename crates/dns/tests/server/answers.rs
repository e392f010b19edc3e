//! Answers from the zones.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use overlay_dns::server::Config;
use overlay_dns::zone::Knowledge;

use crate::support::{Bed, ZONE, config, isolated, name};

/// Checks that an answer of dig contains texts.
fn contains(answer: &str, texts: &[&str]) -> Result<()> {
    for text in texts {
        ensure!(answer.contains(text), "there is no {text:?} in\n{answer}");
    }
    Ok(())
}

#[test]
fn records_are_found_with_authority() -> Result<()> {
    isolated("records_are_found_with_authority", || {
        let bed = Bed::start(config())?;
        let web = name("web");
        let answer = bed.dig(&[&web])?;
        contains(
            &answer,
            &["status: NOERROR", "flags: qr aa rd;", "5 IN A 9.0.0.1"],
        )?;
        ensure!(!answer.contains("recursion available"), "{answer}");
        let answer = bed.dig(&["+tcp", &name("both"), "AAAA"])?;
        contains(&answer, &["IN AAAA fd01:b::2", "(TCP)"])?;
        let answer = bed.dig(&["-x", "9.0.0.1"])?;
        contains(&answer, &[&format!("IN PTR {web}.")])?;
        let answer = bed.dig(&[ZONE, "NS"])?;
        contains(&answer, &["3600 IN NS ns.spartan."])?;
        let answer = bed.dig(&[ZONE, "SOA"])?;
        contains(&answer, &["5 IN SOA ns.spartan. support.mesosphere.com. "])
    })
}

#[test]
fn a_service_comes_with_its_addresses() -> Result<()> {
    isolated("a_service_comes_with_its_addresses", || {
        let bed = Bed::start(config())?;
        let answer = bed.dig(&[&format!("_http._web.marathon._tcp.{ZONE}"), "SRV"])?;
        let target = name("web");
        contains(
            &answer,
            &[
                &format!("IN SRV 0 0 8080 {target}."),
                "ADDITIONAL: 2",
                &format!("{target}. 5 IN A 9.0.0.1"),
            ],
        )
    })
}

#[test]
fn the_letters_of_the_question_are_kept() -> Result<()> {
    isolated("the_letters_of_the_question_are_kept", || {
        let bed = Bed::start(config())?;
        let mixed = name("wEb").replace("dcos", "dCoS");
        let answer = bed.dig(&[&mixed])?;
        contains(&answer, &["9.0.0.1", &format!("{mixed}.")])?;
        ensure!(!answer.contains(&format!("\n{}.", name("web"))), "{answer}");
        Ok(())
    })
}

#[test]
fn a_name_without_records_of_the_type_exists() -> Result<()> {
    isolated("a_name_without_records_of_the_type_exists", || {
        let bed = Bed::start(config())?;
        // The other family, a name between others, and the zone itself.
        let between = format!("containerip.{ZONE}");
        for (name, rtype) in [(name("web").as_str(), "AAAA"), (&between, "A"), (ZONE, "A")] {
            let answer = bed.dig(&[name, rtype])?;
            let soa = format!("{ZONE}. 1 IN SOA ns.spartan.");
            contains(
                &answer,
                &[
                    "status: NOERROR",
                    "flags: qr aa",
                    "ANSWER: 0",
                    "AUTHORITY: 1",
                    &soa,
                ],
            )?;
        }
        Ok(())
    })
}

#[test]
fn a_name_that_does_not_exist_may_be_forgotten_soon() -> Result<()> {
    isolated("a_name_that_does_not_exist_may_be_forgotten_soon", || {
        let bed = Bed::start(config())?;
        for wanted in [name("none"), format!("x.{}", name("web"))] {
            let answer = bed.dig(&[&wanted])?;
            let soa = format!("{ZONE}. 1 IN SOA ns.spartan.");
            contains(
                &answer,
                &["status: NXDOMAIN", "flags: qr aa", "AUTHORITY: 1", &soa],
            )?;
        }
        Ok(())
    })
}

#[test]
fn other_names_classes_and_requests_are_refused() -> Result<()> {
    isolated("other_names_classes_and_requests_are_refused", || {
        let bed = Bed::start(config())?;
        for (arguments, status) in [
            (&["example.org"][..], "REFUSED"),
            (&["-c", "CH", "-t", "TXT", "version.bind"], "REFUSED"),
            (&["+opcode=UPDATE", ZONE], "NOTIMP"),
            (&["+opcode=NOTIFY", ZONE], "NOTIMP"),
            (&["+edns=1", "+noednsnegotiation", ZONE], "BADVERS"),
            (&[ZONE, "MAILA"], "NOTIMP"),
            (&[ZONE, "AXFR"], "Transfer failed"),
        ] {
            let answer = bed.dig(arguments)?;
            ensure!(answer.contains(status), "{arguments:?}: {answer}");
        }
        Ok(())
    })
}

#[test]
fn nothing_is_said_before_the_tasks_are_known() -> Result<()> {
    isolated("nothing_is_said_before_the_tasks_are_known", || {
        let bed = Bed::start(config())?;
        let status = |task: &str, knowledge| -> Result<String> {
            bed.authority.update(|zones| zones.set_knowledge(knowledge));
            let answer = bed.dig(&[&name(task)])?;
            let status = answer
                .split("status: ")
                .nth(1)
                .and_then(|rest| rest.split(',').next());
            Ok(status.context("no answer")?.to_owned())
        };
        for (knowledge, of_web, of_none) in [
            (Knowledge::Nothing, "SERVFAIL", "SERVFAIL"),
            (Knowledge::Partial, "NOERROR", "SERVFAIL"),
            (Knowledge::Complete, "NOERROR", "NXDOMAIN"),
            (
                Knowledge::Since(std::time::SystemTime::now()),
                "NOERROR",
                "NXDOMAIN",
            ),
        ] {
            ensure!(status("web", knowledge)? == of_web, "{knowledge:?}");
            ensure!(status("none", knowledge)? == of_none, "{knowledge:?}");
        }
        Ok(())
    })
}

#[test]
fn what_does_not_fit_comes_over_tcp() -> Result<()> {
    isolated("what_does_not_fit_comes_over_tcp", || {
        let bed = Bed::start(config())?;
        let many = name("many");
        // 512 bytes without EDNS, and the size of the client or the server with it.
        for arguments in [&["+noedns"][..], &["+bufsize=512"], &["+bufsize=4096"]] {
            let answer = bed.dig(&[arguments, &["+ignore", &many]].concat())?;
            contains(&answer, &["flags: qr aa tc", "9.0.1."])?;
            let size = answer
                .split("rcvd: ")
                .nth(1)
                .and_then(|size| size.trim().parse::<usize>().ok());
            let limit = if arguments == ["+bufsize=4096"] {
                1_232
            } else {
                512
            };
            ensure!(
                size.is_some_and(|size| size > limit - 40 && size <= limit),
                "{answer}"
            );
        }
        let answer = bed.dig(&[&many])?;
        ensure!(answer.matches(" A 9.0.1.").count() == 200, "{answer}");
        contains(&answer, &["(TCP)", "flags: qr aa rd"])
    })
}

#[test]
fn each_answer_begins_with_another_record() -> Result<()> {
    isolated("each_answer_begins_with_another_record", || {
        let bed = Bed::start(config())?;
        let mut first = BTreeSet::new();
        for _ in 0..20 {
            let answer = bed.dig(&["+tcp", "+short", &name("many")])?;
            ensure!(
                answer.lines().collect::<BTreeSet<_>>().len() == 200,
                "{answer}"
            );
            first.insert(answer.lines().next().context("no answer")?.to_owned());
        }
        ensure!(first.len() > 10, "{first:?}");
        Ok(())
    })
}

#[test]
fn one_type_answers_for_all() -> Result<()> {
    isolated("one_type_answers_for_all", || {
        let bed = Bed::start(config())?;
        let answer = bed.dig(&["+notcp", &name("both"), "ANY"])?;
        contains(&answer, &["status: NOERROR", "ANSWER: 1,"])
    })
}

#[test]
fn cookies_and_keepalive_are_answered() -> Result<()> {
    isolated("cookies_and_keepalive_are_answered", || {
        let bed = Bed::start(config())?;
        let answer = bed.dig(&["+cookie=0011223344556677", &name("web")])?;
        contains(&answer, &["; COOKIE: 0011223344556677", "(good)"])?;
        let answer = bed.dig(&["+tcp", "+keepalive", &name("web")])?;
        contains(&answer, &["TCP KEEPALIVE: 10.0 secs"])?;
        let answer = bed.dig(&["+nocookie", &name("web")])?;
        ensure!(!answer.contains("COOKIE"), "{answer}");
        let answer = bed.dig(&["+noedns", &name("web")])?;
        ensure!(!answer.contains("EDNS"), "{answer}");
        Ok(())
    })
}

/// Header of a question with an id, flags, and numbers of records.
fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(counts.into_iter().flat_map(u16::to_be_bytes));
    bytes
}

#[test]
fn malformed_messages_are_answered_or_ignored() -> Result<()> {
    isolated("malformed_messages_are_answered_or_ignored", || {
        let bed = Bed::start(config())?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(bed.address())?;
        let question = [1, b'a', 0, 0, 1, 0, 1];
        let opt = [0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 0];
        let bad_cookie = [0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 7, 0, 10, 0, 3, 1, 2, 3];
        let with = |counts, parts: &[&[u8]]| [header(0, counts), parts.concat()].concat();
        // Answers, by their code.
        for (message, code) in [
            (header(0, [0; 4]), 1),
            (header(0, [1, 0, 0, 0]), 1),
            (with([2, 0, 0, 0], &[&question, &question]), 1),
            (with([1, 0, 0, 1], &[&question]), 1),
            (with([1, 0, 0, 2], &[&question, &opt, &opt]), 1),
            (with([1, 0, 0, 1], &[&question, &bad_cookie]), 1),
            (with([1, 0, 0, 0], &[&[0xc0, 12, 0, 1, 0, 1]]), 1),
            (with([1, 0, 0, 0], &[&[64, b'a', 0, 0, 1, 0, 1]]), 1),
            (with([1, 0, 0, 0], &[&question]), 5),
        ] {
            socket.send(&message)?;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut answer = [0; 512];
            let length = socket
                .recv(&mut answer)
                .with_context(|| format!("{message:x?}"))?;
            ensure!(
                length >= 12 && answer[..2] == [0x12, 0x34],
                "{message:x?}: {:x?}",
                &answer[..length]
            );
            ensure!(
                answer[2] & 0x80 != 0 && answer[3] & 0x0f == code,
                "{message:x?}: {:x?}",
                &answer[..length]
            );
        }
        // No answer: too short, and answers, which would go back and forth forever.
        for message in [
            vec![],
            vec![0x12],
            header(0, [0; 4])[..11].to_vec(),
            header(0x8000, [0; 4]),
        ] {
            socket.send(&message)?;
        }
        // The next question is answered first, so that nothing else has been.
        socket.send(&with([1, 0, 0, 0], &[&question]))?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        ensure!(answer[3] & 0x0f == 5, "{:x?}", &answer[..length]);
        Ok(())
    })
}

#[test]
fn several_questions_go_over_one_connection() -> Result<()> {
    isolated("several_questions_go_over_one_connection", || {
        let bed = Bed::start(config())?;
        let mut stream = TcpStream::connect(bed.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let message = [header(0, [1, 0, 0, 0]), vec![1, b'a', 0, 0, 1, 0, 1]].concat();
        let length = u16::try_from(message.len())?.to_be_bytes();
        let one = [&length[..], &message].concat();
        stream.write_all(&one.repeat(100))?;
        for _ in 0..100 {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer)?;
            ensure!(answer[3] & 0x0f == 5, "{answer:x?}");
        }
        Ok(())
    })
}

#[test]
fn answers_come_from_the_address_that_was_asked() -> Result<()> {
    isolated("answers_come_from_the_address_that_was_asked", || {
        for (everywhere, asked) in [("0.0.0.0:0", "127.0.0.7"), ("[::]:0", "::1")] {
            let bed = Bed::start(Config {
                listen: vec![everywhere.parse()?],
                threads: 2,
                ..Config::default()
            })?;
            let address = SocketAddr::new(asked.parse()?, bed.address().port());
            // dig drops answers of other addresses.
            let answer = crate::support::dig(address, &["+notcp", &name("web")])?;
            contains(&answer, &["9.0.0.1", &format!("SERVER: {asked}#")])?;
        }
        Ok(())
    })
}
