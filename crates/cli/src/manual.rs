//! Manual pages and completions of shells, made from the description of the command line.
//!
//! Packages contain them, so packaging runs this; no help text mentions it.

use std::ffi::OsStr;
use std::fs;
use std::io::Result;
use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

/// First argument that makes the program write its manual pages and completions into the directory
/// that follows.
pub const ARGUMENT: &str = "--write-manual";

/// Beginning of an item of a list in a help text, in the language of manual pages. It would continue
/// the line before.
const ITEM: &str = "\n\\- ";
const ITEM_ON_ITS_LINE: &str = "\n.br\n\\- ";

/// Last section of each page.
const SEE_ALSO: &str = "\
.SH \"SEE ALSO\"
\\fBmesos\\-overlay\\fR(1), \\fBmesos\\-overlay\\-cleanup\\fR(1), \\fBmesos\\-overlay\\-salvage\\fR(1)
.PP
\\fI/usr/share/doc/mesos\\-overlay/docs\\fR: installation, configuration, operations
";

/// Returns the directory for manual pages and completions, if the arguments behind the program's
/// name ask for them.
pub fn requested<'a>(arguments: &[&'a OsStr]) -> Option<&'a Path> {
    match arguments {
        [first, directory] if *first == ARGUMENT => Some(Path::new(*directory)),
        _ => None,
    }
}

/// Writes the manual pages `mesos-overlay.1` and `mesos-overlay-<command>.1`, and the completions
/// for bash, fish and zsh, into a directory.
///
/// # Errors
/// A file cannot be written.
pub fn write(command: Command, directory: &Path) -> Result<()> {
    let name = command.get_name().to_owned();
    let mut completed = command.clone();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        generate_to(shell, &mut completed, &name, directory)?;
    }
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let commands: Vec<Command> = command.get_subcommands().cloned().collect();
    for page in commands.into_iter().chain([command]) {
        let man = Man::new(page)
            .manual("mesos-overlay")
            .source(concat!("mesos-overlay ", env!("CARGO_PKG_VERSION")));
        let mut text = Vec::new();
        man.render(&mut text)?;
        let text = String::from_utf8_lossy(&text).replace(ITEM, ITEM_ON_ITS_LINE);
        fs::write(directory.join(man.get_filename()), text + SEE_ALSO)?;
    }
    Ok(())
}
