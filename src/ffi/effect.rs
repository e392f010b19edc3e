//! What is handed out, as pointers.

use bytes::Bytes;

use super::types::*;
use crate::runtime::{Action, LogSettings};

/// The replicated log's variable.
const VARIABLE: &str = "network-state";
/// What the log's metrics begin with.
const METRICS_PREFIX: &str = "overlay/master/";

/// Owns what the pointers of one effect point to.
#[derive(Default)]
pub(super) struct Held {
    texts: [Vec<u8>; 4],
    body: Bytes,
    headers: Vec<(&'static str, String)>,
    pairs: Vec<MoPair>,
}

impl Held {
    /// Keeps `action`, and returns what leads to its parts until the next call.
    pub(super) fn hold(&mut self, action: Action) -> (MoEffectKind, MoEffectAs) {
        *self = Held::default();
        match action {
            Action::Idle(None) => (
                MoEffectKind::None,
                MoEffectAs {
                    none: MoNone { deadline_ms: NEVER },
                },
            ),
            Action::Idle(Some(delay)) => {
                // Rounded up: a tick that comes early does nothing, and too often.
                let ms = delay.as_nanos().div_ceil(1_000_000);
                let deadline_ms = u64::try_from(ms).unwrap_or(NEVER);
                (
                    MoEffectKind::None,
                    MoEffectAs {
                        none: MoNone { deadline_ms },
                    },
                )
            }
            Action::Send { to, name, body } => {
                let send = MoSend {
                    to: self.text(0, to),
                    name: MoBytes::lend(name.as_bytes()),
                    body: self.body(body),
                };
                (MoEffectKind::Send, MoEffectAs { send })
            }
            Action::Link { to, reconnect } => {
                let link = MoLink {
                    to: self.text(0, to),
                    reconnect: reconnect.into(),
                };
                (MoEffectKind::Link, MoEffectAs { link })
            }
            Action::Respond { id, response } => {
                self.headers = response.headers;
                self.pairs = self.headers.iter().map(pair).collect();
                let respond = MoRespond {
                    id: id.0,
                    status: response.status,
                    content_type: MoBytes::lend(response.content_type.as_bytes()),
                    headers: self.pairs.as_ptr(),
                    header_count: self.pairs.len(),
                    body: self.body(response.body),
                };
                (MoEffectKind::Respond, MoEffectAs { respond })
            }
            Action::Detect { master } => {
                let detect = MoDetect {
                    master: self.text(0, master),
                };
                (MoEffectKind::Detect, MoEffectAs { detect })
            }
            Action::OpenLog(log) => (
                MoEffectKind::OpenLog,
                MoEffectAs {
                    open_log: self.open_log(log),
                },
            ),
            Action::Fetch { id } => {
                let fetch = MoFetch {
                    id,
                    name: MoBytes::lend(VARIABLE.as_bytes()),
                };
                (MoEffectKind::Fetch, MoEffectAs { fetch })
            }
            Action::Store { id, value } => {
                let store = MoStore {
                    id,
                    name: MoBytes::lend(VARIABLE.as_bytes()),
                    value: self.body(value),
                };
                (MoEffectKind::Store, MoEffectAs { store })
            }
        }
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

fn pair((key, value): &(&'static str, String)) -> MoPair {
    MoPair {
        key: MoBytes::lend(key.as_bytes()),
        value: MoBytes::lend(value.as_bytes()),
    }
}
