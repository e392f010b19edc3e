//! Protection against requests that a web page makes a browser send.
//!
//! A browser that an operator uses sends the operator's credentials with every request to the
//! server, whichever page caused the request. Programs send neither `Origin` nor
//! `Sec-Fetch-Site`, and pages cannot change these headers.

use super::http::{JSON, Request, Response};
use crate::util::line::one_line;

/// Maximum length of a header that is repeated in an answer, in characters.
const MAX_VALUE: usize = 200;

/// Checks a request that changes something.
///
/// A body without a `Content-Type` is accepted: many programs send none. A page can send such a
/// body too, but not without `Origin`.
///
/// # Errors
/// 403 for a request of another server's page, 415 for a body that is not JSON by its type.
pub fn check(request: &Request) -> Result<(), Response> {
    let headers = &request.headers;
    if let Some(origin) = &headers.origin
        && !is_same_server(origin, headers.host.as_deref())
    {
        return Err(foreign("Origin", origin, headers.host.as_deref()));
    }
    if let Some(site) = &headers.sec_fetch_site
        && !["same-origin", "none"].contains(&site.as_str())
    {
        return Err(foreign("Sec-Fetch-Site", site, headers.host.as_deref()));
    }
    match &headers.content_type {
        Some(content_type) if !request.body.is_empty() && !is_json(content_type) => {
            Err(not_json(content_type))
        }
        _ => Ok(()),
    }
}

fn foreign(header: &str, value: &str, host: Option<&str>) -> Response {
    let value = one_line(value, MAX_VALUE);
    let host = host.map_or("the request has no Host".into(), |host| {
        one_line(host, MAX_VALUE)
    });
    Response::text(
        403,
        &format!(
            "Nothing was changed. The header \"{header}: {value}\" says that a web page of another server \
             than this one ({host}) sent the request. Send it with a program such as curl, or from a page \
             of this server; a proxy in between must pass on the header Host."
        ),
    )
}

fn not_json(content_type: &str) -> Response {
    let value = one_line(content_type, MAX_VALUE);
    Response::text(
        415,
        &format!(
            "Nothing was changed. The body is not JSON by its header \"Content-Type: {value}\". Send \
             JSON, with the header \"Content-Type: {JSON}\" (curl: -H 'Content-Type: {JSON}')."
        ),
    )
}

/// Returns whether a `Content-Type` is the one of JSON, with or without parameters.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case(JSON)
}

/// Returns whether an `Origin` names the server of a `Host` header.
fn is_same_server(origin: &str, host: Option<&str>) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let default_port = match scheme.to_ascii_lowercase().as_str() {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let Some(host) = host else {
        return false;
    };
    let (name, port) = name_and_port(authority.trim(), default_port);
    let (host_name, host_port) = name_and_port(host.trim(), default_port);
    !name.is_empty() && name.eq_ignore_ascii_case(host_name) && port == host_port
}

/// Splits `name:port`, `name`, `[address]:port` or `[address]`.
fn name_and_port<'a>(authority: &'a str, default_port: &'a str) -> (&'a str, &'a str) {
    match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (authority, default_port),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::RequestId;
    use crate::protocol::http::RequestHeaders;

    fn send(headers: RequestHeaders, body: &'static str) -> Result<(), (u16, String)> {
        let request = Request {
            id: RequestId(1),
            method: "POST".to_owned(),
            path: "/overlay-master/agents/delete".to_owned(),
            query: BTreeMap::new(),
            accept: None,
            headers,
            body: Bytes::from_static(body.as_bytes()),
        };
        check(&request).map_err(|response| {
            let text = String::from_utf8(response.body.to_vec()).unwrap();
            assert_eq!(response.content_type, "text/plain; charset=utf-8");
            (response.status, text)
        })
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn programs_send_json_or_no_type() {
        for content_type in [
            None,
            some("application/json"),
            some("Application/JSON ; charset=utf-8"),
        ] {
            let headers = RequestHeaders {
                content_type,
                host: some("10.0.0.1:5050"),
                ..RequestHeaders::default()
            };
            assert_eq!(send(headers, "{}"), Ok(()));
        }
    }

    #[test]
    fn bodies_of_other_types_are_refused() {
        for content_type in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=application/json",
            "text/plain; application/json",
            "application/jsonp",
            "application/json, text/plain",
        ] {
            let headers = RequestHeaders {
                content_type: some(content_type),
                ..RequestHeaders::default()
            };
            let (status, text) = send(headers.clone(), "{}").unwrap_err();
            assert_eq!(status, 415);
            assert!(
                text.contains(&format!("\"Content-Type: {content_type}\"")),
                "{text}"
            );
            assert_eq!(send(headers, ""), Ok(()), "no body, no type");
        }
    }

    #[test]
    fn pages_of_other_servers_are_refused() {
        for (origin, host, same) in [
            ("http://10.0.0.1:5050", Some("10.0.0.1:5050"), true),
            (
                "HTTP://Mesos.Example:5050",
                Some("mesos.example:5050"),
                true,
            ),
            ("http://mesos.example", Some("mesos.example:80"), true),
            ("https://mesos.example", Some("mesos.example"), true),
            ("https://mesos.example:443", Some("mesos.example"), true),
            ("http://[fd00::1]:5050", Some("[fd00::1]:5050"), true),
            ("http://[fd00::1]", Some("[fd00::1]"), true),
            ("http://evil.example", Some("10.0.0.1:5050"), false),
            ("http://10.0.0.1", Some("10.0.0.1:5050"), false),
            ("http://10.0.0.1:5051", Some("10.0.0.1:5050"), false),
            ("https://mesos.example", Some("mesos.example:80"), false),
            (
                "http://10.0.0.1:5050.evil.example",
                Some("10.0.0.1:5050"),
                false,
            ),
            (
                "http://evil.example@10.0.0.1:5050",
                Some("10.0.0.1:5050"),
                false,
            ),
            ("http://10.0.0.1:5050", None, false),
            ("http://", Some(""), false),
            ("null", Some("null"), false),
            ("file://", Some(""), false),
            ("chrome-extension://a", Some("a"), false),
            (
                "http://10.0.0.1:5050 http://evil.example",
                Some("10.0.0.1:5050"),
                false,
            ),
            ("", Some(""), false),
        ] {
            let headers = RequestHeaders {
                host: host.map(str::to_owned),
                origin: some(origin),
                content_type: some("application/json"),
                ..RequestHeaders::default()
            };
            let sent = send(headers, "{}");
            assert_eq!(sent.is_ok(), same, "{origin} at {host:?}: {sent:?}");
            if let Err((status, text)) = sent {
                assert_eq!(status, 403);
                assert!(text.contains(&format!("\"Origin: {origin}\"")), "{text}");
            }
        }
    }

    #[test]
    fn browsers_name_the_relation_of_the_page() {
        for (site, accepted) in [
            ("same-origin", true),
            ("none", true),
            ("same-site", false),
            ("cross-site", false),
            ("", false),
        ] {
            let headers = RequestHeaders {
                sec_fetch_site: some(site),
                ..RequestHeaders::default()
            };
            let sent = send(headers, "");
            assert_eq!(sent.is_ok(), accepted, "{site}: {sent:?}");
            if let Err((status, text)) = sent {
                assert_eq!(status, 403);
                assert!(
                    text.contains(&format!("\"Sec-Fetch-Site: {site}\"")),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn repeated_headers_are_one_short_line() {
        let headers = RequestHeaders {
            origin: Some("x\r\n".repeat(10_000)),
            ..RequestHeaders::default()
        };
        let (_, text) = send(headers, "").unwrap_err();
        assert_eq!(text.lines().count(), 1);
        assert!(text.len() < 700, "{}", text.len());
    }
}
