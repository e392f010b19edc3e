//! Links of the pages in packages.

use crate::packages::VERSION;

/// Address of the project's sources.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// Returns the start of the addresses of the sources of this version.
pub fn sources() -> String {
    format!("{REPOSITORY}/blob/v{VERSION}/")
}

/// Returns the targets of the links in a page of Markdown.
pub fn targets(text: &str) -> Vec<&str> {
    let links = text.split("](").skip(1);
    links
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

/// Returns the path that a relative link of the page `page` leads to, without its anchor. `None`: it
/// leads to the page itself or to an address.
pub fn resolve(page: &str, target: &str) -> Option<String> {
    let path = target.split('#').next().unwrap_or_default();
    if path.is_empty() || target.contains("://") {
        return None;
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            ".." => _ = parts.pop(),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Returns the text of a page with addresses instead of links to files that are not among `shipped`.
pub fn shipped(page: &str, text: &str, shipped: &[String]) -> String {
    let mut result = String::new();
    for (index, part) in text.split("](").enumerate() {
        if index == 0 {
            result.push_str(part);
            continue;
        }
        result.push_str("](");
        let target = part.split(')').next().unwrap_or_default();
        match resolve(page, target) {
            Some(path) if !shipped.contains(&path) => {
                let anchor = target.find('#').map_or("", |at| &target[at..]);
                result += &format!("{}{path}{anchor}{}", sources(), &part[target.len()..]);
            }
            _ => result.push_str(part),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_that_are_not_shipped_are_addresses() {
        let text = "[a](b.md#c) [d](#e) [f](../g.md) [h](dev/i.md#j) [k](https://l/m)";
        let all = ["docs/b.md".to_owned(), "g.md".to_owned()];
        let address = sources();
        assert_eq!(
            shipped("docs/a.md", text, &all),
            text.replace("dev/i.md", &format!("{address}docs/dev/i.md"))
        );
    }
}
