//! Conversion of actions to effects of the C ABI.

use std::time::Duration;

use bytes::Bytes;
use overlay_core::protocol::session::join;
use overlay_core::{Io, RequestId, Response};

use super::types::*;
use crate::runtime::{Action, LogSettings};

/// Name of the variable in the replicated log.
const VARIABLE: &str = "network-state";
/// Prefix of the log's metrics.
const METRICS_PREFIX: &str = "overlay/master/";

// A caller of version 1.2 has room for the structures that it knows.
const _: () = assert!(size_of::<MoRespond>() <= size_of::<MoOpenLog>());

/// Owner of the data that the pointers of one effect point to.
#[derive(Default)]
pub(super) struct EffectBuffer {
    texts: [Vec<u8>; 4],
    body: Bytes,
    headers: Vec<(&'static str, String)>,
    pairs: Vec<MoPair>,
}

impl EffectBuffer {
    /// Stores `action` and returns it as an effect, whose pointers are valid until the next
    /// call.
    pub(super) fn fill(&mut self, action: Action) -> (MoEffectKind, MoEffectAs) {
        *self = EffectBuffer::default();
        match action {
            Action::Idle(delay) => {
                let deadline_ms = delay.map_or(NEVER, deadline_ms);
                let none = MoNone { deadline_ms };
                (MoEffectKind::None, MoEffectAs { none })
            }
            Action::Io(io) => self.io(io),
            Action::RespondFromFile { id, response, path } => self.respond(id, response, &path),
            Action::Detect { master } => {
                let detect = MoDetect {
                    master: self.text(0, master),
                };
                (MoEffectKind::Detect, MoEffectAs { detect })
            }
            Action::OpenLog(log) => {
                let open_log = self.open_log(log);
                (MoEffectKind::OpenLog, MoEffectAs { open_log })
            }
            Action::Fetch { id, reopen } => {
                let fetch = MoFetch {
                    id,
                    name: MoBytes::lend(VARIABLE.as_bytes()),
                    reopen: reopen.into(),
                };
                (MoEffectKind::Fetch, MoEffectAs { fetch })
            }
        }
    }

    fn io(&mut self, io: Io) -> (MoEffectKind, MoEffectAs) {
        match io {
            Io::Send {
                to,
                name,
                body,
                session,
            } => {
                let send = MoSend {
                    to: self.text(0, to),
                    name: MoBytes::lend(name.as_bytes()),
                    body: self.body(join(&body, &session)),
                };
                (MoEffectKind::Send, MoEffectAs { send })
            }
            Io::Link { to, reconnect } => {
                let link = MoLink {
                    to: self.text(0, to),
                    reconnect: reconnect.into(),
                };
                (MoEffectKind::Link, MoEffectAs { link })
            }
            Io::Respond { id, response } => self.respond(id, response, ""),
            Io::Store { number, state } => {
                let store = MoStore {
                    id: number,
                    name: MoBytes::lend(VARIABLE.as_bytes()),
                    value: self.body(state),
                };
                (MoEffectKind::Store, MoEffectAs { store })
            }
        }
    }

    fn respond(
        &mut self,
        id: RequestId,
        response: Response,
        file: &str,
    ) -> (MoEffectKind, MoEffectAs) {
        self.headers = response.headers;
        // A browser must not take data for a page or a script.
        self.headers
            .push(("X-Content-Type-Options", "nosniff".to_owned()));
        self.pairs = self.headers.iter().map(pair).collect();
        let respond = MoRespond {
            id: id.0,
            status: response.status,
            content_type: MoBytes::lend(response.content_type.as_bytes()),
            headers: self.pairs.as_ptr(),
            header_count: self.pairs.len(),
            body: self.body(response.body),
            file: self.text(0, file),
        };
        (MoEffectKind::Respond, MoEffectAs { respond })
    }

    fn open_log(&mut self, log: LogSettings) -> MoOpenLog {
        use std::os::unix::ffi::OsStringExt;

        self.texts[0] = log.path.into_os_string().into_vec();
        let mut open_log = MoOpenLog {
            quorum: log.quorum,
            path: MoBytes::lend(&self.texts[0]),
            zk_servers: MoBytes::lend(b""),
            zk_path: MoBytes::lend(b""),
            zk_session_timeout_ms: 0,
            zk_scheme: MoBytes::lend(b""),
            zk_credentials: MoBytes::lend(b""),
            metrics_prefix: MoBytes::lend(METRICS_PREFIX.as_bytes()),
        };
        if let Some(zk) = log.zookeeper {
            open_log.zk_servers = self.text(1, zk.servers);
            open_log.zk_path = self.text(2, zk.path);
            open_log.zk_session_timeout_ms =
                u64::try_from(zk.session_timeout.as_millis()).unwrap_or(NEVER);
            if let Some(credentials) = zk.credentials {
                open_log.zk_scheme = MoBytes::lend(b"digest");
                open_log.zk_credentials = self.text(3, credentials);
            }
        }
        open_log
    }

    fn text(&mut self, slot: usize, text: impl ToString) -> MoBytes {
        self.texts[slot] = text.to_string().into_bytes();
        MoBytes::lend(&self.texts[slot])
    }

    fn body(&mut self, body: Bytes) -> MoBytes {
        self.body = body;
        MoBytes::lend(&self.body)
    }
}

/// Returns `delay` in milliseconds, rounded up: a tick that comes early does nothing.
fn deadline_ms(delay: Duration) -> u64 {
    u64::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(NEVER)
}

fn pair((key, value): &(&'static str, String)) -> MoPair {
    MoPair {
        key: MoBytes::lend(key.as_bytes()),
        value: MoBytes::lend(value.as_bytes()),
    }
}
