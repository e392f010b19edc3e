//! `mesos-overlay networks`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};
use testbed::program::{Outcome, Program};
use testbed::wait;

use crate::terminal::Asking;
use crate::{BINARY, LIMIT, get, loopback, program, start, wait_connected};

/// Asserts exit status and a part of standard error.
#[track_caller]
fn assert_ends(outcome: &Outcome, code: i32, part: &str) {
    assert_eq!(outcome.code(), Some(code), "{outcome}");
    assert!(outcome.stderr.contains(part), "{part}: {outcome}");
}

#[test]
fn networks_are_added_changed_and_removed() {
    let Some(setup) = loopback("networks_are_added_changed_and_removed", 2) else {
        return;
    };
    let cluster = start(&setup);
    let program = program(&cluster);
    let run = |arguments: &[&str]| program.run(arguments).unwrap();
    let list = program.json(&["networks", "list"]).unwrap();
    assert_eq!(list["networks"][0]["state"], "active", "{list}");
    assert_eq!(list["networks"][0]["agents"], 2, "{list}");
    let page = run(&["networks", "list"]);
    assert_eq!(page.code(), Some(0), "{page}");
    let row = page.stdout.lines().nth(1).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        words[..8],
        [
            "dcos",
            "active",
            "file",
            "9.0.0.0/8",
            "/24",
            "2",
            "65536",
            "2"
        ]
    );

    let web = [
        "networks",
        "add",
        "web",
        "--subnet",
        "10.64.0.0/16",
        "--prefix",
        "24",
    ];
    let planned = run(&[&web[..], &["--dry-run"]].concat());
    assert_eq!(planned.code(), Some(0), "{planned}");
    let sent = r#"Would send POST /overlay-master/overlays {"name":"web","prefix":24,"subnet":"10.64.0.0/16"}"#;
    assert_eq!(planned.stdout.trim(), sent);
    assert_eq!(
        get(&cluster.master, "/overlay-master/overlays")["revision"],
        0
    );

    let added = program.json(&web).unwrap();
    assert_eq!(
        (&added["done"], &added["network"]["state"]),
        (&json!(true), &json!("active")),
        "{added}"
    );
    let again = run(&web);
    assert!(
        again.stdout.contains("note: it was there already"),
        "{again}"
    );
    for (arguments, code, part) in [
        // The master's sentences.
        (
            vec![
                "networks",
                "add",
                "bad",
                "--subnet",
                "9.64.0.0/16",
                "--prefix",
                "24",
            ],
            1,
            "error: Overlay bad cannot be like that: its range 9.64.0.0/16 overlaps 9.0.0.0/8 of overlay dcos",
        ),
        (
            vec![
                "networks",
                "add",
                "bad",
                "--subnet",
                "10.65.0.0/16",
                "--prefix",
                "8",
            ],
            1,
            "prefix",
        ),
        (vec!["networks", "add", "bad"], 1, "subnet"),
        (
            vec![
                "networks",
                "change",
                "web",
                "--subnet",
                "10.64.0.0/25",
                "--yes",
            ],
            1,
            "10.64.",
        ),
        (
            vec!["networks", "change", "nowhere", "--prefix", "26"],
            1,
            "there is no network nowhere; there are: dcos, web",
        ),
        (
            vec!["networks", "remove", "nowhere", "--yes"],
            1,
            "there is no network nowhere",
        ),
        (
            vec!["networks", "show", "nowhere"],
            2,
            "there is no network nowhere",
        ),
        // Found out without the master.
        (
            vec!["networks", "add", "a/b", "--prefix", "24"],
            2,
            "no name of a network",
        ),
        (
            vec![
                "networks",
                "add",
                "bad",
                "--subnet",
                "fd00::/64",
                "--prefix",
                "24",
            ],
            2,
            "use --subnet6",
        ),
        (
            vec![
                "networks",
                "add",
                "bad",
                "--subnet",
                "10.65.0.1/16",
                "--prefix",
                "24",
            ],
            2,
            "write 10.65.0.0/16",
        ),
    ] {
        assert_ends(&run(&arguments), code, part);
    }
    // A larger range takes nothing away.
    let changed = program
        .json(&["networks", "change", "web", "--subnet", "10.64.0.0/15"])
        .unwrap();
    assert_eq!(
        changed["network"]["info"]["subnet"], "10.64.0.0/15",
        "{changed}"
    );
    assert_eq!(changed["network"]["info"]["prefix"], 24, "the prefix stays");
    assert!(changed.get("losses").is_none(), "{changed}");
    let same = run(&["networks", "change", "web", "--subnet", "10.64.0.0/15"]);
    assert!(
        same.stdout
            .contains("note: network web is like that already"),
        "{same}"
    );
    let shown = program.json(&["networks", "show", "web"]).unwrap();
    assert_eq!(shown["agents"].as_array().unwrap().len(), 2, "{shown}");

    // Without a terminal nothing is lost without --yes.
    let disable = ["networks", "change", "web", "--disable"];
    let refused = run(&disable);
    assert_ends(&refused, 2, "give --yes");
    assert!(
        refused
            .stderr
            .contains("- 2 agents hold subnets of it, and keep them"),
        "{refused}"
    );
    let state = || get(&cluster.master, "/overlay-master/overlays/web")["state"].clone();
    assert_eq!(state(), "active");
    assert_eq!(
        run(&[&disable[..], &["--dry-run"]].concat()).code(),
        Some(0)
    );
    assert_eq!(state(), "active");
    assert_eq!(run(&[&disable[..], &["--yes"]].concat()).code(), Some(0));
    assert_eq!(state(), "disabled");
    assert_eq!(
        run(&["networks", "change", "web", "--enable"]).code(),
        Some(0)
    );
    assert_eq!(state(), "active");
    let forced = run(&["networks", "remove", "web", "--force", "--yes"]);
    assert_eq!(forced.code(), Some(0), "{forced}");
    assert!(
        forced
            .stderr
            .contains("- --force frees these subnets at once"),
        "{forced}"
    );
    let gone = cluster
        .master
        .client()
        .get("/overlay-master/overlays/web")
        .unwrap();
    assert_eq!(gone.status, 404);
}

#[test]
fn a_removal_is_confirmed_by_the_name_and_drains() {
    let Some(setup) = loopback("a_removal_is_confirmed_by_the_name_and_drains", 2) else {
        return;
    };
    let mut cluster = start(&setup);
    let away = cluster.agents[1].ip();
    cluster.agents[1].kill().unwrap();
    wait_connected(&cluster, &away, false);
    let program = program(&cluster);
    let remove = ["networks", "remove", "dcos"];
    let state = || get(&cluster.master, "/overlay-master/overlays/dcos");
    for word in ["yes", "", "dco"] {
        let asking = Asking::start(&program, &remove);
        assert!(
            asking.said().contains(&format!(
                "agent {away} is not connected: it keeps its subnet"
            )),
            "{}",
            asking.said()
        );
        assert!(asking.said().contains("- it drains"), "{}", asking.said());
        let (code, out, error) = asking.answer(word);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{error}");
        assert!(
            error.contains("not confirmed, and nothing was changed"),
            "{error}"
        );
        assert_eq!(state()["state"], "active");
    }
    // Somebody else changes it while the question stands.
    let asking = Asking::start(&program, &remove);
    let put = json!({ "subnet": "9.0.0.0/8", "prefix": 26 }).to_string();
    let master = cluster.master.client();
    let reply = master.request(
        "PUT",
        "/overlay-master/overlays/dcos",
        &[("Content-Type", "application/json")],
        put.as_bytes(),
    );
    assert_eq!(reply.unwrap().status, 200);
    let (code, _, error) = asking.answer("dcos");
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("was changed by somebody else meanwhile, and nothing was sent"),
        "{error}"
    );
    assert_eq!(state()["state"], "active");

    let (code, out, error) = Asking::start(&program, &remove).answer("dcos");
    assert_eq!(code, Some(0), "{out}{error}");
    assert!(
        out.contains("Removed network dcos: 9.0.0.0/8 in /26; it is draining."),
        "{out}"
    );
    assert!(
        out.contains("networks change dcos --from-file restores it"),
        "{out}"
    );
    wait::until("only the dead agent to hold a subnet", LIMIT, || {
        Ok((state()["holders"] == json!([away])).then_some(()))
    })
    .unwrap();
    let shown = program.run(&["networks", "show", "dcos"]).unwrap();
    assert!(
        shown
            .stdout
            .contains(&format!("Not released yet by 1 agent: {away}")),
        "{shown}"
    );
    let restored = program
        .run(&["networks", "change", "dcos", "--from-file"])
        .unwrap();
    assert_eq!(restored.code(), Some(0), "{restored}");
    let restored: Value = state();
    assert_eq!(
        (&restored["state"], &restored["source"]),
        (&json!("active"), &json!("file"))
    );
}

#[test]
fn principals_are_needed_where_mesos_authenticates() {
    let Some(setup) = loopback("principals_are_needed_where_mesos_authenticates", 0) else {
        return;
    };
    let mut cluster = testbed::cluster::Cluster::prepare(&setup).unwrap();
    let dir = cluster.master.dir().to_owned();
    let file = dir.join("credentials.json");
    let credentials = json!({"credentials": [{"principal": "operator", "secret": "secret"}]});
    fs::write(&file, credentials.to_string()).unwrap();
    cluster
        .master
        .set("MESOS_CREDENTIALS", format!("file://{}", file.display()));
    cluster
        .master
        .set("MESOS_AUTHENTICATE_HTTP_READWRITE", "true");
    cluster
        .master
        .set("MESOS_AUTHENTICATE_HTTP_READONLY", "true");
    cluster.start_all().unwrap();
    wait::until("Mesos to authenticate", LIMIT, || {
        let reply = cluster.master.client().get("/overlay-master/overlays")?;
        Ok((reply.status == 401).then_some(()))
    })
    .unwrap();
    let master = cluster.master.address().to_string();
    let program = Program::at(BINARY, &cluster.master).with(&["--master", &master]);
    let add = [
        "networks",
        "add",
        "web",
        "--subnet",
        "10.64.0.0/16",
        "--prefix",
        "24",
    ];
    for arguments in [&["networks", "list"][..], &add] {
        assert_ends(&program.run(arguments).unwrap(), 2, "--principal");
    }
    let secret = dir.join("secret");
    fs::write(&secret, "secret\n").unwrap();
    let secret = secret.display().to_string();
    let known = program.with(&["--principal", "operator", "--secret-file", &secret]);
    wait::until("the master to serve", LIMIT, || {
        Ok((known.run(&["networks", "list"])?.code() == Some(0)).then_some(()))
    })
    .unwrap();
    assert_eq!(known.run(&add).unwrap().code(), Some(0));
}

/// Subnets of an overlay that nobody defines any more are found, as `status` finds them.
#[test]
fn subnets_of_an_overlay_that_nothing_defines_are_found() {
    let Some(setup) = loopback("subnets_of_an_overlay_that_nothing_defines_are_found", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    cluster.agents[0].kill().unwrap();
    let other = json!([{ "name": "other", "subnet": "8.0.0.0/8", "prefix": 24 }]);
    let master = &mut cluster.master;
    master
        .configure(|config| config["network"]["overlays"] = other)
        .unwrap();
    master.restart().unwrap();
    wait::until("the master to serve", LIMIT, || {
        let reply = cluster.master.client().get("/overlay-master/health")?;
        Ok((reply.status == 200).then_some(()))
    })
    .unwrap();
    let outcome = program(&cluster).ask(&["ipam", "check"]).unwrap();
    assert_eq!(
        outcome.codes().unwrap(),
        ["overlay-orphaned".to_owned()].into(),
        "{outcome}"
    );
}

/// Serves like a master that answers requests for changes with `answer`, or not at all.
fn fake_master(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let line = String::from_utf8_lossy(&request[..length]).into_owned();
            let health = format!(r#"{{"leader":"{address}","status":"serving"}}"#);
            let (status, body) = match line.starts_with("POST ") {
                false => ("200 OK", health),
                true => match answer {
                    Some(answer) => ("503 Service Unavailable", answer.to_owned()),
                    None => {
                        open.push(stream);
                        continue;
                    }
                },
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    address.to_string()
}

/// A master that does not answer, or does not know the outcome, is not a refusal.
#[test]
fn an_unknown_outcome_is_said() {
    let unknown = "It is not known whether anything was changed. Find out with: mesos-overlay networks show web";
    let nothing = "the master cannot do it now (status 503): Nothing was written. Why.";
    for (answer, part) in [
        (
            Some("It is not known whether the overlay was changed: why. Check the overlays.\n"),
            unknown,
        ),
        (Some("Nothing was written. Why.\n"), nothing),
        (None, unknown),
    ] {
        let mut command = Command::new(BINARY);
        command.args([
            "networks",
            "add",
            "web",
            "--subnet",
            "10.64.0.0/16",
            "--prefix",
            "24",
        ]);
        command.args(["--timeout", "1", "--master", &fake_master(answer)]);
        let output = command.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(part), "{error}");
    }
}
