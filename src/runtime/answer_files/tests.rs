//! Real clients on loopback addresses; the listener stands for the driver.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A server with its clients, whose answers a thread of each sends.
struct Server {
    files: AnswerFiles,
    listener: TcpListener,
    accepted: Vec<TcpStream>,
    now: Time,
}

impl Server {
    fn new(limits: AnswerLimits) -> Server {
        Server {
            files: AnswerFiles::new(limits),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            accepted: Vec::new(),
            now: Time::default(),
        }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    fn connect(&mut self) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        self.accepted.push(self.listener.accept().unwrap().0);
        client
    }

    fn place(&mut self, client: &TcpStream, body: &Bytes) -> Placement {
        let address = client.local_addr().unwrap();
        self.files.place(self.now, address, self.port(), body)
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.files.tick(self.now, self.port());
    }

    /// Sends a body to the client that connected last.
    fn send(&mut self, path: &str) {
        let mut file = File::open(path).unwrap();
        let mut socket = self.accepted.last().unwrap().try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut file, &mut socket));
    }
}

fn path(placement: Placement) -> String {
    match placement {
        Placement::File(path) => path,
        other => panic!("{other:?}"),
    }
}

fn body(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 100_000])
}

#[test]
fn answers_with_the_same_body_share_a_file() {
    let mut server = Server::new(AnswerLimits::default());
    let clients = [(); 3].map(|()| server.connect());
    let first = path(server.place(&clients[0], &body(1)));
    assert_eq!(path(server.place(&clients[1], &body(1))), first);
    assert_eq!(std::fs::read(&first).unwrap(), body(1));
    assert_ne!(path(server.place(&clients[2], &body(2))), first);
}

#[test]
fn an_answer_ends_when_the_client_has_it() {
    let mut server = Server::new(AnswerLimits::default());
    let mut client = server.connect();
    let file = path(server.place(&client, &body(1)));
    assert_eq!(
        server.place(&client, &body(1)),
        Placement::Busy,
        "one at a time"
    );
    assert_eq!(server.files.due(), Some(Time(SECOND)));
    server.send(&file);
    client.read_exact(&mut vec![0; 100_000]).unwrap();
    assert_eq!(path(server.place(&client, &body(1))), file, "the next one");
    server.send(&file);
    client.read_exact(&mut vec![0; 100_000]).unwrap();
    server.pass(SECOND);
    assert_eq!(server.files.due(), None);
    assert_eq!(std::fs::read(&file).unwrap(), b"", "its memory is free");
    client.write_all(b"still connected").unwrap();
    server.pass(3600 * SECOND);
    let mut socket = server.accepted.remove(0);
    socket.read_exact(&mut [0; 15]).unwrap();
}

#[test]
fn an_answer_ends_with_the_connection() {
    let mut server = Server::new(AnswerLimits::default());
    let client = server.connect();
    let file = path(server.place(&client, &body(1)));
    drop(client);
    server.accepted.clear();
    server.pass(SECOND);
    assert_eq!(
        (server.files.due(), std::fs::read(&file).unwrap()),
        (None, Vec::new())
    );
}

#[test]
fn a_client_that_reads_nothing_loses_its_connection() {
    let mut server = Server::new(AnswerLimits::default());
    let mut client = server.connect();
    let long = Bytes::from(vec![1; 50_000_000]);
    let file = path(server.place(&client, &long));
    server.send(&file);
    client.peek(&mut [0]).unwrap();
    let mut seconds = 0;
    while server.files.due().is_some() {
        server.pass(SECOND);
        seconds += 1;
    }
    // More than 30 if the kernel still filled its buffers in the first of them.
    assert!((30..=60).contains(&seconds), "after {seconds} s");
    let received = client.read_to_end(&mut Vec::new()).unwrap();
    assert!(received < long.len(), "{received} bytes");
    assert_eq!(std::fs::read(&file).unwrap(), b"");
}

#[test]
fn a_client_that_reads_slowly_has_more_time_but_not_for_ever() {
    let limits = AnswerLimits::default();
    let mut server = Server::new(limits.clone());
    let mut client = server.connect();
    let long = Bytes::from(vec![1; 150_000_000]);
    let file = path(server.place(&client, &long));
    server.send(&file);
    let step = 25 * SECOND;
    let mut buffer = vec![0; 4_000_000];
    while server.now.since(Time::default()) + step < limits.total {
        // More than all buffers have, so the kernel acknowledges some of it.
        client.read_exact(&mut buffer).unwrap();
        server.pass(step);
        assert!(server.files.due().is_some(), "after {}", server.now);
    }
    server.pass(step);
    assert_eq!(server.files.due(), None);
}

#[test]
fn too_many_answers_are_refused() {
    let limits = AnswerLimits {
        answers_per_host: 2,
        ..AnswerLimits::default()
    };
    let mut server = Server::new(limits);
    let clients = [(); 3].map(|()| server.connect());
    path(server.place(&clients[0], &body(1)));
    path(server.place(&clients[1], &body(1)));
    assert_eq!(server.place(&clients[2], &body(1)), Placement::Busy);
    drop(server.accepted.remove(0));
    assert_eq!(
        server.place(&clients[2], &body(1)),
        Placement::Busy,
        "seen soon"
    );
    server.now = server.now + SHORTEST_INTERVAL;
    path(server.place(&clients[2], &body(1)));
}

#[test]
fn a_new_body_takes_the_place_of_the_oldest() {
    let mut server = Server::new(AnswerLimits {
        bodies: 2,
        ..AnswerLimits::default()
    });
    let mut clients = [(); 3].map(|()| server.connect());
    let first = path(server.place(&clients[0], &body(1)));
    server.pass(SECOND);
    path(server.place(&clients[1], &body(2)));
    assert_eq!(
        server.place(&clients[2], &body(3)),
        Placement::Busy,
        "all are new"
    );
    server.pass(9 * SECOND);
    assert_eq!(path(server.place(&clients[2], &body(3))), first);
    assert_eq!(
        clients[0].read(&mut [0]).unwrap(),
        0,
        "the connection has ended"
    );
    clients[1].set_nonblocking(true).unwrap();
    assert!(clients[1].read(&mut [0]).is_err(), "the connection is open");
}

#[test]
fn clients_without_a_connection_get_bytes() {
    let mut server = Server::new(AnswerLimits::default());
    let unknown = "127.0.0.1:1".parse().unwrap();
    let port = server.port();
    let placement = server.files.place(server.now, unknown, port, &body(1));
    assert_eq!((placement, server.files.due()), (Placement::Bytes, None));
}
