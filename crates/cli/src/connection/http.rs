//! HTTP client: basic authentication, https, limits.

mod stream;

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, Request};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

pub use stream::Subscription;

use super::ConnectionOptions;
use crate::output::Failure;

/// Size limit of an answer, in bytes. `/overlay-master/state` has some 500 bytes an agent.
const MAX_BODY: u64 = 256 << 20;
/// Number of times that a server that is not ready is asked again.
const RETRIES: usize = 4;
/// Longest pause before that.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Size limit of the file with the secret, in bytes.
const MAX_SECRET: u64 = 64 << 10;

/// HTTP client with the options of the command line.
#[derive(Clone, Debug)]
pub struct Http {
    agent: Agent,
    scheme: &'static str,
    authorization: Option<Secret>,
    limit: Duration,
}

/// Value of the header `Authorization`, which debug output does not show.
#[derive(Clone)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Answer of a server.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
    /// Time after which a server that was not ready wants to be asked again.
    retry_after: Option<Duration>,
}

impl Answer {
    /// Returns true if the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the body for people: some lines, without control characters.
    pub fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let plain = |line: &str| {
            line.chars()
                .filter(|c| !c.is_control())
                .take(2000)
                .collect()
        };
        let lines: Vec<String> = text.lines().take(50).map(plain).collect();
        lines.join("\n")
    }

    /// Returns the first line of the body, for people.
    pub fn sentence(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let line = text.lines().next().unwrap_or_default();
        // The body can be of any server.
        line.chars().filter(|c| !c.is_control()).take(500).collect()
    }
}

/// Reason why a server gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// No connection, or no answer in time. Has a sentence.
    Silent(String),
    /// The server wants a login, or refuses this one. Has a sentence.
    Unauthorized(String),
    /// Another status than 2xx: the status code and the answer's sentence.
    Refused(u16, String),
    /// The answer is not what this endpoint answers. Has a sentence.
    Malformed(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Silent(text) | AskError::Unauthorized(text) | AskError::Malformed(text) => {
                f.write_str(text)
            }
            AskError::Refused(status, text) => write!(f, "status {status}: {text}"),
        }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Failure {
        Failure(error.to_string())
    }
}

impl Http {
    /// Creates a client.
    ///
    /// # Errors
    /// The file with the secret or the certificates cannot be used.
    pub fn new(options: &ConnectionOptions) -> Result<Http, Failure> {
        let is_tls = options.is_https();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("mesos-overlay/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(options.limit()));
        if is_tls {
            config = config.tls_config(tls(options.ca_file.as_deref())?);
        }
        let authorization = match (&options.principal, &options.secret_file) {
            (Some(principal), Some(file)) => Some(authorization(principal, file)?),
            _ => None,
        };
        Ok(Http {
            agent: config.build().new_agent(),
            scheme: if is_tls { "https" } else { "http" },
            authorization,
            limit: options.limit(),
        })
    }

    /// Returns a client whose requests end after `limit`.
    pub fn with_limit(&self, limit: Duration) -> Http {
        let mut client = self.clone();
        client.limit = limit;
        client
    }

    /// Sends a GET request to `server` (`host:port`).
    ///
    /// # Errors
    /// There is no answer in time, or the server wants a login.
    pub fn get(&self, server: &str, path: &str) -> Result<Answer, AskError> {
        self.send("GET", server, path, &[], None)
    }

    /// Sends a GET request and parses the JSON of a successful answer.
    ///
    /// # Errors
    /// There is no answer in time, its status is not 2xx, or it has another form.
    pub fn json<T: DeserializeOwned>(&self, server: &str, path: &str) -> Result<T, AskError> {
        let answer = self.get(server, path)?;
        if !answer.is_success() {
            return Err(AskError::Refused(answer.status, answer.sentence()));
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            AskError::Malformed(format!(
                "{server}{path}: the answer is not understood: {error}"
            ))
        })
    }

    /// Sends a request with headers and a JSON body. A server that is not ready, and says when to ask
    /// again, is asked again.
    ///
    /// # Errors
    /// There is no answer in time, or the server wants a login.
    pub fn send(
        &self,
        method: &str,
        server: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&serde_json::Value>,
    ) -> Result<Answer, AskError> {
        let mut answer = self.send_once(method, server, path, headers, body)?;
        for _ in 0..RETRIES {
            let Some(pause) = answer.retry_after else {
                break;
            };
            thread::sleep(pause);
            answer = self.send_once(method, server, path, headers, body)?;
        }
        Ok(answer)
    }

    fn send_once(
        &self,
        method: &str,
        server: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&serde_json::Value>,
    ) -> Result<Answer, AskError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}://{server}{path}", self.scheme));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(Secret(value)) = &self.authorization {
            request = request.header("Authorization", value);
        }
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let malformed =
            |error: &dyn fmt::Display| AskError::Malformed(format!("{server}{path}: {error}"));
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = request.body(body).map_err(|error| malformed(&error))?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(self.limit))
            .build();
        let silent = |error: ureq::Error| AskError::Silent(self.silent(server, &error));
        let response = self.agent.run(request).map_err(silent)?;
        let status = response.status().as_u16();
        let retry_after = retry_after(status, response.headers());
        let body = read(response.into_body()).map_err(silent)?;
        match status {
            401 | 403 => Err(AskError::Unauthorized(self.unauthorized(server, status))),
            _ => Ok(Answer {
                status,
                body,
                retry_after,
            }),
        }
    }

    /// Returns a sentence about a server that does not answer.
    fn silent(&self, server: &str, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => format!(
                "{server} does not answer within {} s",
                self.limit.as_secs_f32()
            ),
            ureq::Error::HostNotFound => format!("{server}: its name has no address"),
            ureq::Error::Io(error) => format!("{server} does not answer: {error}"),
            ureq::Error::Protocol(error) if self.scheme == "https" => {
                format!("{server} does not speak https ({error}); leave --https out")
            }
            ureq::Error::Protocol(error) => {
                format!("{server} does not speak HTTP ({error}); if it speaks https, use --https")
            }
            error => format!("{server}: {error}"),
        }
    }

    fn unauthorized(&self, server: &str, status: u16) -> String {
        match &self.authorization {
            None => format!(
                "{server} wants a login (status {status}); give --principal and --secret-file"
            ),
            Some(_) if status == 401 => {
                format!("{server} does not accept this principal and secret")
            }
            Some(_) => format!("{server} does not permit this to the principal (status 403)"),
        }
    }
}

/// Returns after which time a server that was not ready wants to be asked again, at most
/// [`MAX_PAUSE`].
fn retry_after(status: u16, headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get("Retry-After")?.to_str().ok()?.parse().ok()?;
    (status == 503).then(|| Duration::from_secs(seconds).min(MAX_PAUSE))
}

/// Reads a body within the limit.
fn read(body: Body) -> Result<Vec<u8>, ureq::Error> {
    body.into_with_config().limit(MAX_BODY).read_to_vec()
}

fn authorization(principal: &str, file: &Path) -> Result<Secret, Failure> {
    let unreadable = |error| format!("--secret-file: cannot read {}: {error}", file.display());
    let mut secret = Vec::new();
    let opened = fs::File::open(file).map_err(unreadable)?;
    opened
        .take(MAX_SECRET)
        .read_to_end(&mut secret)
        .map_err(unreadable)?;
    while matches!(secret.last(), Some(b'\n' | b'\r')) {
        secret.pop();
    }
    if principal.contains(':') {
        return Err("--principal: HTTP basic authentication permits no colon in it".into());
    }
    let mut login = format!("{principal}:").into_bytes();
    login.extend(secret);
    Ok(Secret(format!("Basic {}", STANDARD.encode(login))))
}

/// Returns the settings of https: the authorities of the system, and those of a file.
fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, Failure> {
    let system = rustls_native_certs::load_native_certs();
    let mut roots: Vec<Certificate<'static>> = system
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect();
    if let Some(file) = ca_file {
        let pem = fs::read(file)
            .map_err(|error| format!("--ca-file: cannot read {}: {error}", file.display()))?;
        let before = roots.len();
        for item in parse_pem(&pem) {
            if let Ok(PemItem::Certificate(certificate)) = item {
                roots.push(certificate);
            }
        }
        if roots.len() == before {
            return Err(format!(
                "--ca-file: {} has no certificate in PEM form",
                file.display()
            )
            .into());
        }
    }
    if roots.is_empty() {
        return Err(
            "this host has no certificates of authorities; name a file of them with --ca-file"
                .into(),
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}
