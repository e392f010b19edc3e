//! The table of HTTP endpoints: dispatch of requests, the paths that are registered with Mesos,
//! and `/help` all follow from the one table of each role.

use super::forgery;
use super::limits::MAX_BODY;
use crate::{Request, Response};

/// An HTTP endpoint. `R` is the role's enum of operations.
#[derive(Debug)]
pub struct Endpoint<R: 'static> {
    /// The whole path. One that ends in [`NAME`] matches all paths with one more segment there.
    pub path: &'static str,
    /// The operations by method. `GET` serves `HEAD` as well.
    pub methods: &'static [(&'static str, R)],
    /// The users that may send requests.
    pub access: Access,
    /// The purpose, in a few words.
    pub title: &'static str,
    /// Input, output and errors, as Markdown for operators.
    pub help: &'static str,
}

/// End of a path whose last segment is a name.
pub const NAME: &str = "/<name>";

/// Users that an endpoint is for, where Mesos authenticates HTTP requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Unauthenticated users, too. The answer contains nothing confidential, as with Mesos's
    /// `/health`.
    Anyone,
    /// Users who may read. All users, unless `authenticate_http` is `all`.
    Readers,
    /// Users who may change the state.
    Writers,
}

impl<R> Endpoint<R> {
    /// Returns the name in `path`, which is empty if the endpoint has none, or `None` if `path`
    /// is not this endpoint's.
    fn match_path<'p>(&self, path: &'p str) -> Option<&'p str> {
        let Some(parent) = self.path.strip_suffix(NAME) else {
            return (path == self.path).then_some("");
        };
        let name = path.strip_prefix(parent)?.strip_prefix('/')?;
        (!name.is_empty() && !name.contains('/')).then_some(name)
    }

    fn operation(&self, method: &str) -> Option<R>
    where
        R: Copy,
    {
        let method = if method == "HEAD" { "GET" } else { method };
        self.methods
            .iter()
            .find(|(known, _)| *known == method)
            .map(|(_, operation)| *operation)
    }

    /// Returns the value of the `Allow` header.
    fn allow(&self) -> String {
        let methods = self.methods.iter().map(|(method, _)| {
            if *method == "GET" {
                "GET, HEAD"
            } else {
                method
            }
        });
        methods.collect::<Vec<_>>().join(", ")
    }
}

/// A request's destination in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteMatch<'r, R> {
    /// The operation.
    pub operation: R,
    /// The name in the path, not percent-decoded; empty if the endpoint has none.
    pub name: &'r str,
}

/// Returns the operation that the request's path and method name.
///
/// # Errors
/// 404 for an unknown path, 405 for a method that the endpoint does not support, 413 for a body
/// of more than [`MAX_BODY`] bytes. 403 and 415 for a request that would change something, as
/// [`forgery::check`] says.
pub fn route<'r, R: Copy>(
    table: &[Endpoint<R>],
    request: &'r Request,
) -> Result<RouteMatch<'r, R>, Response> {
    let path = request.path.trim_end_matches('/');
    let found = table
        .iter()
        .find_map(|endpoint| Some((endpoint, endpoint.match_path(path)?)));
    let Some((endpoint, name)) = found else {
        let paths: Vec<_> = table.iter().map(|endpoint| endpoint.path).collect();
        return Err(Response::not_found(&request.path, &paths));
    };
    if request.body.len() > MAX_BODY {
        return Err(Response::content_too_large(MAX_BODY));
    }
    let Some(operation) = endpoint.operation(&request.method) else {
        return Err(Response::method_not_allowed(&endpoint.allow()));
    };
    if !["GET", "HEAD"].contains(&request.method.as_str()) {
        forgery::check(request)?;
    }
    Ok(RouteMatch { operation, name })
}

/// A path that the module registers with libprocess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// The path below the process id.
    pub path: &'static str,
    /// The paths below `path` belong to it as well.
    pub includes_subpaths: bool,
    /// The users that may send requests.
    pub access: Access,
    /// The help page: Markdown with the headings of Mesos's own pages.
    pub help: String,
}

/// Returns the paths of the process `id`. An endpoint with a name in its path is part of the path
/// above it. Mesos authenticates by path, so the stricter access of both applies.
pub fn route_specs<R>(id: &str, table: &'static [Endpoint<R>]) -> Vec<RouteSpec> {
    let mut specs: Vec<RouteSpec> = Vec::new();
    for endpoint in table {
        let below = endpoint.path.trim_start_matches('/').trim_start_matches(id);
        let (path, includes_subpaths) = below
            .strip_suffix(NAME)
            .map_or((below, false), |path| (path, true));
        match specs.iter_mut().find(|earlier| earlier.path == path) {
            Some(earlier) => {
                earlier.includes_subpaths |= includes_subpaths;
                earlier.access = earlier.access.max(endpoint.access);
                earlier.help +=
                    &format!("\n### `{}` ###\n{}\n", endpoint.path, description(endpoint));
            }
            None => specs.push(RouteSpec {
                path,
                includes_subpaths,
                access: endpoint.access,
                help: help_page(id, endpoint),
            }),
        }
    }
    specs
}

fn description<R>(endpoint: &Endpoint<R>) -> String {
    format!("{}. {}", endpoint.allow(), endpoint.help)
}

/// Returns a help page with the headings of Mesos's own pages. (Mesos puts the path before it,
/// and breaks lines where the text does.)
fn help_page<R>(id: &str, endpoint: &Endpoint<R>) -> String {
    let host = id.trim_start_matches("overlay-");
    let realm = |kind| {
        format!(
            "in the realm `mesos-{host}-{kind}`, if Mesos authenticates there and `authenticate_http` in \
             `{host}_config` is "
        )
    };
    let authentication = match endpoint.access {
        Access::Anyone => "Never.".to_owned(),
        Access::Readers => format!("Required {}`all`.", realm("readonly")),
        Access::Writers => format!(
            "Required {}`writes` (the default) or `all`.",
            realm("readwrite")
        ),
    };
    format!(
        "### TL;DR; ###\n{}\n\n### DESCRIPTION ###\n{}\n\n### AUTHENTICATION ###\n{authentication}\n",
        endpoint.title,
        description(endpoint),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use super::*;
    use crate::RequestId;
    use crate::protocol::http::RequestHeaders;

    const fn endpoint(
        path: &'static str,
        methods: &'static [(&'static str, u8)],
        access: Access,
    ) -> Endpoint<u8> {
        Endpoint {
            path,
            methods,
            access,
            title: "A title.",
            help: "Some help.",
        }
    }

    const TABLE: &[Endpoint<u8>] = &[
        endpoint("/p/read", &[("GET", 1)], Access::Readers),
        endpoint("/p/things", &[("GET", 2), ("POST", 3)], Access::Readers),
        endpoint("/p/things/<name>", &[("PUT", 4)], Access::Writers),
    ];

    fn request(method: &str, path: &str) -> Request {
        Request {
            id: RequestId(1),
            method: method.to_owned(),
            path: path.to_owned(),
            query: BTreeMap::new(),
            accept: None,
            headers: RequestHeaders::default(),
            body: Bytes::new(),
        }
    }

    fn send(method: &str, path: &str) -> Result<(u8, String), (u16, String)> {
        route(TABLE, &request(method, path))
            .map(|matched| (matched.operation, matched.name.to_owned()))
            .map_err(|r| {
                (
                    r.status,
                    r.headers.iter().map(|(_, value)| value.as_str()).collect(),
                )
            })
    }

    #[test]
    fn requests_find_their_endpoint() {
        assert_eq!(send("GET", "/p/read"), Ok((1, String::new())));
        assert_eq!(send("HEAD", "/p/read/"), Ok((1, String::new())));
        assert_eq!(send("POST", "/p/things"), Ok((3, String::new())));
        assert_eq!(send("PUT", "/p/things/a%20b"), Ok((4, "a%20b".to_owned())));
        assert_eq!(send("PUT", "/p/read"), Err((405, "GET, HEAD".to_owned())));
        assert_eq!(
            send("DELETE", "/p/things"),
            Err((405, "GET, HEAD, POST".to_owned()))
        );
        for path in [
            "",
            "/",
            "/p",
            "/p/rea",
            "/p/read/x",
            "/p/things/a/b",
            "//p/read",
            "/p/thingsa",
        ] {
            assert_eq!(send("GET", path), Err((404, String::new())), "{path}");
        }
    }

    #[test]
    fn requests_of_foreign_pages_read_but_change_nothing() {
        for (method, path, status) in [
            ("GET", "/p/things", None),
            ("HEAD", "/p/things", None),
            ("POST", "/p/things", Some(403)),
            ("PUT", "/p/things/a", Some(403)),
        ] {
            let request = Request {
                headers: RequestHeaders {
                    origin: Some("http://evil.example".to_owned()),
                    ..RequestHeaders::default()
                },
                ..request(method, path)
            };
            let refused = route(TABLE, &request).err().map(|response| response.status);
            assert_eq!(refused, status, "{method} {path}");
        }
    }

    #[track_caller]
    fn check_table<R>(id: &str, table: &[Endpoint<R>]) {
        for Endpoint {
            path,
            methods,
            access,
            title,
            help,
        } in table
        {
            assert!(
                path.starts_with(&format!("/{id}/")) && !path.ends_with('/'),
                "{path}"
            );
            assert!(
                !methods.is_empty() && title.ends_with('.') && help.ends_with('.'),
                "{path}"
            );
            let reads_only = methods.iter().all(|(method, _)| *method == "GET");
            assert!(
                reads_only || *access == Access::Writers,
                "{path} changes something and is open to readers"
            );
        }
    }

    #[test]
    fn only_writers_change_something() {
        check_table(crate::MASTER_ID, crate::master::endpoints::ENDPOINTS);
        check_table(crate::AGENT_ID, crate::agent::endpoints::ENDPOINTS);
    }

    #[test]
    fn a_path_with_a_name_is_part_of_the_one_above() {
        let specs = route_specs("p", TABLE);
        let short: Vec<_> = specs
            .iter()
            .map(|a| (a.path, a.includes_subpaths, a.access))
            .collect();
        assert_eq!(
            short,
            [
                ("/read", false, Access::Readers),
                ("/things", true, Access::Writers)
            ]
        );
        assert!(
            specs[1]
                .help
                .contains("### `/p/things/<name>` ###\nPUT. Some help."),
            "{}",
            specs[1].help
        );
    }

    #[test]
    fn a_help_page_says_who_has_to_authenticate() {
        const EACH: &[Endpoint<u8>] = &[
            endpoint("/overlay-agent/a", &[("GET", 1)], Access::Anyone),
            endpoint("/overlay-agent/r", &[("GET", 1)], Access::Readers),
            endpoint("/overlay-agent/w", &[("POST", 1)], Access::Writers),
        ];
        let specs = route_specs("overlay-agent", EACH);
        let ends = [
            ("/a", "### AUTHENTICATION ###\nNever.\n"),
            (
                "/r",
                "### AUTHENTICATION ###\nRequired in the realm `mesos-agent-readonly`, if Mesos authenticates there \
                 and `authenticate_http` in `agent_config` is `all`.\n",
            ),
            (
                "/w",
                "### AUTHENTICATION ###\nRequired in the realm `mesos-agent-readwrite`, if Mesos authenticates there \
                 and `authenticate_http` in `agent_config` is `writes` (the default) or `all`.\n",
            ),
        ];
        for (page, (path, end)) in specs.iter().zip(ends) {
            assert_eq!(page.path, path);
            assert!(
                page.help.starts_with("### TL;DR; ###\nA title.\n"),
                "{}",
                page.help
            );
            assert!(page.help.ends_with(end), "{}", page.help);
        }
    }
}
