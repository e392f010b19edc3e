//! Properties of the endpoints that clients rely on.

use crate::common::{all_ok, loopback, start, wait_state};

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
