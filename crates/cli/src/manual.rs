//! Documents that the program makes of itself: manual pages and completions of shells from the
//! description of the command line, schemas of the JSON output, and the list of findings.
//!
//! Packages and docs contain them, so packaging and a test run this; no help text mentions it.

use std::ffi::OsStr;
use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

use crate::finding::{Severity, kinds};
use crate::schemas;

/// First argument that makes the program write its manual pages and completions into the directory
/// that follows.
const MANUAL: &str = "--write-manual";

/// First argument that makes the program write the schemas of its output and the list of findings
/// into the directory that follows.
const REFERENCE: &str = "--write-reference";

/// File of the list of findings.
const FINDINGS: &str = "findings.md";

/// Beginning of an item of a list in a help text, in the language of manual pages. It would continue
/// the line before.
const ITEM: &str = "\n\\- ";
const ITEM_ON_ITS_LINE: &str = "\n.br\n\\- ";

/// Last lines of each page.
const DOCUMENTATION: &str = "\
.PP
\\fI/usr/share/doc/mesos\\-overlay/docs\\fR: installation, configuration, operations
";

/// Writes the documents that the arguments behind the program's name ask for. `None`: they ask for
/// something else.
pub fn write(command: Command, arguments: &[&OsStr]) -> Option<Result<()>> {
    let [first, directory] = arguments else {
        return None;
    };
    let directory = Path::new(*directory);
    match first.to_str()? {
        MANUAL => Some(write_manual(command, directory)),
        REFERENCE => Some(write_reference(directory)),
        _ => None,
    }
}

/// Writes the manual pages `mesos-overlay.1`, `mesos-overlay-<command>.1` and
/// `mesos-overlay-<command>-<subcommand>.1`, and the completions for bash, fish and zsh.
fn write_manual(command: Command, directory: &Path) -> Result<()> {
    let name = command.get_name().to_owned();
    let mut completed = command.clone();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut completed, &name, directory)?;
    }
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let see_also = see_also(&command);
    let mut pages = vec![command];
    while let Some(page) = pages.pop() {
        pages.extend(page.get_subcommands().cloned());
        let man = Man::new(page)
            .manual("mesos-overlay")
            .source(concat!("mesos-overlay ", env!("CARGO_PKG_VERSION")));
        let mut text = Vec::new();
        man.render(&mut text)?;
        let text = String::from_utf8_lossy(&text).replace(ITEM, ITEM_ON_ITS_LINE);
        fs::write(directory.join(man.get_filename()), text + &see_also)?;
    }
    Ok(())
}

/// Returns the last section of each page: the pages of all commands.
fn see_also(command: &Command) -> String {
    let page = |name: &str| format!("\\fB{}\\fR(1)", name.replace('-', "\\-"));
    let commands = command.get_subcommands();
    let pages = commands.map(|sub| page(&format!("{}-{}", command.get_name(), sub.get_name())));
    let pages: Vec<String> = std::iter::once(page(command.get_name()))
        .chain(pages)
        .collect();
    format!(".SH \"SEE ALSO\"\n{}\n{DOCUMENTATION}", pages.join(", "))
}

/// Writes `<command>.json` for the output of each command, and the list of findings.
fn write_reference(directory: &Path) -> Result<()> {
    for (command, schema) in schemas::all() {
        let text = serde_json::to_string_pretty(&schema)
            .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        let name = format!("{}.json", command.replace(' ', "-"));
        fs::write(directory.join(name), text + "\n")?;
    }
    fs::write(directory.join(FINDINGS), findings())
}

/// Returns the list of findings as a table in Markdown.
fn findings() -> String {
    let mut text = "| code | severity | meaning |\n|---|---|---|\n".to_owned();
    for kind in kinds::all() {
        let severity = match kind.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let page = kind.page();
        let link = page.trim_start_matches("docs/");
        text += &format!(
            "| `{}` | {severity} | [{}]({link}) |\n",
            kind.code, kind.meaning
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Scripts tell findings apart by their codes.
    #[test]
    fn every_kind_of_finding_has_a_code_of_its_own() {
        let mut codes = BTreeSet::new();
        for kind in kinds::all() {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(kind.code.bytes().all(is_plain), "{}", kind.code);
            assert!(codes.insert(kind.code), "{} is there twice", kind.code);
        }
    }
}
