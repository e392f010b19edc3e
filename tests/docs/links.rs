//! Links between the Markdown files, and the size of the entry.

use std::collections::BTreeMap;

use crate::page::{self, Page};

/// The entry is read whole; details belong into docs/.
const README_WORDS: usize = 900;

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &Page) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut counts = BTreeMap::new();
    for heading in prose(&page.text).filter(|line| line.starts_with('#')) {
        let text = heading
            .trim_start_matches('#')
            .trim()
            .replace("&lt;", "")
            .replace("&gt;", "");
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let slug = kept.collect::<String>().to_lowercase().replace(' ', "-");
        let count = counts
            .entry(slug.clone())
            .and_modify(|n| *n += 1)
            .or_insert(0);
        anchors.push(if *count == 0 {
            slug
        } else {
            format!("{slug}-{count}")
        });
    }
    anchors
}

/// The lines outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The targets of a page's links: `[text](target)` and `[name]: target`.
fn targets(page: &Page) -> Vec<String> {
    let mut targets = Vec::new();
    for line in prose(&page.text) {
        let inline = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        targets.extend(inline.map(|(target, _)| target.to_owned()));
        if let Some((_, target)) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "))
        {
            targets.push(target.to_owned());
        }
    }
    targets
}

/// Returns the target of a link of `page`: a path in the workspace, and an anchor.
fn resolve(page: &str, target: &str) -> (String, Option<String>) {
    let (path, anchor) = target
        .split_once('#')
        .map_or((target, None), |(p, a)| (p, Some(a.to_owned())));
    if path.is_empty() {
        return (page.to_owned(), anchor);
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                _ = parts
                    .pop()
                    .unwrap_or_else(|| panic!("{page}: {target} leaves the workspace"))
            }
            part => parts.push(part),
        }
    }
    (parts.join("/"), anchor)
}

#[test]
fn relative_links_lead_somewhere() {
    let pages = page::all();
    let by_path: BTreeMap<&str, &Page> = pages
        .iter()
        .map(|page| (page.path.as_str(), page))
        .collect();
    let mut broken = Vec::new();
    for page in &pages {
        for target in targets(page)
            .iter()
            .filter(|target| !target.contains("://"))
        {
            let (path, anchor) = resolve(&page.path, target);
            let exists = path.is_empty() || page::workspace().join(&path).exists();
            let found = anchor.is_none_or(|anchor| {
                by_path
                    .get(path.as_str())
                    .is_some_and(|page| anchors(page).contains(&anchor))
            });
            if !exists || !found {
                broken.push(format!("{}: {target}", page.path));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "links that lead nowhere:\n{}",
        broken.join("\n")
    );
}

/// Paths of the source in backticks, as in `crates/core/src/lib.rs`, name files that exist.
#[test]
fn paths_of_the_source_exist() {
    const ROOTS: [&str; 9] = [
        "benches/",
        "cpp_shim/",
        "crates/",
        "fuzz/",
        "include/",
        "src/",
        "testbed/",
        "tests/",
        "xtask/",
    ];
    let mut missing = Vec::new();
    for page in page::all() {
        for path in page.text.split('`').skip(1).step_by(2) {
            let is_path = ROOTS.iter().any(|root| path.starts_with(root))
                && !path.contains(['*', '{', '<', ' ', '…']);
            if is_path && !page::workspace().join(path).exists() {
                missing.push(format!("{}: {path}", page.path));
            }
        }
    }
    assert!(
        missing.is_empty(),
        "paths that do not exist:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_page_is_in_the_index() {
    for (index, folder) in [
        ("docs/README.md", "docs/"),
        ("docs/dev/README.md", "docs/dev/"),
    ] {
        let index = page::read(index);
        let linked: Vec<_> = targets(&index)
            .iter()
            .map(|target| resolve(&index.path, target).0)
            .collect();
        for page in page::all() {
            let Some(name) = page.path.strip_prefix(folder) else {
                continue;
            };
            if !name.contains('/') && page.path != index.path {
                assert!(
                    linked.contains(&page.path),
                    "{} does not link {}",
                    index.path,
                    page.path
                );
            }
        }
    }
}

/// The label of a link to a heading of the same page, in a list or a line above all headings of
/// the second level, is that heading. So a reader finds it by searching for the words.
#[test]
fn labels_of_a_page_s_index_are_its_headings() {
    let mut wrong = Vec::new();
    for page in page::all()
        .iter()
        .filter(|page| page.path.starts_with("docs/"))
    {
        wrong.extend(wrong_labels(page));
    }
    assert!(
        wrong.is_empty(),
        "labels that differ from headings:\n{}",
        wrong.join("\n")
    );
    let page = page::read("docs/troubleshooting.md");
    let headings = prose(&page.text).filter(|line| line.starts_with("## "));
    assert_eq!(
        index(&page).len(),
        headings.count(),
        "symptoms in the index"
    );
}

/// The links to headings of the page itself that are above its second heading: label and anchor.
fn index(page: &Page) -> Vec<(&str, &str)> {
    let lines = prose(&page.text).take_while(|line| !line.starts_with("## "));
    let links = lines.filter_map(|line| line.strip_prefix("* [")?.split_once("](#"));
    links
        .filter_map(|(label, rest)| Some((label, rest.split_once(')')?.0)))
        .collect()
}

fn wrong_labels(page: &Page) -> Vec<String> {
    let headings: Vec<&str> = prose(&page.text)
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim())
        .collect();
    let anchors = anchors(page);
    let is_wrong = |(label, anchor): &(&str, &str)| {
        let at = anchors.iter().position(|known| known == anchor);
        at.is_none_or(|at| headings[at] != *label)
    };
    let wrong = index(page).into_iter().filter(is_wrong);
    wrong
        .map(|(label, anchor)| format!("{}: [{label}](#{anchor})", page.path))
        .collect()
}

#[test]
fn a_label_that_differs_from_its_heading_is_found() {
    let text = "# P\n* [A `b`](#a-b)\n* [C](#c-d)\n\n## A `b`\n## C d\n* [e](#a-b)\n";
    let page = Page {
        path: "p.md".to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(wrong_labels(&page), ["p.md: [C](#c-d)"]);
}

#[test]
fn the_entry_is_short() {
    let words = page::read("README.md").text.split_whitespace().count();
    assert!(words <= README_WORDS, "README.md has {words} words");
}

#[test]
fn anchors_are_those_of_github() {
    let text = "# A `b`: c, d\n## GET /x/&lt;name&gt;\n```\n# no\n```\n## E\n## E\n";
    let page = Page {
        path: "p.md".to_owned(),
        text: text.to_owned(),
    };
    assert_eq!(anchors(&page), ["a-b-c-d", "get-xname", "e", "e-1"]);
    assert_eq!(
        resolve("docs/a.md", "../x/y.md#z"),
        ("x/y.md".to_owned(), Some("z".to_owned()))
    );
}
