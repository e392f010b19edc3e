//! HTTP requests and responses of the endpoints. libprocess handles parsing, connections and
//! encodings.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::util::line::one_line;

/// `Content-Type` of JSON.
pub const JSON: &str = "application/json";
/// `Content-Type` of a serialized protobuf.
pub const PROTOBUF: &str = "application/x-protobuf";
/// `Content-Type` of JSON inside a call of the function that `?jsonp=` names.
pub const JAVASCRIPT: &str = "text/javascript";
/// `Content-Type` of plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Maximum length of a path that is repeated in an answer, in characters.
const MAX_PATH: usize = 200;

/// Maximum length of the name that `?jsonp=` has, in characters.
const MAX_FUNCTION: usize = 128;

/// Identifies a request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// Headers of a request that show its origin, the type of its body, and what the client has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeaders {
    /// `Host`: the address of this server, as the client has it.
    pub host: Option<String>,
    /// `Origin`: the server of the page that caused the request.
    pub origin: Option<String>,
    /// `Sec-Fetch-Site`: the relation between that server and this one.
    pub sec_fetch_site: Option<String>,
    /// `Content-Type` of the body.
    pub content_type: Option<String>,
    /// `If-None-Match`: the versions of the answer that the client has.
    pub if_none_match: Option<String>,
}

/// A request for an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Identifies the request in the answer.
    pub id: RequestId,
    /// Method: `GET`, `HEAD`, `POST`, …
    pub method: String,
    /// Whole path, which begins with the process id: `/overlay-master/state`.
    pub path: String,
    /// The decoded query.
    pub query: BTreeMap<String, String>,
    /// The `Accept` header.
    pub accept: Option<String>,
    /// The headers that show the origin of the request.
    pub headers: RequestHeaders,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// Returns the function that `?jsonp=` names.
    ///
    /// # Errors
    /// The answer to a name that no function can have. The name becomes code in the answer, so
    /// it must not contain anything else.
    pub fn jsonp(&self) -> Result<Option<&str>, Response> {
        let Some(name) = self.query.get("jsonp") else {
            return Ok(None);
        };
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.$".contains(&b);
        if (1..=MAX_FUNCTION).contains(&name.len()) && name.bytes().all(is_allowed) {
            return Ok(Some(name));
        }
        Err(Response::bad_request(&format!(
            "The value of jsonp is not the name of a function: at most {MAX_FUNCTION} letters, digits \
             and _ . $ only."
        )))
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The `Content-Type` header.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

impl Response {
    /// Returns 200 with a body of this type.
    pub fn ok(content_type: &'static str, body: impl Into<Bytes>) -> Response {
        Response {
            status: 200,
            content_type,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Returns 200 with JSON, inside a call if `jsonp` names a function.
    pub fn json(json: impl Into<Bytes>, jsonp: Option<&str>) -> Response {
        let json = json.into();
        let Some(function) = jsonp else {
            return Response::ok(JSON, json);
        };
        let mut body = Vec::with_capacity(function.len() + json.len() + 2);
        body.extend_from_slice(function.as_bytes());
        body.push(b'(');
        body.extend_from_slice(&json);
        body.push(b')');
        Response::ok(JAVASCRIPT, body)
    }

    /// Returns this status with a sentence.
    pub fn text(status: u16, sentence: &str) -> Response {
        let body = Bytes::from(format!("{}\n", sentence.trim_end()));
        Response {
            status,
            content_type: TEXT,
            headers: Vec::new(),
            body,
        }
    }

    /// Returns 400: the request is malformed, for the reason in the sentence.
    pub fn bad_request(sentence: &str) -> Response {
        Response::text(400, sentence)
    }

    /// Returns 404 with the endpoints that exist.
    pub fn not_found(path: &str, endpoints: &[&str]) -> Response {
        let path = one_line(path, MAX_PATH);
        Response::text(
            404,
            &format!(
                "There is no {path} here; there is {}.",
                endpoints.join(", ")
            ),
        )
    }

    /// Returns 405 with the supported methods, such as `"GET, HEAD"`.
    pub fn method_not_allowed(allow: &str) -> Response {
        let mut response = Response::text(405, &format!("This endpoint takes {allow}."));
        response.headers.push(("Allow", allow.to_owned()));
        response
    }

    /// Returns 413: the body has more than `limit` bytes.
    pub fn content_too_large(limit: usize) -> Response {
        Response::text(
            413,
            &format!("The body has more than {limit} bytes, the most that is accepted."),
        )
    }

    /// Returns 409: the present state does not allow the request. The sentence says why, and what
    /// would be possible.
    pub fn conflict(sentence: &str) -> Response {
        Response::text(409, sentence)
    }

    /// Returns 415 with the supported media types.
    pub fn unsupported_media_type(offered: &[&str]) -> Response {
        Response::text(
            415,
            &format!("This endpoint answers with {}.", offered.join(" or ")),
        )
    }

    /// Returns 503: the request cannot be served now, for the reason in the sentence.
    pub fn unavailable(sentence: &str) -> Response {
        Response::text(503, sentence)
    }
}

/// Returns the first of `offered` that an `Accept` header admits, if any. A missing or empty
/// header admits everything.
pub fn negotiate<'a>(accept: Option<&str>, offered: &[&'a str]) -> Option<&'a str> {
    let accept = accept.map(str::trim).filter(|header| !header.is_empty());
    let admits = |media_type: &str| accept.is_none_or(|header| admits(header, media_type));
    offered
        .iter()
        .copied()
        .find(|media_type| admits(media_type))
}

/// Returns whether the most specific range in the header that covers `media_type` has a weight
/// above zero.
fn admits(header: &str, media_type: &str) -> bool {
    let (kind, _) = media_type.split_once('/').unwrap_or((media_type, ""));
    let admitted = header
        .split(',')
        .filter_map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let range = parts.next()?.to_ascii_lowercase();
            let specificity = match range.split_once('/') {
                _ if range == media_type => 2,
                Some((k, "*")) if k == kind => 1,
                Some(("*", "*")) => 0,
                _ => return None,
            };
            Some((specificity, weight(parts) > 0.0))
        })
        .max();
    admitted.is_some_and(|(_, admitted)| admitted)
}

/// Returns the parameter `q` of a range; 1 if it is absent or not a number.
fn weight<'a>(mut parameters: impl Iterator<Item = &'a str>) -> f32 {
    let q = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("q")
            .then(|| value.trim().parse().ok())?
    });
    q.unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &[(&str, &str)]) -> Request {
        Request {
            id: RequestId(1),
            method: "GET".to_owned(),
            path: "/overlay-master/state".to_owned(),
            query: query
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            accept: None,
            headers: RequestHeaders::default(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn jsonp_wraps_the_json_in_a_call() {
        let request = request(&[("jsonp", "jQuery.cb_1$")]);
        let response = Response::json("{}", request.jsonp().unwrap());
        assert_eq!(response.content_type, "text/javascript");
        assert_eq!(response.body, "jQuery.cb_1$({})");
    }

    #[test]
    fn jsonp_accepts_only_names_of_functions() {
        for name in [
            "",
            "alert(1)//",
            "a(",
            "a)",
            "a;",
            "a=b",
            "a-b",
            "a b",
            "é",
            "a\n",
            &"a".repeat(129),
        ] {
            assert_eq!(
                request(&[("jsonp", name)]).jsonp().unwrap_err().status,
                400,
                "{name}"
            );
        }
        assert_eq!(request(&[]).jsonp(), Ok(None));
    }

    #[test]
    fn accept_is_negotiated() {
        let offered = [JSON, PROTOBUF];
        for (accept, chosen) in [
            (None, Some(JSON)),
            (Some(""), Some(JSON)),
            (Some("*/*"), Some(JSON)),
            (Some("application/*"), Some(JSON)),
            (Some("application/json"), Some(JSON)),
            (Some("APPLICATION/JSON"), Some(JSON)),
            (Some("application/x-protobuf"), Some(PROTOBUF)),
            (
                Some("application/x-protobuf, application/json;q=0.1"),
                Some(JSON),
            ),
            (
                Some("text/html, application/x-protobuf;q=0.5"),
                Some(PROTOBUF),
            ),
            (Some("*/*, application/json;q=0"), Some(PROTOBUF)),
            (Some("application/json; q=0"), None),
            (Some("application/json;q=0, application/*;q=0.0, */*"), None),
            (Some("application/json; Q=0, */*"), Some(PROTOBUF)),
            (
                Some("application/json;q=much, application/x-protobuf"),
                Some(JSON),
            ),
            (Some("application/json;charset=0;q=0.1"), Some(JSON)),
            (Some("application/json;charset=1;q=0"), None),
            (Some("text/*"), None),
            (Some("text/html"), None),
            (Some("garbage;;q=,"), None),
        ] {
            assert_eq!(negotiate(accept, &offered), chosen, "{accept:?}");
        }
    }

    #[test]
    fn errors_have_the_status_that_they_mean() {
        let responses = [
            Response::bad_request("a"),
            Response::not_found("/a", &[]),
            Response::method_not_allowed("GET"),
            Response::conflict("a"),
            Response::unsupported_media_type(&[JSON]),
            Response::unavailable("a"),
        ];
        assert_eq!(
            responses.map(|response| response.status),
            [400, 404, 405, 409, 415, 503]
        );
        let response = Response::json("{}", None);
        assert_eq!(
            (response.status, response.content_type, &*response.body),
            (200, JSON, &b"{}"[..])
        );
        let response = Response::unsupported_media_type(&[JSON, PROTOBUF]);
        assert_eq!(
            response.body,
            "This endpoint answers with application/json or application/x-protobuf.\n"
        );
    }

    #[test]
    fn sentences_are_lines_of_text() {
        let response = Response::method_not_allowed("POST");
        assert_eq!(
            (response.status, response.content_type),
            (405, "text/plain; charset=utf-8")
        );
        assert_eq!(response.headers, [("Allow", "POST".to_owned())]);
        assert_eq!(response.body, "This endpoint takes POST.\n");
        assert_eq!(
            Response::text(418, "Twice.\n\n").body,
            "Twice.\n",
            "one line break at the end"
        );
        let response = Response::not_found(&"x".repeat(1000), &[]);
        assert!(
            response
                .body
                .starts_with(format!("There is no {}… here", "x".repeat(200)).as_bytes())
        );
        let response = Response::not_found("/overlay-master/x\n", &["/overlay-master/state"]);
        assert_eq!(
            response.body,
            "There is no /overlay-master/x  here; there is /overlay-master/state.\n"
        );
    }
}
