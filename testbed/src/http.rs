//! HTTP to whoever listens in a host's network namespace.

use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::http::{HeaderMap, Request};
use ureq::{Agent, Body};

use crate::netns::Netns;

const LIMIT: Duration = Duration::from_secs(10);
/// What `/state` of a large cluster may have.
const MAX_BODY: u64 = 256 << 20;

/// A server, and where to speak to it from.
#[derive(Clone, Debug)]
pub struct Client {
    server: String,
    netns: Option<Netns>,
    agent: Agent,
}

/// An answer with its whole body.
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
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; anything but a 2xx is an error.
    pub fn json(&self) -> Result<Value> {
        if !(200..300).contains(&self.status) {
            bail!("status {}: {}", self.status, self.text().trim());
        }
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// A header's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }
}

/// An answer whose body goes on and on.
pub struct Stream {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub reader: Box<dyn Read + Send>,
}

impl Client {
    /// Speaks to `server` (`ip:port`) from the given namespace, or from this
    /// process's own.
    pub fn new(server: impl ToString, netns: Option<Netns>) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .proxy(None)
            // Servers are killed here; an old connection would look like an error of the new one.
            .max_idle_connections(0)
            .timeout_connect(Some(LIMIT))
            .build();
        Client {
            server: server.to_string(),
            netns,
            agent: config.new_agent(),
        }
    }

    /// `ip:port` of the server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The namespace to speak from.
    pub fn netns(&self) -> Option<&Netns> {
        self.netns.as_ref()
    }

    /// GET.
    pub fn get(&self, path: &str) -> Result<Reply> {
        self.request("GET", path, &[], b"")
    }

    /// POST of a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        self.request(
            "POST",
            path,
            &[("Content-Type", "application/json")],
            body.to_string().as_bytes(),
        )
    }

    /// Any request, and the whole answer.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply> {
        let (parts, mut body) = self.send(method, path, headers, body, Some(LIMIT))?;
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

    /// A request whose answer does not end.
    pub fn stream(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Stream> {
        let (parts, body) = self.send("POST", path, headers, body, None)?;
        let reader = Box::new(body.into_with_config().limit(u64::MAX).reader());
        Ok(Stream {
            status: parts.status.as_u16(),
            headers: parts.headers,
            reader,
        })
    }

    /// Sends a libprocess message (`type_name` to the process `to`), and claims to be `from`.
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
        // Without a body there must be no Content-Length either, GET and HEAD are refused then.
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
