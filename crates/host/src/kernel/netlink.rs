//! The conversation with the kernel about its network configuration (rtnetlink),
//! in the network namespace of the calling thread.
//!
//! Many requests go into one datagram and the kernel answers each: 10,000 peers
//! are 50,000 requests, and a wait for each of them would cost more than they do.

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    NlasIterator, parse_string,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_proto::sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use netlink_proto::{Connection, ConnectionHandle};
use nix::errno::Errno;

use super::message::Message;
use super::nexthop::NexthopMessage;
use super::request::Request;

/// Requests in one datagram. The kernel works through all of them before we can
/// read the first answer: the answers (less than 1 KiB each in the kernel's
/// accounting) have to fit into the socket's receive buffer, 208 KiB by default.
const BATCH: usize = 128;

/// How long the kernel may take for one datagram. It never does, except when
/// something in it is stuck, and then we say so instead of waiting too.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a dump is repeated that changed while it was made.
const DUMP_ATTEMPTS: usize = 5;

/// Flag of a dump's message: the dump is not consistent (`NLM_F_DUMP_INTR`).
const DUMP_INTERRUPTED: u16 = 0x10;

/// Flag of an error message: it has attributes (`NLM_F_ACK_TLVS`).
const ACK_ATTRIBUTES: u16 = 0x200;
/// The attribute that explains the error (`NLMSGERR_ATTR_MSG`).
const ERROR_TEXT: u16 = 1;
/// Bytes of the header of the request, which an error message repeats.
const HEADER_LENGTH: usize = 16;

/// Why the kernel refused a request, or could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The kernel's answer.
    Refused {
        /// The error's number.
        errno: Errno,
        /// What the kernel says beyond the number.
        text: Option<String>,
    },
    /// There was no answer.
    Silent(&'static str),
}

impl Error {
    /// The kernel's error number.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Error::Refused { errno, .. } => Some(*errno),
            Error::Silent(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused { errno, text: None } => write!(f, "{}", errno.desc()),
            Error::Refused {
                errno,
                text: Some(text),
            } => {
                write!(f, "{} ({})", errno.desc(), text.trim_end_matches('.'))
            }
            Error::Silent(why) => f.write_str(why),
        }
    }
}

/// A connection to the kernel. It lives on the tokio runtime it was opened on.
pub(crate) struct Netlink {
    handle: ConnectionHandle<Message>,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Netlink {
    /// Opens a connection; call it on a runtime.
    pub(crate) fn open() -> io::Result<Netlink> {
        let (mut connection, handle, _unsolicited): (Connection<_, TokioSocket>, _, _) =
            netlink_proto::new_connection_with_socket(NETLINK_ROUTE)?;
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let socket = connection.socket_mut().socket_mut();
        // Let the kernel filter dumps, and explain its errors. Kernels that are
        // too old for it say less and dump more.
        let _ = socket.set_netlink_get_strict_chk(true);
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Netlink {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// All objects of one kind.
    pub(crate) async fn dump(
        &self,
        what: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let objects = self.dump_all(what.into()).await?.into_iter();
        Ok(objects
            .filter_map(|object| match object {
                Message::Route(object) => Some(object),
                _ => None,
            })
            .collect())
    }

    /// All nexthop objects.
    pub(crate) async fn dump_nexthops(&self) -> Result<Vec<NexthopMessage>, Error> {
        let objects = self.dump_all(Message::GetNexthop).await?.into_iter();
        Ok(objects
            .filter_map(|object| match object {
                Message::NewNexthop(object) => Some(object),
                _ => None,
            })
            .collect())
    }

    async fn dump_all(&self, what: Message) -> Result<Vec<Message>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(objects) = self.dump_once(what.clone()).await? {
                return Ok(objects);
            }
        }
        Err(Error::Silent(
            "the kernel's tables change faster than they can be read",
        ))
    }

    /// `None`: the objects changed meanwhile, so that some may be missing.
    async fn dump_once(&self, what: Message) -> Result<Option<Vec<Message>>, Error> {
        let mut answers = self.send([with_flags(what, NLM_F_DUMP)])?;
        let (mut objects, mut consistent) = (Vec::new(), true);
        while let Some(answer) = patiently(answers.next()).await? {
            consistent &= answer.header.flags & DUMP_INTERRUPTED == 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(object) => objects.push(object),
                NetlinkPayload::Done(done) => {
                    // A dump can fail half-way; this is where it says so.
                    verdict(done.code, None)?;
                    return Ok(consistent.then_some(objects));
                }
                NetlinkPayload::Error(error) => return Err(refusal(&error, answer.header.flags)),
                _ => return Ok(None),
            }
        }
        Err(Error::Silent(BROKEN))
    }

    /// One object; `None` if there is none.
    pub(crate) async fn get(
        &self,
        what: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, Error> {
        let mut answers = self.send([with_flags(what.into(), 0)])?;
        match patiently(answers.next())
            .await?
            .ok_or(Error::Silent(BROKEN))?
        {
            NetlinkMessage {
                payload: NetlinkPayload::InnerMessage(Message::Route(object)),
                ..
            } => Ok(Some(object)),
            NetlinkMessage {
                payload: NetlinkPayload::Error(error),
                header,
                ..
            } => match refusal(&error, header.flags) {
                Error::Refused {
                    errno: Errno::ENODEV | Errno::ENETUNREACH | Errno::EHOSTUNREACH,
                    ..
                } => Ok(None),
                error => Err(error),
            },
            _ => Err(Error::Silent("the kernel gave an answer that is none")),
        }
    }

    /// Carries out the requests in order. One result for each, in the same order.
    /// When the kernel does not answer, the rest is not tried.
    pub(crate) async fn execute(&self, requests: Vec<Request>) -> Vec<Result<(), Error>> {
        let end = requests.len();
        let mut results = Vec::with_capacity(end);
        let mut requests = requests.into_iter();
        while results.len() < end {
            let batch: Vec<Request> = requests.by_ref().take(BATCH).collect();
            if let Err(error) = self.execute_batch(batch, &mut results).await {
                results.resize(end, Err(error));
            }
        }
        results
    }

    /// Carries out one datagram's worth. On an error the results of the requests
    /// that were not answered are missing.
    async fn execute_batch(
        &self,
        batch: Vec<Request>,
        results: &mut Vec<Result<(), Error>>,
    ) -> Result<(), Error> {
        let end = results.len() + batch.len();
        let messages = batch
            .into_iter()
            .map(|request| with_flags(request.message, request.flags | NLM_F_ACK));
        let mut answers = self.send(messages)?;
        // The kernel answers in the order of the requests.
        while results.len() < end {
            let answer = patiently(answers.next())
                .await?
                .ok_or(Error::Silent(BROKEN))?;
            if let NetlinkPayload::Error(error) = &answer.payload {
                results.push(match error.code {
                    None => Ok(()),
                    Some(_) => Err(refusal(error, answer.header.flags)),
                });
            }
        }
        Ok(())
    }

    fn send(
        &self,
        messages: impl IntoIterator<Item = NetlinkMessage<Message>>,
    ) -> Result<impl Stream<Item = NetlinkMessage<Message>> + Unpin, Error> {
        let kernel = SocketAddr::new(0, 0);
        self.handle
            .request_batch(messages, kernel)
            .map_err(|_| Error::Silent(BROKEN))
    }
}

/// Said when the connection's task ended, for which it will have logged why.
const BROKEN: &str = "the connection to the kernel broke";

/// Waits, but not for ever.
async fn patiently<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    let timeout = tokio::time::timeout(PATIENCE, future).await;
    timeout.map_err(|_| Error::Silent("the kernel did not answer within 30 seconds"))
}

fn with_flags(message: Message, flags: u16) -> NetlinkMessage<Message> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message
}

/// An error number as the kernel gives it, negative; 0 is none.
pub(crate) fn verdict(code: i32, text: Option<String>) -> Result<(), Error> {
    match code {
        0 => Ok(()),
        code => Err(Error::Refused {
            errno: Errno::from_raw(code.saturating_neg()),
            text,
        }),
    }
}

fn refusal(error: &ErrorMessage, flags: u16) -> Error {
    let attributes = error
        .header
        .get(HEADER_LENGTH..)
        .filter(|_| flags & ACK_ATTRIBUTES != 0);
    let text = attributes.and_then(|attributes| {
        let mut attributes = NlasIterator::new(attributes).flatten();
        let attribute = attributes.find(|attribute| attribute.kind() == ERROR_TEXT)?;
        parse_string(attribute.value()).ok()
    });
    let errno = Errno::from_raw(error.raw_code().saturating_neg());
    Error::Refused { errno, text }
}
