//! Stream of a master's events: an answer that does not end.

use std::fmt::Display;
use std::io::Read;
use std::time::Duration;

use overlay_core::config::zk;
use ureq::http::{HeaderMap, Request};

use super::{Answer, AskError, Http, Secret};

/// Path of the operator API.
const API: &str = "/api/v1";
/// Time without a byte after which the connection counts as dead: three of Mesos's heartbeats, of
/// which there is one every 15 s.
const IDLE: Duration = Duration::from_secs(45);

/// Answer to a subscription.
pub enum Subscription {
    /// Events, as RecordIO.
    Events(Box<dyn Read + Send>),
    /// Another master leads, at this address (`host:port`).
    Elsewhere(String),
}

impl Http {
    /// Subscribes to the events of a master (`host:port`).
    ///
    /// # Errors
    /// Silence until the time limit, a login that is wanted, or a standby that names no other leader.
    pub fn subscribe(&self, server: &str) -> Result<Subscription, AskError> {
        let malformed =
            |error: &dyn Display| AskError::Malformed(format!("{server}{API}: {error}"));
        let mut request = Request::builder()
            .method("POST")
            .uri(format!("{}://{server}{API}", self.scheme))
            .header("Content-Type", "application/json")
            .header("Accept", "application/json");
        if let Some(Secret(value)) = &self.authorization {
            request = request.header("Authorization", value);
        }
        let request = request.body(r#"{"type":"SUBSCRIBE"}"#);
        let request = request.map_err(|error| malformed(&error))?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(None)
            .timeout_resolve(Some(self.limit))
            .timeout_connect(Some(self.limit))
            .timeout_recv_response(Some(IDLE))
            .timeout_per_read(Some(IDLE))
            .timeout_per_write(Some(self.limit))
            .build();
        let silent = |error: ureq::Error| AskError::Silent(self.silent(server, &error));
        let response = self.agent.run(request).map_err(silent)?;
        let status = response.status().as_u16();
        match status {
            200 => Ok(Subscription::Events(Box::new(
                // The stream goes on as long as the connection.
                response
                    .into_body()
                    .into_with_config()
                    .limit(u64::MAX)
                    .reader(),
            ))),
            307 | 308 => match location(response.headers()) {
                Some(leader) => Ok(Subscription::Elsewhere(leader)),
                None => Err(AskError::Malformed(format!(
                    "{server}{API}: it refers to another master without an address"
                ))),
            },
            401 | 403 => Err(AskError::Unauthorized(self.unauthorized(server, status))),
            _ => {
                let body = response.into_body().into_with_config().limit(10_000);
                let answer = Answer {
                    status,
                    body: body.read_to_vec().unwrap_or_default(),
                    retry_after: None,
                };
                Err(AskError::Refused(status, answer.sentence()))
            }
        }
    }
}

/// Returns `host:port` of the URL that an answer refers to, such as `//10.0.0.1:5050/api/v1`.
fn location(headers: &HeaderMap) -> Option<String> {
    let url = headers.get("Location")?.to_str().ok()?;
    let (_, rest) = url.split_once("//")?;
    let address = rest.split(['/', '?']).next()?;
    // The address becomes a part of a URL, to which the login goes.
    zk::check_host_port(address).ok()?;
    Some(address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_refers_to_the_leader() {
        let refers = |url: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("Location", url.parse().unwrap());
            location(&headers)
        };
        let leader = Some("10.0.0.1:5050".to_owned());
        assert_eq!(refers("//10.0.0.1:5050/api/v1"), leader);
        assert_eq!(refers("http://10.0.0.1:5050"), leader);
        assert_eq!(refers("/api/v1"), None);
        assert_eq!(refers("//user@evil:1/"), None);
        assert_eq!(location(&HeaderMap::new()), None);
    }
}
