//! Requests and dumps of the kernel's network configuration (rtnetlink), in the network
//! namespace of the calling thread.
//!
//! Many requests go into one datagram, and the kernel answers each of them: 10,000 peers are
//! 50,000 requests, and a wakeup for each would cost more than the requests. The handles of
//! the `rtnetlink` crate send one request at a time. Its streams also drop the flag of an
//! inconsistent dump and the kernel's text of an error.

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
use crate::progress;

/// Number of requests in one datagram. The kernel executes all of them before we can read
/// the first answer, so the answers (less than 1 KiB each in the kernel's accounting) have to
/// fit into the socket's receive buffer, 208 KiB by default.
const BATCH: usize = 128;

/// Timeout of the answers to one datagram. It is over only when something in the kernel
/// hangs.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Number of attempts for a dump whose objects change meanwhile.
const DUMP_ATTEMPTS: usize = 5;

/// Flag of an answer: the dump is inconsistent (`NLM_F_DUMP_INTR`).
const DUMP_INTERRUPTED: u16 = 0x10;

/// Flag of an error: it has attributes (`NLM_F_ACK_TLVS`).
const ACK_ATTRIBUTES: u16 = 0x200;
/// Attribute of an error: a text (`NLMSGERR_ATTR_MSG`).
const ERROR_TEXT: u16 = 1;
/// Bytes of the request's header, which an error repeats.
const HEADER_LENGTH: usize = 16;

/// Failure of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The kernel refused it.
    Refused {
        /// Error number.
        errno: Errno,
        /// Explanation by the kernel.
        text: Option<String>,
    },
    /// No usable answer came, for this reason.
    NoAnswer(&'static str),
}

impl Error {
    /// Returns the error of a request that was sent as bytes.
    pub(crate) fn from_io(error: &io::Error) -> Error {
        match error.raw_os_error() {
            Some(code) => Error::Refused {
                errno: Errno::from_raw(code),
                text: None,
            },
            None => Error::NoAnswer(BROKEN),
        }
    }

    /// Returns the kernel's error number.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Error::Refused { errno, .. } => Some(*errno),
            Error::NoAnswer(_) => None,
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
            Error::NoAnswer(why) => f.write_str(why),
        }
    }
}

/// A netlink socket. It lives on the tokio runtime on which it was opened.
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
    /// Opens a socket. Call it on a runtime.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub(crate) fn open() -> io::Result<Netlink> {
        let (mut connection, handle, _unsolicited): (Connection<_, TokioSocket>, _, _) =
            netlink_proto::new_connection_with_socket(NETLINK_ROUTE)?;
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let socket = connection.socket_mut().socket_mut();
        // The kernel filters dumps and explains its errors. Kernels that are too old for it
        // dump more and explain less.
        let _ = socket.set_netlink_get_strict_chk(true);
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Netlink {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    /// Returns all objects of one kind.
    ///
    /// # Errors
    /// The kernel refuses the dump or does not answer.
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

    /// Returns all nexthop objects.
    ///
    /// # Errors
    /// The kernel refuses the dump or does not answer.
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
        Err(Error::NoAnswer(
            "the kernel's tables change faster than they can be read",
        ))
    }

    /// Returns the objects; `None`: they changed meanwhile, so that some may be missing.
    async fn dump_once(&self, what: Message) -> Result<Option<Vec<Message>>, Error> {
        let mut answers = self.send([with_flags(what, NLM_F_DUMP)])?;
        let (mut objects, mut consistent) = (Vec::new(), true);
        while let Some(answer) = in_time(answers.next()).await? {
            consistent &= answer.header.flags & DUMP_INTERRUPTED == 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(object) => objects.push(object),
                NetlinkPayload::Done(done) => {
                    // The error of a dump that failed half-way.
                    verdict(done.code, None)?;
                    return Ok(consistent.then_some(objects));
                }
                NetlinkPayload::Error(error) => return Err(refusal(&error, answer.header.flags)),
                _ => return Ok(None),
            }
        }
        Err(Error::NoAnswer(BROKEN))
    }

    /// Returns one object; `None`: it does not exist.
    ///
    /// # Errors
    /// The kernel refuses the request or does not answer.
    pub(crate) async fn get(
        &self,
        what: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, Error> {
        let mut answers = self.send([with_flags(what.into(), 0)])?;
        match in_time(answers.next())
            .await?
            .ok_or(Error::NoAnswer(BROKEN))?
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
            _ => Err(Error::NoAnswer("the kernel sent an unexpected answer")),
        }
    }

    /// Sends the requests in order, and returns one result for each in the same order. If the
    /// kernel does not answer, the rest is not sent.
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

    /// Sends the requests of one datagram. With an error, results of requests that were not
    /// answered are missing.
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
            let answer = in_time(answers.next())
                .await?
                .ok_or(Error::NoAnswer(BROKEN))?;
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
            .map_err(|_| Error::NoAnswer(BROKEN))
    }
}

/// Reason of a failure after the task of the socket has ended, which logged the cause.
const BROKEN: &str = "the netlink socket failed";

/// Waits no longer than [`TIMEOUT`].
async fn in_time<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    progress::part(TIMEOUT);
    let timeout = tokio::time::timeout(TIMEOUT, future).await;
    timeout.map_err(|_| Error::NoAnswer("the kernel did not answer within 30 seconds"))
}

fn with_flags(message: Message, flags: u16) -> NetlinkMessage<Message> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message
}

/// Converts an error number of the kernel, which is negative; 0 is no error.
pub(super) fn verdict(code: i32, text: Option<String>) -> Result<(), Error> {
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
