//! The names of containers in the DNS: the label function of the page's script.

use std::net::TcpListener;

use serde_json::json;

use crate::browser::{self, Browser};
use crate::cluster::WINDOW;

/// Texts and their labels. The first four are the vectors of DC/OS.
const LABELS: &[(&str, &str)] = &[
    (
        "fd%gsf---gs7-f$gs--d7fddg-123",
        "fdgsf---gs7-fgs--d7fddg-123",
    ),
    ("-4abc123", "4abc123"),
    ("89fdgsf---gs7-fgs--d7fddg-", "89fdgsf---gs7-fgs--d7fddg"),
    (
        "fd%gsf---gs7-f$gs--d7fddg123456789012345678901234567890123456789-123",
        "fdgsf---gs7-fgs--d7fddg1234567890123456789012345678901234567891",
    ),
    ("myapp.subgroup.outergroup", "myapp-subgroup-outergroup"),
    ("dev/marathon", "devmarathon"),
    ("My_App 1", "my-app1"),
    ("K\u{212a}\u{130}", "k"),
    ("__", ""),
    ("", ""),
];

/// Serves the script on an address of its own: the module needs no Mesos.
fn serve_script() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let Ok(count) = client.read(&mut request) else {
                continue;
            };
            let (kind, body) = match request[..count].starts_with(b"GET /names.js") {
                true => (
                    "text/javascript",
                    include_str!("../../crates/core/ui/names.js"),
                ),
                false => ("text/html", ""),
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = client.write_all(format!("{head}{body}").as_bytes());
        }
    });
    url
}

#[test]
fn labels_are_those_of_dcos() {
    if !browser::require("labels_are_those_of_dcos") {
        return;
    }
    let browser = Browser::start(WINDOW.0, WINDOW.1);
    browser.open(&serve_script());
    let long = "a".repeat(62) + "--" + "b-c-d";
    let mut labels: Vec<(String, String)> = Vec::new();
    labels.extend(
        LABELS
            .iter()
            .map(|(text, label)| ((*text).to_owned(), (*label).to_owned())),
    );
    labels.push((long, "a".repeat(62) + "b"));
    labels.push(("a".repeat(70), "a".repeat(63)));
    labels.push(("a".repeat(60) + "----------", "a".repeat(60)));
    for (text, label) in labels {
        let script = format!(
            "return import('/names.js').then((m) => m.label({}))",
            json!(text)
        );
        assert_eq!(browser.eval(&script), json!(label), "{text}");
    }
    for (range, address, is_in) in [
        ("9.0.1.0/24", "9.0.1.7", true),
        ("9.0.1.0/24", "9.0.2.7", false),
        ("fd01:b::/64", "fd01:b::5", true),
        ("fd01:b::/64", "fd01:b:0:1::5", false),
        ("fd01:b::/64", "9.0.1.7", false),
        ("0.0.0.0/0", "1.2.3.4", true),
        ("9.0.0.0/8", "9.0.0", false),
    ] {
        let script = format!(
            "return import('/names.js').then((m) => m.contains('{range}', m.parseAddress('{address}')))"
        );
        assert_eq!(browser.eval(&script), json!(is_in), "{range} {address}");
    }
}
