//! Configuration files in the pages, and what the product says of them.

use crate::page::{Block, Page};
use crate::product;

/// A file that is called good is accepted without a warning, and one that is called bad is not.
pub fn check(page: &Page, block: &Block) {
    let (verdict, file) = block.mark.split_once(' ').unwrap();
    let (errors, warnings) = product::read_config(file, &page.body(block));
    let good = errors.is_empty() && warnings.is_empty();
    let at = format!("{}:{}", page.path, block.lines.start + 1);
    assert_eq!(good, verdict == "good", "{at}: {errors:?} {warnings:?}");
}

/// Returns the errors of the product for the last file before this block.
pub fn errors(page: &Page, block: &Block) -> String {
    let mut before = page
        .blocks()
        .into_iter()
        .filter(|other| other.lines.end < block.lines.start);
    let file = before.rfind(|other| other.mark.starts_with("bad "));
    let file = file.unwrap_or_else(|| panic!("{}: no file before the errors", page.path));
    let (errors, warnings) = product::read_config(&file.mark["bad ".len()..], &page.body(&file));
    errors
        .into_iter()
        .chain(warnings)
        .map(|line| line + "\n")
        .collect()
}
