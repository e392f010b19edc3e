//! `mesos-overlay diags`: an archive for a bug report.

mod bundle;
mod command;
mod redact;
mod secrets;
mod sources;
mod time;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;

use crate::connection::ConnectionOptions;
use crate::finding::Finding;
use crate::output::page::{DIM, Page, count, styled};
use crate::output::progress::Progress;
use crate::output::{Failure, OutputOptions, Report, finish};
use bundle::Bundle;
use command::Tools;
use sources::{Collector, Mesos};

/// Collects an archive for a bug report.
///
/// It has the reports of this program, the answers of the leading master and of Mesos on this
/// host, the network of this host, and the modules' lines in Mesos's logs. Secrets are removed, and
/// a manifest says what is in it and what is not. Nothing is changed on the host, and nothing is
/// sent anywhere. What only root can read is left out for others.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mesos-overlay diags
  mesos-overlay diags --list
  mesos-overlay diags --file /tmp/agent7.tar.gz --since 2h")]
pub struct Options {
    /// Archive to write, which must not exist. Without this option: a file with the name of the
    /// host and the time, in the working directory.
    #[arg(long, value_name = "NAME.tar.gz", verbatim_doc_comment)]
    file: Option<PathBuf>,
    /// Age of the oldest lines of logs: a number and s, m, h or d. Older files are left out.
    #[arg(long, value_name = "AGE", default_value = "24h", value_parser = time::duration)]
    since: u64,
    /// Leave the logs out.
    #[arg(long)]
    no_logs: bool,
    /// Print what the archive would have, and write nothing.
    #[arg(long, conflicts_with = "file")]
    list: bool,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Archive for a bug report.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Diagnostics {
    /// Path of the archive; absent with `--list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Size of the archive in bytes; absent with `--list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// What it has, as in its `manifest.json`.
    manifest: Bundle,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    finish(options.output, collect(options))
}

fn collect(options: &Options) -> Result<Diagnostics, Failure> {
    let host = host();
    let stamp = time::stamp(time::now());
    let file = options.file.clone();
    let file = file.unwrap_or_else(|| format!("mesos-overlay-diags-{host}-{stamp}.tar.gz").into());
    let exists = || format!("{} exists already; name another file", file.display());
    if !options.list && fs::symlink_metadata(&file).is_ok() {
        return Err(exists().into());
    }
    let mesos = Mesos::look(&options.connection);
    let redactor = secrets::redactor(&options.connection, &mesos);
    let mut manifest = Bundle::new(host, stamp, redactor);
    let progress = Progress::new("collecting", 0);
    Collector {
        bundle: &mut manifest,
        mesos: &mesos,
        connection: &options.connection,
        since: (!options.no_logs).then_some(options.since),
        tools: Tools::new(sources::TOOLS_LIMIT),
        progress: &progress,
    }
    .collect();
    drop(progress);
    if options.list {
        return Ok(Diagnostics {
            file: None,
            size: None,
            manifest,
        });
    }
    let size = manifest.write(&file).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(),
        _ => format!("cannot write {}: {error}", file.display()),
    })?;
    Ok(Diagnostics {
        file: Some(file.display().to_string()),
        size: Some(size),
        manifest,
    })
}

/// Returns the name of this host, as a part of a file's name.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let name: String = name.chars().filter(is_plain).take(64).collect();
    match name.trim_start_matches('.') {
        "" => "host".to_owned(),
        name => name.to_owned(),
    }
}

impl Report for Diagnostics {
    const COMMAND: &'static str = "diags";
    const EXAMINES: bool = false;

    fn findings(&self) -> &[Finding] {
        &[]
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        let manifest = &self.manifest;
        if self.file.is_none() {
            let rows = manifest.entries.iter().map(|entry| {
                vec![
                    entry.name.clone(),
                    entry.size.to_string(),
                    entry.what.clone(),
                ]
            });
            page.table(&["FILE", "BYTES", "WHAT"], &[1], rows)?;
        }
        if !manifest.left_out.is_empty() {
            page.heading("Left out")?;
        }
        for left_out in &manifest.left_out {
            let reason = styled(DIM, &left_out.reason);
            page.line(format_args!("{}: {reason}", left_out.what))?;
        }
        page.line("")?;
        let redacted: usize = manifest.entries.iter().map(|entry| entry.redacted).sum();
        let files = count(manifest.entries.len(), "file");
        let removed = format!("secrets were removed in {}", count(redacted, "place"));
        match (&self.file, self.size) {
            (Some(file), Some(size)) => {
                page.line(format_args!(
                    "{file}: {files}, {} KB; {removed}.",
                    size.div_ceil(1024)
                ))?;
                page.line("MANIFEST.txt in it says what it has. Look at it before you send it.")
            }
            _ => page.line(format_args!("{files}; {removed}.")),
        }
    }
}
