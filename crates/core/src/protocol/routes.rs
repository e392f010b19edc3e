//! What an HTTP endpoint is: the one table of each role says which there are, and
//! requests, Mesos's routes and `/help` all come from it.

use crate::{Request, Response};

/// An HTTP endpoint. `A` is what a request for it asks of the machine.
#[derive(Debug)]
pub struct Endpoint<A: 'static> {
    /// The whole path. One that ends in [`NAME`] stands for all paths with one more
    /// part there.
    pub path: &'static str,
    /// What there is to ask, by method. `GET` goes for `HEAD`, too.
    pub methods: &'static [(&'static str, A)],
    /// Whom it is for.
    pub access: Access,
    /// What it is for, in a few words.
    pub title: &'static str,
    /// What goes in, what comes out, and the errors; Markdown for operators.
    pub help: &'static str,
}

/// The end of a path whose last part is the name of something.
pub const NAME: &str = "/<name>";

/// Whom an endpoint is for, where Mesos authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Everybody: it tells nothing that an operator would hide, as Mesos's own
    /// `/health` does.
    Anyone,
    /// Those who may read; everybody, unless the operator wants it otherwise.
    Readers,
    /// Those who may change something.
    Writers,
}

impl<A> Endpoint<A> {
    /// The name in this path: empty if the endpoint has none. `None`: the path is
    /// not this endpoint's.
    fn name_in<'p>(&self, path: &'p str) -> Option<&'p str> {
        let Some(parent) = self.path.strip_suffix(NAME) else {
            return (path == self.path).then_some("");
        };
        let name = path.strip_prefix(parent)?.strip_prefix('/')?;
        (!name.is_empty() && !name.contains('/')).then_some(name)
    }

    fn asked(&self, method: &str) -> Option<A>
    where
        A: Copy,
    {
        let method = if method == "HEAD" { "GET" } else { method };
        self.methods
            .iter()
            .find(|(known, _)| *known == method)
            .map(|(_, asked)| *asked)
    }

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

/// What the request asks for, and the name in its path (as it stands there, not
/// decoded).
///
/// # Errors
/// The answer to a request for nothing that there is.
pub fn asked<'r, A: Copy>(
    table: &[Endpoint<A>],
    request: &'r Request,
) -> Result<(A, &'r str), Response> {
    let path = request.path.trim_end_matches('/');
    let found = table
        .iter()
        .find_map(|endpoint| Some((endpoint, endpoint.name_in(path)?)));
    let Some((endpoint, name)) = found else {
        let paths: Vec<_> = table.iter().map(|endpoint| endpoint.path).collect();
        return Err(Response::not_found(&request.path, &paths));
    };
    match endpoint.asked(&request.method) {
        Some(asked) => Ok((asked, name)),
        None => Err(Response::method_not_allowed(&endpoint.allow())),
    }
}

/// An endpoint as a driver announces it to Mesos: one path, and all below it if
/// those are ours as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Below the process id.
    pub path: &'static str,
    /// Whether paths below it belong to it.
    pub tree: bool,
    /// Whom it is for.
    pub access: Access,
    /// For operators, as Markdown, in the form of Mesos's own help.
    pub help: String,
}

/// The table of the process `id` as it is announced. A path with a name in it goes
/// with the path above: authentication is by path, so what is above is as strict.
pub fn announce<A>(id: &str, table: &'static [Endpoint<A>]) -> Vec<Announced> {
    let mut announced: Vec<Announced> = Vec::new();
    for endpoint in table {
        let below = endpoint.path.trim_start_matches('/').trim_start_matches(id);
        let (path, tree) = below
            .strip_suffix(NAME)
            .map_or((below, false), |path| (path, true));
        match announced.iter_mut().find(|earlier| earlier.path == path) {
            Some(earlier) => {
                earlier.tree |= tree;
                earlier.access = earlier.access.max(endpoint.access);
                earlier.help +=
                    &format!("\n### `{}` ###\n{}\n", endpoint.path, description(endpoint));
            }
            None => {
                let help = page(id, endpoint);
                announced.push(Announced {
                    path,
                    tree,
                    access: endpoint.access,
                    help,
                });
            }
        }
    }
    announced
}

fn description<A>(endpoint: &Endpoint<A>) -> String {
    format!("{}. {}", endpoint.allow(), endpoint.help)
}

/// A page of help, with the headings of Mesos's own ones. (Mesos puts the path before
/// it, and breaks lines where the text does.)
fn page<A>(id: &str, endpoint: &Endpoint<A>) -> String {
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

    fn ask(method: &str, path: &str) -> Result<(u8, String), (u16, String)> {
        let request = Request {
            id: RequestId(1),
            method: method.to_owned(),
            path: path.to_owned(),
            query: BTreeMap::new(),
            accept: None,
            body: Bytes::new(),
        };
        asked(TABLE, &request)
            .map(|(asked, name)| (asked, name.to_owned()))
            .map_err(|r| {
                (
                    r.status,
                    r.headers.iter().map(|(_, value)| value.as_str()).collect(),
                )
            })
    }

    #[test]
    fn requests_find_their_endpoint() {
        assert_eq!(ask("GET", "/p/read"), Ok((1, String::new())));
        assert_eq!(ask("HEAD", "/p/read/"), Ok((1, String::new())));
        assert_eq!(ask("POST", "/p/things"), Ok((3, String::new())));
        assert_eq!(ask("PUT", "/p/things/a%20b"), Ok((4, "a%20b".to_owned())));
        assert_eq!(ask("PUT", "/p/read"), Err((405, "GET, HEAD".to_owned())));
        assert_eq!(
            ask("DELETE", "/p/things"),
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
            assert_eq!(ask("GET", path), Err((404, String::new())), "{path}");
        }
    }

    #[track_caller]
    fn check_table<A>(id: &str, table: &[Endpoint<A>]) {
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
    fn whatever_changes_something_is_for_writers() {
        check_table(crate::MASTER_ID, crate::master::endpoints::ENDPOINTS);
        check_table(crate::AGENT_ID, crate::agent::endpoints::ENDPOINTS);
    }

    #[test]
    fn a_path_with_a_name_goes_with_the_one_above() {
        let announced = announce("p", TABLE);
        let short: Vec<_> = announced
            .iter()
            .map(|a| (a.path, a.tree, a.access))
            .collect();
        assert_eq!(
            short,
            [
                ("/read", false, Access::Readers),
                ("/things", true, Access::Writers)
            ]
        );
        assert!(
            announced[1]
                .help
                .contains("### `/p/things/<name>` ###\nPUT. Some help."),
            "{}",
            announced[1].help
        );
    }

    #[test]
    fn a_page_of_help_says_who_has_to_authenticate() {
        const EACH: &[Endpoint<u8>] = &[
            endpoint("/overlay-agent/a", &[("GET", 1)], Access::Anyone),
            endpoint("/overlay-agent/r", &[("GET", 1)], Access::Readers),
            endpoint("/overlay-agent/w", &[("POST", 1)], Access::Writers),
        ];
        let announced = announce("overlay-agent", EACH);
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
        for (page, (path, end)) in announced.iter().zip(ends) {
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
