//! https, through a proxy in front of a master. The Mesos of the test bed has no TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use testbed::net::Host;
use testbed::skip;

use crate::common::{assert_finds, hosts, program, start};

/// Port of the proxy.
const PORT: u16 = 5443;

/// Makes an authority (`ca.pem`), and a certificate of it for the master (`cert.pem`, `key.pem`).
fn make_certificates(directory: &Path) {
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        let output = command
            .args(arguments)
            .current_dir(directory)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let authority = [
        "req", "-x509", "-subj", "/CN=test", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem",
    ];
    openssl(&[&authority[..], &key[..]].concat());
    let request = [
        "req",
        "-subj",
        "/CN=master",
        "-keyout",
        "key.pem",
        "-out",
        "request.pem",
    ];
    openssl(&[&request[..], &key[..]].concat());
    fs::write(directory.join("names"), "subjectAltName=IP:10.77.0.1\n").unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "request.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "cert.pem",
    ]);
}

fn tls(directory: &Path) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(directory.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    Arc::new(config.unwrap())
}

/// Answers GET requests with what the master answers. Runs until the test ends.
fn proxy(host: &Host, master: SocketAddr, tls: Arc<ServerConfig>) {
    let address = SocketAddr::from((host.ip(), PORT));
    let listener = host
        .netns()
        .within(|| TcpListener::bind(address).unwrap())
        .unwrap();
    let netns = host.netns().clone();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(tls.clone()).unwrap();
            let mut client = StreamOwned::new(connection, client);
            // A client that does not trust the certificate ends the connection.
            let Some(request) = read_request(&mut client) else {
                continue;
            };
            let mut server = netns
                .within(|| TcpStream::connect(master).unwrap())
                .unwrap();
            let request = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            server.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            server.read_to_end(&mut answer).unwrap();
            let _ = client.write_all(&answer);
            client.conn.send_close_notify();
            let _ = client.flush();
        }
    });
}

fn read_request(client: &mut impl Read) -> Option<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        request.push(byte[0]);
    }
    String::from_utf8(request).ok()
}

#[test]
fn a_master_is_asked_by_https() {
    let test = "a_master_is_asked_by_https";
    if Command::new("openssl").arg("version").output().is_err() {
        skip::skip(test, "openssl is not installed");
        return;
    }
    let Some(setup) = hosts(test, 1) else { return };
    let cluster = start(&setup);
    let directory = cluster.run().dir().to_owned();
    make_certificates(&directory);
    let host = cluster.master.host().unwrap();
    proxy(host, cluster.master.address(), tls(&directory));
    let authority = directory.join("ca.pem").display().to_string();
    let by_https = program(&cluster.master).with(&["--master", "https://10.77.0.1:5443"]);
    assert_finds(&by_https.clone().with(&["--ca-file", &authority]), &[]);
    // Without the authority the certificate is not trusted, and without https there is no HTTP.
    let outcome = by_https.run(&["status"]).unwrap();
    assert_ne!(outcome.code(), Some(0), "{outcome}");
    assert!(outcome.to_string().contains("certificate"), "{outcome}");
    let plain = program(&cluster.master).with(&["--master", "10.77.0.1:5443"]);
    let outcome = plain.run(&["status"]).unwrap();
    assert_eq!(outcome.code(), Some(1), "{outcome}");
    assert!(outcome.stdout.contains("--https"), "{outcome}");
}
