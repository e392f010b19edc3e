//! Compares the marked blocks with what the product says, or rewrites them.

use crate::page::{self, Block, Page};
use crate::{cluster, command, config, source, steady};

/// Runs the commands of a scenario.
pub trait Shell {
    /// The output of one command, with a line break at its end.
    fn run(&mut self, command: &str) -> String;
}

/// Checks the blocks for which `produce` gives a body. `same` compares the block with it.
pub fn check(produce: impl Fn(&Page, &Block) -> Option<String>, same: impl Fn(&str, &str) -> bool) {
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let mut wrong = Vec::new();
    for page in page::all() {
        if update {
            page::rewrite(&page.path, |page, block| {
                produce(page, block).filter(|body| !same(&page.body(block), body))
            });
            continue;
        }
        for block in page.blocks() {
            let Some(body) = produce(&page, &block) else {
                continue;
            };
            let stands = page.body(&block);
            if !same(&stands, &body) {
                let at = format!("{}:{}", page.path, block.lines.start + 1);
                wrong.push(format!("{at} has\n{stands}\nand should have\n{body}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\n{} blocks are out of date; UPDATE_DOCS=1 cargo test --test docs rewrites them",
        wrong.join("\n"),
        wrong.len()
    );
}

/// The body with the output of its commands as it is now.
pub fn play(body: &str, shell: &mut dyn Shell) -> String {
    let mut played = String::new();
    let mut lines = body.lines();
    while let Some(line) = lines.next() {
        let Some(first) = line.strip_prefix("$ ") else {
            continue;
        };
        let mut command = first.to_owned();
        played.push_str(line);
        played.push('\n');
        while command.ends_with('\\') {
            command.pop();
            let Some(next) = lines.next() else { break };
            command.push_str(next.trim());
            played.push_str(next);
            played.push('\n');
        }
        played.push_str(&shell.run(&command));
    }
    played
}

fn produce(page: &Page, block: &Block) -> Option<String> {
    let body = page.body(block);
    match block.mark.as_str() {
        "live" | "bad-start" | "no-engine" => None,
        "program" => Some(play(&body, &mut command::Program)),
        "errors" => Some(config::errors(page, block)),
        mark if mark.starts_with("source ") => {
            source::check(page, block, &mark["source ".len()..]);
            None
        }
        mark if mark.starts_with("good ") || mark.starts_with("bad ") => {
            config::check(page, block);
            None
        }
        scenario => Some(play(&body, &mut cluster::scenario(scenario))),
    }
}

#[test]
fn sample_outputs_are_what_the_product_says() {
    check(produce, |stands, body| {
        steady::log(stands) == steady::log(body)
    });
}

#[test]
fn the_checker_finds_a_block_that_is_out_of_date() {
    let text = "a\n\n<!-- checked: cluster -->\n```console\n$ curl -s http://10.77.0.1:5050/overlay-master/health\nold\n```\n";
    let page = Page {
        path: "p.md".to_owned(),
        text: text.to_owned(),
    };
    let blocks = page.blocks();
    assert_eq!(blocks.len(), 1);
    assert!(page.body(&blocks[0]).ends_with("\nold\n"));
    let body = produce(&page, &blocks[0]).unwrap();
    assert!(
        body.starts_with("$ curl") && body.contains("serving") && !body.contains("old"),
        "{body}"
    );
}
