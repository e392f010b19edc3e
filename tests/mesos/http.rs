//! Properties of the endpoints that clients rely on.

use std::io::{Read, Write};

use testbed::http::Client;
use testbed::netns;

use crate::common::{LIMIT, all_ok, assert_alive, loopback, start, wait_state};

#[test]
fn the_endpoints_are_as_clients_know_them() {
    let Some(setup) = loopback("the_endpoints_are_as_clients_know_them", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    let servers = [
        (cluster.master.client(), "/overlay-master/state"),
        (cluster.agents[0].client(), "/overlay-agent/overlay"),
    ];
    for (client, path) in servers {
        let plain = client.get(path).unwrap();
        assert_eq!(
            (plain.status, plain.header("Content-Type")),
            (200, "application/json"),
            "{path}"
        );
        let jsonp = client.get(&format!("{path}?jsonp=cb")).unwrap();
        assert_eq!(jsonp.header("Content-Type"), "text/javascript", "{path}");
        assert!(
            jsonp.text().starts_with(&format!("cb({})", plain.text())),
            "{}",
            jsonp.text()
        );
        let code = client.get(&format!("{path}?jsonp=alert(1)//")).unwrap();
        assert_eq!(code.status, 400, "{path}: a name, not code");
        let head = client.request("HEAD", path, &[], b"").unwrap();
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        let put = client.request("PUT", path, &[], b"x").unwrap();
        assert_eq!(put.status, 405, "{path}");
        let unknown = client.get(&format!("{path}/no/such")).unwrap();
        assert_eq!(unknown.status, 404, "{path}");
    }
}

#[test]
fn the_agent_speaks_protobuf_to_those_who_take_nothing_else() {
    let Some(setup) = loopback(
        "the_agent_speaks_protobuf_to_those_who_take_nothing_else",
        1,
    ) else {
        return;
    };
    let cluster = start(&setup);
    let client = cluster.agents[0].client();
    for (accept, status, kind) in [
        ("application/x-protobuf", 200, "application/x-protobuf"),
        (
            "application/json, application/x-protobuf",
            200,
            "application/json",
        ),
        ("*/*", 200, "application/json"),
        ("text/html", 415, "text/plain; charset=utf-8"),
    ] {
        let reply = client
            .request("GET", "/overlay-agent/overlay", &[("Accept", accept)], b"")
            .unwrap();
        assert_eq!(
            (reply.status, reply.header("Content-Type")),
            (status, kind),
            "{accept}"
        );
    }
}

#[test]
fn web_pages_of_other_servers_change_nothing() {
    let Some(setup) = loopback("web_pages_of_other_servers_change_nothing", 1) else {
        return;
    };
    let mut cluster = start(&setup);
    let before = wait_state(&mut cluster, "the agent", |state| all_ok(state, 1));
    let client = cluster.master.client();
    let own = format!("http://{}", client.server());
    let json = ("Content-Type", "application/json");
    let writes = [
        ("POST", "agents/delete", r#"{"agents": [], "force": true}"#),
        ("POST", "agents/reclaim", "{}"),
        ("POST", "overlays", r#"{"name": "x"}"#),
        ("PUT", "overlays/dcos", r#"{"source": "file"}"#),
        ("DELETE", "overlays/dcos", r#"{"force": true}"#),
        ("DELETE", "overlays/dcos", ""),
    ];
    let refusals = [
        (
            vec![
                ("Content-Type", "text/plain"),
                ("Origin", "http://evil.example"),
            ],
            403,
        ),
        (vec![json, ("Origin", "http://evil.example")], 403),
        (vec![json, ("Origin", "null")], 403),
        (
            vec![json, ("Origin", &own), ("Sec-Fetch-Site", "cross-site")],
            403,
        ),
        (vec![json, ("Sec-Fetch-Site", "same-site")], 403),
        (vec![("Content-Type", "text/plain")], 415),
        (
            vec![("Content-Type", "application/x-www-form-urlencoded")],
            415,
        ),
    ];
    for (method, path, body) in writes {
        let path = format!("/overlay-master/{path}");
        let send = |headers: &[_]| {
            client
                .request(method, &path, headers, body.as_bytes())
                .unwrap()
        };
        for (headers, status) in &refusals {
            if *status == 415 && body.is_empty() {
                continue;
            }
            let reply = send(headers);
            assert_eq!(
                reply.status,
                *status,
                "{method} {path} {headers:?}: {}",
                reply.text()
            );
            assert_eq!(reply.header("Content-Type"), "text/plain; charset=utf-8");
            assert_eq!(reply.header("X-Content-Type-Options"), "nosniff");
        }
        if method == "POST" {
            for headers in [
                &[json][..],
                &[],
                &[("Content-Type", "Application/JSON; charset=utf-8")],
                &[json, ("Origin", &own), ("Sec-Fetch-Site", "same-origin")],
                &[json, ("Sec-Fetch-Site", "none")],
            ] {
                let reply = send(headers);
                // Accepted by its headers: done, or refused because of what it asks for.
                assert!(
                    [200, 400, 409].contains(&reply.status),
                    "{headers:?}: {}",
                    reply.text()
                );
            }
        }
    }
    wait_state(&mut cluster, "no change", |state| *state == before);
    assert_alive(&mut cluster);
}

#[test]
fn no_answer_is_a_page() {
    let Some(setup) = loopback("no_answer_is_a_page", 1) else {
        return;
    };
    let cluster = start(&setup);
    let code = "%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for (client, process, paths) in [
        (
            cluster.master.client(),
            "overlay-master",
            &[
                "state", "overlays", "overview", "agents", "health", "metrics",
            ][..],
        ),
        (
            cluster.agents[0].client(),
            "overlay-agent",
            &["overlay", "metrics"],
        ),
    ] {
        let known = paths.iter().map(|path| (*path).to_owned());
        let odd = [
            code.to_owned(),
            format!("state/{code}"),
            format!("overlays/{code}"),
        ];
        for path in known.chain(odd) {
            for query in ["", &format!("?jsonp={code}"), &format!("?x={code}")] {
                let reply = client.get(&format!("/{process}/{path}{query}")).unwrap();
                assert_eq!(
                    reply.header("X-Content-Type-Options"),
                    "nosniff",
                    "{path}{query}"
                );
                assert!(
                    !reply.header("Content-Type").contains("html"),
                    "{path}{query}"
                );
                assert!(
                    !reply.text().contains("<script>"),
                    "{path}{query}: {}",
                    reply.text()
                );
            }
        }
    }
}

/// Sends a request as it is. Returns the status, the length that the answer names, and the body.
fn raw(client: &Client, request: &str) -> (String, usize, String) {
    let server = client.server().parse().unwrap();
    let mut stream = netns::connect(client.netns(), server, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("{request} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().to_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    let length = length.unwrap_or("0").parse().unwrap();
    (status, length, body.to_owned())
}

#[test]
fn answers_to_head_have_no_body() {
    let Some(setup) = loopback("answers_to_head_have_no_body", 1) else {
        return;
    };
    let cluster = start(&setup);
    let (master, agent) = (cluster.master.client(), cluster.agents[0].client());
    for (client, path) in [
        (&master, "/overlay-master/health"),
        (&master, "/overlay-master/state"),
        (&master, "/overlay-master/state?jsonp=f"),
        (&master, "/overlay-master/state?jsonp=1"),
        (&master, "/overlay-master/overlays"),
        (&master, "/overlay-master/overlays/dcos"),
        (&master, "/overlay-master/overlays/none"),
        (&master, "/overlay-master/metrics"),
        (&master, "/overlay-master/agents/delete"),
        (&master, "/overlay-master/none"),
        (&master, "/overlay-master"),
        (&agent, "/overlay-agent/overlay"),
        (&agent, "/overlay-agent/metrics"),
        (&agent, "/overlay-agent/none"),
    ] {
        let (status, length, body) = raw(client, &format!("HEAD {path}"));
        let get = raw(client, &format!("GET {path}"));
        assert_eq!(
            (status.as_str(), body.as_str()),
            (get.0.as_str(), ""),
            "{path}"
        );
        assert!(length > 0, "{path}: the length is that of GET's body");
    }
}
