//! Sentences of the product that no scenario produces: the source that says them must have their
//! words.

use std::fs;

use crate::page::{self, Block, Page};

/// Asserts that the source `file` has every piece of the block's text. `…` separates the pieces
/// and stands for what the product fills in.
pub fn check(page: &Page, block: &Block, file: &str) {
    let source = fs::read_to_string(page::workspace().join(file))
        .unwrap_or_else(|error| panic!("{file}: {error}"));
    let body = page.body(block);
    let missing = missing(&body, &source);
    assert!(
        missing.is_empty(),
        "{}:{}: {file} does not say {missing:?}",
        page.path,
        block.lines.start + 1
    );
}

/// Returns the pieces of `text` that `source` lacks.
fn missing<'t>(text: &'t str, source: &str) -> Vec<&'t str> {
    let source = join_literals(source);
    let pieces = text.lines().flat_map(|line| line.split('…')).map(str::trim);
    pieces.filter(|piece| !source.contains(piece)).collect()
}

/// Joins string literals that continue on the next line, as Rust and C++ write them.
fn join_literals(source: &str) -> String {
    let mut joined = String::new();
    for line in source.lines().map(str::trim) {
        if joined.ends_with('\\') {
            joined.pop();
        } else if joined.ends_with('"') && line.starts_with('"') {
            joined.pop();
            joined.push_str(&line[1..]);
            continue;
        } else {
            joined.push('\n');
        }
        joined.push_str(line);
    }
    joined
}

#[test]
fn finds_words_that_the_source_does_not_say() {
    let rust = "format!(\n    \"network {name} is \\\n     kept: {}\",\n)";
    assert!(missing("network … is kept: …\n", rust).is_empty());
    assert_eq!(missing("network … was kept: …\n", rust), ["was kept:"]);
    let cpp = "return \"a \" + path + \" and \"\n  \"b\";";
    assert!(missing("a … and b\n", cpp).is_empty());
    assert_eq!(missing("a … or b", cpp), ["or b"]);
}
