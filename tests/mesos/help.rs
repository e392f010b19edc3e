//! Every endpoint is documented, answers, and has a help page.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mesos_overlay::runtime::Role;

use crate::common::{loopback, start};

/// Returns the endpoints that a document names, with their methods.
fn named(document: &str) -> BTreeSet<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let (what, _) = line.strip_prefix("| `")?.split_once('`')?;
        let (methods, path) = what.split_once(' ')?;
        path.starts_with("/overlay-")
            .then(|| (methods.to_owned(), path.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn every_endpoint_is_written_down_answers_and_has_help() {
    let Some(setup) = loopback("every_endpoint_is_written_down_answers_and_has_help", 1) else {
        return;
    };
    let cluster = start(&setup);
    let rows = named("docs/api.md");
    for (role, node) in [
        (Role::Master, &cluster.master),
        (Role::Agent, &cluster.agents[0]),
    ] {
        let client = node.client();
        let index = client.get(&format!("/help/{}", role.id())).unwrap();
        assert_eq!(index.status, 200);
        for endpoint in role.endpoints() {
            let path = format!("/{}{}", role.id(), endpoint.path);
            let of_it = |(_, named): &&(String, String)| {
                named.split('?').next() == Some(&path) || named.starts_with(&format!("{path}/<"))
            };
            assert!(
                rows.iter().any(|row| of_it(&row)),
                "docs/api.md does not name {path}"
            );
            assert!(index.text().contains(&path), "{}", index.text());
            let page = client.get(&format!("/help{path}")).unwrap();
            let title = endpoint.help.lines().nth(1).unwrap();
            assert!(
                page.status == 200 && page.text().contains(title),
                "{}",
                page.text()
            );
        }
        for (methods, path) in rows
            .iter()
            .filter(|(_, path)| path.starts_with(&format!("/{}/", role.id())))
        {
            let path = path.replace("<name>", "no-such-name");
            for method in methods.split(['/', ',']) {
                let reply = client.request(method, &path, &[], b"").unwrap();
                // The error is about the body or the name, not about path or method.
                let known = reply.status != 405 && !reply.text().starts_with("There is no /");
                assert!(
                    known && reply.status < 500,
                    "{method} {path}: {} {}",
                    reply.status,
                    reply.text()
                );
            }
        }
    }
}
