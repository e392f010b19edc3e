//! Versions of answers (entity tags, RFC 9110 section 8.8.3). A client that has the present
//! version of an answer is not sent it again.

use std::hash::{DefaultHasher, Hasher};

use bytes::Bytes;

use super::http::Response;

/// The version of an answer: a weak entity tag, since libprocess may compress the answer, and
/// since ages in it do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// Returns the version of an answer with these bytes.
    pub fn of(content: &[u8]) -> Version {
        // Its keys are constants, so equal content has equal versions.
        let mut hasher = DefaultHasher::new();
        hasher.write(content);
        Version(format!("W/\"{:016x}\"", hasher.finish()))
    }

    /// Returns whether an `If-None-Match` header names this version.
    pub fn is_in(&self, if_none_match: Option<&str>) -> bool {
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let mine = opaque(&self.0);
        let mut tags = if_none_match.into_iter().flat_map(|tags| tags.split(','));
        tags.any(|tag| tag.trim() == "*" || opaque(tag) == mine)
    }

    /// Adds this version to an answer. The answer becomes 304 without a body if `if_none_match`
    /// names the version. Either way clients must ask again before they use it.
    pub fn apply(self, if_none_match: Option<&str>, mut response: Response) -> Response {
        if self.is_in(if_none_match) {
            response.status = 304;
            response.body = Bytes::new();
        }
        response.headers.push(("Cache-Control", "no-cache".into()));
        response.headers.push(("ETag", self.0));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_content_has_equal_versions() {
        assert_eq!(Version::of(b"a"), Version::of(b"a"));
        assert_ne!(Version::of(b"a"), Version::of(b"b"));
    }

    #[test]
    fn a_known_version_is_not_sent_again() {
        let version = || Version::of(b"content");
        let tag = version().0;
        let other = Version::of(b"other").0;
        let strong = tag.trim_start_matches("W/").to_owned();
        for (header, status) in [
            (None, 200),
            (Some(String::new()), 200),
            (Some(other.clone()), 200),
            (Some(tag.clone()), 304),
            (Some(strong), 304),
            (Some(format!("{other} , {tag}")), 304),
            (Some("*".to_owned()), 304),
            (Some(tag[..tag.len() - 1].to_owned()), 200),
        ] {
            let response = Response::json("content", None);
            let response = version().apply(header.as_deref(), response);
            assert_eq!(response.status, status, "{header:?}");
            assert_eq!(response.body.is_empty(), status == 304);
            assert!(response.headers.contains(&("ETag", tag.clone())));
        }
    }
}
