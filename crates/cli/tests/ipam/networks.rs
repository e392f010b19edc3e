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

/// Runs a command line.
fn run(program: &Program, line: &str) -> Outcome {
    let arguments: Vec<&str> = line.split(' ').collect();
    program.run(&arguments).unwrap()
}

const ADD_WEB: &str = "networks add web --subnet 10.64.0.0/16 --prefix 24";

#[test]
fn networks_are_listed_and_added() {
    let Some(setup) = loopback("networks_are_listed_and_added", 2) else {
        return;
    };
    let cluster = start(&setup);
    let program = program(&cluster);
    let list = program.json(&["networks", "list"]).unwrap();
    assert_eq!(list["networks"][0]["state"], "active", "{list}");
    assert_eq!(list["networks"][0]["agents"], 2, "{list}");
    let page = run(&program, "networks list");
    assert_eq!(page.code(), Some(0), "{page}");
    let row = page.stdout.lines().nth(1).unwrap();
    let words: Vec<&str> = row.split_whitespace().take(8).collect();
    assert_eq!(words.join(" "), "dcos active file 9.0.0.0/8 /24 2 65536 2");

    let planned = run(&program, &format!("{ADD_WEB} --dry-run"));
    assert_eq!(planned.code(), Some(0), "{planned}");
    let body = r#"{"name":"web","prefix":24,"subnet":"10.64.0.0/16"}"#;
    let sent = format!("Would send POST /overlay-master/overlays {body}");
    assert_eq!(planned.stdout.trim(), sent);
    let overlays = get(&cluster.master, "/overlay-master/overlays");
    assert_eq!(overlays["revision"], 0);
    let added = run(&program, &format!("{ADD_WEB} -o json")).json().unwrap();
    assert_eq!(added["done"], true, "{added}");
    assert_eq!(added["network"]["state"], "active", "{added}");
    let again = run(&program, ADD_WEB);
    assert!(
        again.stdout.contains("note: it was there already"),
        "{again}"
    );
    let shown = program.json(&["networks", "show", "web"]).unwrap();
    assert_eq!(shown["agents"].as_array().unwrap().len(), 2, "{shown}");
    assert_refusals(&program);
}

/// Asserts that what cannot be is refused: by the master, with its sentences, or before.
fn assert_refusals(program: &Program) {
    for (line, code, part) in [
        (
            "networks add bad --subnet 9.64.0.0/16 --prefix 24",
            1,
            "error: Overlay bad cannot be like that: its range 9.64.0.0/16 overlaps 9.0.0.0/8 of overlay dcos",
        ),
        (
            "networks add bad --subnet 10.65.0.0/16 --prefix 8",
            1,
            "prefix",
        ),
        ("networks add bad", 1, "subnet"),
        (
            "networks change web --subnet 10.64.0.0/25 --yes",
            1,
            "10.64.",
        ),
        (
            "networks change nowhere --prefix 26",
            1,
            "there is no network nowhere; there are: dcos, web",
        ),
        (
            "networks remove nowhere --yes",
            1,
            "there is no network nowhere",
        ),
        ("networks show nowhere", 2, "there is no network nowhere"),
        ("networks add a/b --prefix 24", 2, "no name of a network"),
        (
            "networks add bad --subnet fd00::/64 --prefix 24",
            2,
            "use --subnet6",
        ),
        (
            "networks add bad --subnet 10.65.0.1/16 --prefix 24",
            2,
            "write 10.65.0.0/16",
        ),
    ] {
        assert_ends(&run(program, line), code, part);
    }
}

#[test]
fn only_changes_that_take_something_away_need_a_confirmation() {
    let Some(setup) = loopback(
        "only_changes_that_take_something_away_need_a_confirmation",
        2,
    ) else {
        return;
    };
    let cluster = start(&setup);
    let program = program(&cluster);
    let run = |line: &str| run(&program, line);
    assert_eq!(run(ADD_WEB).code(), Some(0));
    let larger = "networks change web --subnet 10.64.0.0/15";
    let changed = run(&format!("{larger} -o json")).json().unwrap();
    let info = &changed["network"]["info"];
    assert_eq!(info["subnet"], "10.64.0.0/15", "{changed}");
    assert_eq!(info["prefix"], 24, "the prefix stays");
    assert!(changed.get("losses").is_none(), "{changed}");
    let same = run(larger);
    assert!(
        same.stdout
            .contains("note: network web is like that already"),
        "{same}"
    );

    let state = || get(&cluster.master, "/overlay-master/overlays/web")["state"].clone();
    let disable = "networks change web --disable";
    let refused = run(disable);
    assert_ends(&refused, 2, "give --yes");
    assert_ends(&refused, 2, "- 2 agents hold subnets of it, and keep them");
    assert_eq!(state(), "active");
    assert_eq!(run(&format!("{disable} --dry-run")).code(), Some(0));
    assert_eq!(state(), "active");
    assert_eq!(run(&format!("{disable} --yes")).code(), Some(0));
    assert_eq!(state(), "disabled");
    assert_eq!(run("networks change web --enable").code(), Some(0));
    assert_eq!(state(), "active");
    let forced = run("networks remove web --force --yes");
    assert_ends(&forced, 0, "- --force frees these subnets at once");
    let gone = cluster.master.client().get("/overlay-master/overlays/web");
    assert_eq!(gone.unwrap().status, 404);
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
    let client = cluster.master.client();
    wait::until(
        "Mesos to authenticate, and the master to serve",
        LIMIT,
        || {
            let is_closed = client.get("/overlay-master/overlays")?.status == 401;
            let serves = client.get("/overlay-master/health")?.status == 200;
            Ok((is_closed && serves).then_some(()))
        },
    )
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
