//! Model of a C++ module as a process that uses libprocess's wire format, for tests with real
//! Mesos processes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use overlay_core::protocol::session::join;
use overlay_core::{Effect, HostReport, Input, Io, Machine, Response, StoreOutcome, Time, Upid};
use testbed::http::Client;

/// Observations of a running model.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    /// Names of sent and received messages.
    pub sent: Vec<&'static str>,
    pub received: Vec<String>,
    /// Value of the log.
    pub log: Bytes,
    /// Last desired state of the host, as text.
    pub host: String,
    pub response: Option<Response>,
}

/// A running model, which ends with the test process.
pub struct Process {
    inputs: Sender<Input>,
    pub observations: Arc<Mutex<Observations>>,
}

impl Process {
    /// Starts `machine`, which listens at `me`, with a value of the log.
    pub fn start(me: &Upid, mut machine: impl Machine + Send + 'static, log: Bytes) -> Process {
        let listener = TcpListener::bind(me.address).unwrap();
        let (inputs, queue) = channel();
        let observations = Arc::new(Mutex::new(Observations {
            log,
            ..Observations::default()
        }));
        let (id, messages) = (me.id.clone(), inputs.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (id, messages) = (id.clone(), messages.clone());
                std::thread::spawn(move || _ = take_messages(&stream, &id, &messages));
            }
        });
        let (me, effects, shared) = (me.clone(), inputs.clone(), observations.clone());
        std::thread::spawn(move || run(&me, &mut machine, &queue, &effects, &shared));
        Process {
            inputs,
            observations,
        }
    }

    /// Sends an input to the machine.
    pub fn input(&self, input: Input) {
        self.inputs.send(input).unwrap();
    }

    pub fn observations(&self) -> Observations {
        self.observations.lock().unwrap().clone()
    }
}

/// Passes inputs to the machine and executes its effects.
fn run(
    me: &Upid,
    machine: &mut dyn Machine,
    queue: &Receiver<Input>,
    inputs: &Sender<Input>,
    observations: &Mutex<Observations>,
) {
    let start = Instant::now();
    loop {
        let timer = machine
            .poll_timeout()
            .map_or(Duration::from_secs(3600), |at| {
                at.since(Time(start.elapsed()))
            });
        let input = match queue.recv_timeout(timer) {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) => Input::Timeout,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if let Input::Message { name, .. } = &input {
            observations.lock().unwrap().received.push(name.clone());
        }
        machine.handle(Time(start.elapsed()), input);
        while let Some(effect) = machine.poll_effect() {
            if let Some(answer) = perform(me, effect, &mut observations.lock().unwrap()) {
                let _ = inputs.send(answer); // the test may be over
            }
        }
    }
}

/// Executes an effect. Returns the input that results from it, if any.
fn perform(me: &Upid, effect: Effect, observations: &mut Observations) -> Option<Input> {
    match effect {
        Effect::Io(Io::Send {
            to,
            name,
            body,
            session,
        }) => {
            observations.sent.push(name);
            let body = join(&body, &session);
            // Messages to peers that do not listen are lost.
            let _ = Client::new(to.address, None).message(&to.id, name, &me.to_string(), &body);
        }
        Effect::Fetch { .. } => return Some(Input::Fetched(Ok(observations.log.clone()))),
        Effect::Io(Io::Store { number, state }) => {
            observations.log = state;
            return Some(Input::Stored {
                number,
                outcome: StoreOutcome::Stored,
            });
        }
        Effect::ApplyHost {
            generation,
            desired,
        } => {
            observations.host = format!("{:?}", desired.overlays);
            return Some(Input::HostDone(HostReport {
                generation,
                ..HostReport::default()
            }));
        }
        Effect::Io(Io::Respond { response, .. }) => observations.response = Some(response),
        Effect::Io(Io::Link { .. }) | Effect::ApplyEngine { .. } | Effect::Log(..) => {}
    }
    None
}

/// Reads the messages for process `id` from a connection, until it ends.
fn take_messages(stream: &TcpStream, id: &str, inputs: &Sender<Input>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut from, mut length, mut chunked) = (None, 0, false);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "libprocess-from" => from = value.trim().parse::<Upid>().ok(),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "transfer-encoding" => chunked = value.trim() == "chunked",
                _ => {}
            }
        }
        let body = if chunked {
            read_chunks(&mut reader)?
        } else {
            read(&mut reader, length)?
        };
        let Some(name) = path.strip_prefix(&format!("/{id}/")) else {
            continue;
        };
        let Some(from) = from else { continue };
        let _ = inputs.send(Input::Message {
            from,
            name: name.to_owned(),
            body: body.into(),
        }); // the same
        // libprocess ignores the content of the answer.
        let mut stream = stream;
        stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?;
    }
}

fn read(reader: &mut impl Read, length: usize) -> std::io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn read_chunks(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        body.extend(read(reader, size)?);
        reader.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Returns a free port of an address.
pub fn free_port(ip: std::net::IpAddr) -> SocketAddr {
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}
