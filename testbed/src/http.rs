//! HTTP client that connects from a host's network namespace.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::http::{HeaderMap, Request};
use ureq::{Agent, Body};

use crate::netns::Netns;

/// Default timeout of a request.
const LIMIT: Duration = Duration::from_secs(10);
/// Limit of an answer, bytes; `/state` of a large cluster is long.
const MAX_BODY: u64 = 256 << 20;

/// A client of one server.
#[derive(Clone, Debug)]
pub struct Client {
    server: String,
    netns: Option<Netns>,
    agent: Agent,
    /// Timeout of a request.
    limit: Duration,
}

/// An answer, complete with its body.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Parses the body as JSON.
    ///
    /// # Errors
    /// The status is not 2xx, or the body is not JSON.
    pub fn json(&self) -> Result<Value> {
        if !(200..300).contains(&self.status) {
            bail!("status {}: {}", self.status, self.text().trim());
        }
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// Returns the value of a header; empty: there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }
}

/// An answer whose body is read as it comes.
pub struct Stream {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Reader of the body.
    pub reader: Box<dyn Read + Send>,
}

impl Client {
    /// Makes a client of `server` (`ip:port`) that connects from a namespace; `None`: from this
    /// process's own.
    pub fn new(server: impl ToString, netns: Option<Netns>) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .proxy(None)
            // Tests kill servers; a kept connection to the old one would fail at the new one.
            .max_idle_connections(0)
            .timeout_connect(Some(LIMIT))
            .build();
        Client {
            server: server.to_string(),
            netns,
            agent: config.new_agent(),
            limit: LIMIT,
        }
    }

    /// Sets the timeout of requests.
    pub fn with_limit(mut self, limit: Duration) -> Client {
        self.limit = limit;
        self
    }

    /// Returns `ip:port` of the server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Returns the namespace that the client connects from.
    pub fn netns(&self) -> Option<&Netns> {
        self.netns.as_ref()
    }

    /// Sends a GET request.
    pub fn get(&self, path: &str) -> Result<Reply> {
        self.request("GET", path, &[], b"")
    }

    /// Sends a POST request with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.request(
            "POST",
            path,
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    /// Sends a request and reads the answer.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply> {
        let (parts, mut body) = self.send(method, path, headers, body, Some(self.limit))?;
        let body = body
            .with_config()
            .limit(MAX_BODY)
            .read_to_vec()
            .context("reading an answer")?;
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        })
    }

    /// Sends a POST request whose answer is a stream.
    pub fn stream(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Stream> {
        let (parts, body) = self.send("POST", path, headers, body, None)?;
        let reader = Box::new(body.into_with_config().limit(u64::MAX).reader());
        Ok(Stream {
            status: parts.status.as_u16(),
            headers: parts.headers,
            reader,
        })
    }

    /// Sends a libprocess message of type `type_name` to the process `to`, with `from` as sender.
    pub fn message(&self, to: &str, type_name: &str, from: &str, body: &[u8]) -> Result<Reply> {
        self.request(
            "POST",
            &format!("/{to}/{type_name}"),
            &[("Libprocess-From", from)],
            body,
        )
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        limit: Option<Duration>,
    ) -> Result<(ureq::http::response::Parts, Body)> {
        let uri = format!("http://{}{path}", self.server);
        let mut request = Request::builder().method(method).uri(&uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(body)
            .with_context(|| format!("{method} {uri}"))?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(limit)
            .build();
        // Mesos rejects GET and HEAD requests with a Content-Length, so they get no body at all.
        let run = || match body.is_empty() && method != "POST" {
            true => self.agent.run(request.map(|_| ())),
            false => self.agent.run(request),
        };
        let response = match &self.netns {
            Some(netns) => netns.within(run)?,
            None => run(),
        };
        Ok(response
            .with_context(|| format!("{method} {uri}"))?
            .into_parts())
    }
}
