//! Thread that finds the leading master and reads its events.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use overlay_dns::events;
use parking_lot::Mutex;

use super::{Message, Status, masters, spawn};
use crate::connection::candidates::{self, Place};
use crate::connection::{AskError, ConnectionOptions, Http, Subscription};
use crate::this_host::ThisHost;

/// Masters that are asked in one round. Each can name another one.
const MAX_ASKED: usize = 32;
/// Pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two rounds.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Time after which a stream counts as steady: after its end the next try comes soon.
const STEADY: Duration = Duration::from_secs(60);
/// Silence after which another leader is followed: a master sends a heartbeat every 15 s.
const SILENCE: Duration = Duration::from_secs(20);
/// Interval at which the silence is looked at.
const LOOKING: Duration = Duration::from_secs(1);
/// Size of the buffer for events, in bytes.
const BUFFER: usize = 64 << 10;

/// Follows masters until the program ends.
pub fn run(
    connection: &ConnectionOptions,
    http: &Http,
    status: &Arc<Status>,
    table: &SyncSender<Message>,
    wake: &SyncSender<()>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        match find(connection, http) {
            Ok((master, stream)) => {
                // Before its state, so that `leader` is right when everything is known.
                let ip = masters::address_of_leader(http, &master);
                if let Some(ip) = ip
                    && table.send(Message::Leader(ip)).is_err()
                {
                    return;
                }
                status.change(|shown| {
                    shown.leader = Some(master.clone());
                    shown.leader_ip = ip;
                    shown.replaced_by = None;
                    shown.error = None;
                });
                log::info!("following the master at {master}");
                // The overlays' ranges and the masters may have changed.
                let _ = wake.try_send(());
                let start = Instant::now();
                let reason = follow(stream, status, table);
                if table.send(Message::Lost(status.heard())).is_err() {
                    return;
                }
                // A master that ends streams soon is not asked for its whole state again and again.
                if start.elapsed() >= STEADY {
                    pause = FIRST_PAUSE;
                }
                status.fail(format!(
                    "the events of the master at {master} ended: {reason}"
                ));
            }
            Err(error) => status.fail(error),
        }
        thread::sleep(with_jitter(pause));
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Returns the leading master and its events.
fn find(
    connection: &ConnectionOptions,
    http: &Http,
) -> Result<(String, Box<dyn Read + Send>), String> {
    let place = candidates::find(connection, &ThisHost::look()).map_err(|failure| failure.0)?;
    let Place { masters, origin } = place;
    let mut waiting = masters;
    let mut asked: Vec<String> = Vec::new();
    let mut reason: Option<AskError> = None;
    let mut standby = None;
    while !waiting.is_empty() && asked.len() < MAX_ASKED {
        let master = waiting.remove(0);
        if asked.contains(&master) {
            continue;
        }
        asked.push(master.clone());
        match http.subscribe(&master) {
            Ok(Subscription::Events(stream)) => return Ok((master, stream)),
            Ok(Subscription::Elsewhere(leader)) => {
                standby = Some(format!("{master} says that {leader} leads"));
                waiting.insert(0, leader);
            }
            // A wrong login explains more than a master that is down.
            Err(error @ AskError::Unauthorized(_)) => reason = Some(error),
            Err(error) => {
                reason.get_or_insert(error);
            }
        }
    }
    let reason = reason.map(|error| error.to_string());
    let reasons: Vec<String> = reason.into_iter().chain(standby).collect();
    let reasons = match reasons.is_empty() {
        true => format!("{origin} names none"),
        false => reasons.join("; "),
    };
    Err(format!("no master can be followed: {reasons}"))
}

/// Follows events until the stream ends, or until it is silent while another master leads. Returns the
/// reason.
///
/// The connection to a host that lost its power takes longer to fail.
fn follow(
    stream: Box<dyn Read + Send>,
    status: &Arc<Status>,
    table: &SyncSender<Message>,
) -> String {
    let is_followed = Arc::new(Mutex::new(true));
    let (tell, told) = mpsc::channel();
    let (shared, to_table, followed) =
        (Arc::clone(status), table.clone(), Arc::clone(&is_followed));
    let started = spawn("dns-stream", move || {
        let _ = tell.send(read(stream, &shared, &to_table, &followed));
    });
    if let Err(failure) = started {
        return failure.0;
    }
    loop {
        match told.recv_timeout(LOOKING) {
            Ok(reason) => return reason,
            Err(RecvTimeoutError::Disconnected) => return "their reader ended".to_owned(),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let silence = SystemTime::now().duration_since(status.heard());
        if silence.unwrap_or_default() > SILENCE
            && let Some(other) = status.shown().replaced_by
        {
            *is_followed.lock() = false;
            return format!("it is silent, and {other} leads");
        }
    }
}

/// Reads events until the stream ends, or is not followed any more. Returns the reason.
fn read(
    stream: Box<dyn Read + Send>,
    status: &Status,
    table: &SyncSender<Message>,
    is_followed: &Mutex<bool>,
) -> String {
    let heard = Heard {
        stream,
        status,
        is_followed,
    };
    let outcome = events::read_all(BufReader::with_capacity(BUFFER, heard), |item| {
        // No event follows the message that the stream is lost.
        let followed = is_followed.lock();
        if *followed {
            status.count_event();
            // Without a table the program ends.
            let _ = table.send(Message::Item(item));
        }
    });
    match outcome {
        Ok(()) => "the master closed the connection".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Stream that takes note of when it was heard.
struct Heard<'a> {
    stream: Box<dyn Read + Send>,
    status: &'a Status,
    is_followed: &'a Mutex<bool>,
}

impl Read for Heard<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        if !*self.is_followed.lock() {
            return Err(io::Error::other("it is not followed any more"));
        }
        self.status.hear(count);
        Ok(count)
    }
}

/// Returns a time from half of the given one to all of it.
fn with_jitter(time: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 1024;
    // Below 1024, which a u32 has room for.
    time / 2 + time / 2 * random as u32 / 1024
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_silent_stream_ends_when_another_master_leads() {
        let (mut master, stream) = UnixStream::pair().unwrap();
        let status = Arc::new(Status::default());
        let (table, messages) = mpsc::sync_channel(1);
        // No master was ever heard.
        status.change(|shown| shown.replaced_by = Some("10.0.0.2:5050".to_owned()));
        let reason = follow(Box::new(stream), &status, &table);
        assert_eq!(reason, "it is silent, and 10.0.0.2:5050 leads");
        // A late event is not handed on, and the connection is closed.
        let event = r#"{"type":"SUBSCRIBED","subscribed":{"get_state":{}}}"#;
        write!(master, "{}\n{event}", event.len()).unwrap();
        let end = master.read(&mut [0]);
        assert!(
            matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
        );
        assert!(messages.try_recv().is_err());
    }
}
