//! The page `/overlay-master/ui`: its files, which are part of the module.

use crate::protocol::versions::Version;
use crate::util::line::quote;
use crate::{Request, Response};

/// Path of the page.
const PATH: &str = "/overlay-master/ui";

/// Sources that the page may load from: files and answers of its own server. Names of tasks and
/// agents come from strangers, and this keeps a mistake in showing them from becoming a script.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
                      object-src 'none'";

/// A file of the page.
struct File {
    name: &'static str,
    content_type: &'static str,
    content: &'static str,
}

macro_rules! files {
    ($($name:literal: $content_type:expr,)*) => {
        &[$(File {
            name: $name,
            content_type: $content_type,
            content: include_str!(concat!("../../ui/", $name)),
        }),*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const ICON: &str = "image/svg+xml";

/// The page, and below its path the files that it loads. libprocess compresses what is longer
/// than 1 KiB.
const FILES: &[File] = files! {
    "index.html": HTML,
    "agents.js": SCRIPT,
    "api.js": SCRIPT,
    "changes.js": SCRIPT,
    "dom.js": SCRIPT,
    "icon.svg": ICON,
    "main.js": SCRIPT,
    "names.js": SCRIPT,
    "networks.js": SCRIPT,
    "page.css": STYLE,
    "search.js": SCRIPT,
    "tables.js": SCRIPT,
    "tasks.js": SCRIPT,
};

/// Returns the page, or a redirection to its path without a slash at the end: the page names its
/// files relative to that path, so that it also works below the path of a proxy.
pub fn page(request: &Request) -> Response {
    let slashes = request.path.len() - request.path.trim_end_matches('/').len();
    if slashes == 0 {
        return file("index.html", request);
    }
    let mut response = Response::text(308, "The page has no slash at the end of its path.");
    let location = format!("{}ui", "../".repeat(slashes));
    response.headers.push(("Location", location));
    response
}

/// Returns a file of the page, or 404.
pub fn file(name: &str, request: &Request) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        let name = quote(name);
        return Response::text(404, &format!("The page {PATH} has no file {name}."));
    };
    let mut response = Response::ok(file.content_type, file.content);
    let policy = [
        ("Content-Security-Policy", POLICY),
        ("Referrer-Policy", "same-origin"),
        ("X-Frame-Options", "DENY"),
    ];
    let policy = policy.map(|(name, value)| (name, value.to_owned()));
    response.headers.extend(policy);
    let known = request.headers.if_none_match.as_deref();
    Version::of(file.content.as_bytes()).apply(known, response)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libprocess compresses an answer only if it is not sent from a file.
    const LARGE: usize = 64 << 10;

    #[test]
    fn the_page_is_small() {
        let sizes = FILES.iter().map(|file| file.content.len());
        assert!(sizes.clone().all(|size| (1..LARGE).contains(&size)));
        assert!(sizes.sum::<usize>() < 150_000);
    }

    #[test]
    fn every_file_is_named_by_another_one() {
        for file in FILES.iter().filter(|file| file.name != "index.html") {
            let is_named = |other: &File| {
                let html = format!("\"ui/{}\"", file.name);
                let script = format!("'./{}'", file.name);
                other.content.contains(&html) || other.content.contains(&script)
            };
            assert!(FILES.iter().any(is_named), "{}", file.name);
        }
    }

    /// The policy forbids inline scripts and styles, and strings become text, not HTML.
    #[test]
    fn nothing_is_inline_and_nothing_becomes_html() {
        for file in FILES {
            let name = file.name;
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "createContextualFragment",
                "DOMParser",
                " style=",
                "<style",
                " onclick=",
                "javascript:",
                "http://",
                "https://",
            ] {
                let svg = "http://www.w3.org/2000/svg";
                let content = file.content.replace(svg, "");
                assert!(!content.contains(forbidden), "{name} has {forbidden}");
            }
        }
        let html = FILES.iter().find(|file| file.name == "index.html").unwrap();
        let scripts: Vec<_> = html.content.match_indices("<script").collect();
        assert_eq!(scripts.len(), 1);
        assert!(html.content.contains("src=\"ui/main.js\"></script>"));
    }
}
