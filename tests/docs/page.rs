//! The Markdown files of the project, and the fenced blocks in them.

use std::fs;
use std::io::{Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A Markdown file.
pub struct Page {
    /// Relative to the workspace, with `/` between its parts.
    pub path: String,
    pub text: String,
}

/// A fenced block that a comment marks.
pub struct Block {
    /// The text of the comment behind `checked: `.
    pub mark: String,
    /// Indices of the lines between the fences.
    pub lines: Range<usize>,
    /// The white space before the fence.
    pub indent: String,
}

/// The directory of the workspace, which is that of the package with this test.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of the workspace, but for what is built or fetched.
pub fn all() -> Vec<Page> {
    let mut files = Vec::new();
    collect(workspace(), &mut files);
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let path = file
                .strip_prefix(workspace())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            Page {
                path,
                text: fs::read_to_string(file).unwrap(),
            }
        })
        .collect()
}

/// A page by its path in the workspace.
pub fn read(path: &str) -> Page {
    let text = fs::read_to_string(workspace().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    Page {
        path: path.to_owned(),
        text,
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap_or_default();
        let skip = name.starts_with('.') || name == "target";
        if path.is_dir() && !path.is_symlink() && !skip {
            collect(&path, files);
        } else if name.ends_with(".md") {
            files.push(path);
        }
    }
}

impl Page {
    /// The marked blocks, in their order.
    pub fn blocks(&self) -> Vec<Block> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut blocks = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let Some(mark) = line.trim().strip_prefix("<!-- checked: ") else {
                continue;
            };
            let at = format!("{}:{}", self.path, index + 1);
            let mark = mark
                .strip_suffix(" -->")
                .unwrap_or_else(|| panic!("{at}: no end of the comment"));
            let fence = lines.get(index + 1).copied().unwrap_or_default();
            assert!(
                fence.trim_start().starts_with("```"),
                "{at}: no fenced block follows"
            );
            let rest = lines[index + 2..].iter();
            let length = rest.take_while(|line| line.trim() != "```").count();
            blocks.push(Block {
                mark: mark.to_owned(),
                lines: index + 2..index + 2 + length,
                indent: fence[..fence.len() - fence.trim_start().len()].to_owned(),
            });
        }
        blocks
    }

    /// The lines of a block, without its indentation.
    pub fn body(&self, block: &Block) -> String {
        let lines = self
            .text
            .lines()
            .skip(block.lines.start)
            .take(block.lines.len());
        lines
            .map(|line| format!("{}\n", line.strip_prefix(&block.indent).unwrap_or(line)))
            .collect()
    }
}

/// Replaces blocks of a page's file by the bodies that `produce` gives; `None`: it stays. Safe
/// beside other tests that do the same.
pub fn rewrite(path: &str, mut produce: impl FnMut(&Page, &Block) -> Option<String>) {
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .open(workspace().join(path))
        .unwrap();
    file.lock().unwrap();
    let mut page = Page {
        path: path.to_owned(),
        text: String::new(),
    };
    file.read_to_string(&mut page.text).unwrap();
    let mut lines: Vec<String> = page.text.lines().map(str::to_owned).collect();
    for block in page.blocks().into_iter().rev() {
        let Some(body) = produce(&page, &block) else {
            continue;
        };
        let body = body
            .lines()
            .map(|line| format!("{}{line}", block.indent).trim_end().to_owned());
        lines.splice(block.lines.clone(), body.collect::<Vec<_>>());
    }
    let text = lines.join("\n") + "\n";
    if text != page.text {
        file.rewind().unwrap();
        file.set_len(0).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}
