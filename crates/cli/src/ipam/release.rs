//! `mesos-overlay ipam release`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use overlay_core::util::line::list_first;
use overlay_host::reserved::{Reserved, State, give_back, reserved_if};
use schemars::JsonSchema;
use serde::Serialize;

use super::check::{MasterPart, look_twice};
use super::leaks::{LeakReport, Leaked, Origin};
use super::view::Place;
use crate::change::{ConsentOptions, confirm};
use crate::connection::ConnectionOptions;
use crate::finding::Finding;
use crate::output::page::{self, Page, styled};
use crate::output::{Failure, OutputOptions, Report, finish};
use crate::this_host::ThisHost;

/// Time for which another user of the directory is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// Number of addresses that a sentence names.
const NAMED: usize = 10;

/// Gives leaked addresses of this host back, so that containers can have them.
///
/// Only those of a report that ipam check made on this host in the last ten minutes. Each is
/// examined again, while the plugin host-local is kept from working: an address that a container has
/// or that changed since stays.
///
/// Exit status:
///   0  all leaked addresses of the report are free, or were in use again
///   2  the report cannot be used, it was not confirmed, or wrong usage
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  mesos-overlay ipam check --report /tmp/leaks.json
  mesos-overlay ipam release --report /tmp/leaks.json --dry-run
  mesos-overlay ipam release --report /tmp/leaks.json --yes"
)]
pub struct Options {
    /// Report of mesos-overlay ipam check.
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    #[command(flatten)]
    consent: ConsentOptions,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(flatten)]
    output: OutputOptions,
}

/// Result of `ipam release`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Released {
    /// False if nothing was given back, because of --dry-run.
    done: bool,
    /// Addresses that were given back, or would be.
    released: Vec<Leaked>,
    /// Addresses of the report that are not leaked any more, and stay.
    kept: Vec<Leaked>,
    /// Parts that could not be seen, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    finish(options.output, release(options))
}

fn release(options: &Options) -> Result<Released, Failure> {
    let report = LeakReport::read(&options.report)?;
    let host = ThisHost::look();
    let place = Place::find(&options.connection, &host)?;
    let place = place.ok_or("this is not the host of an agent: nothing names a configuration of the agent module; give --agent-config")?;
    let mut notes = Vec::new();
    let master = MasterPart::ask(&options.connection, &host).ok();
    let agent = place.agent_ip(master.as_ref().map(|master| &master.state));
    let here = Origin::here(agent, place.agent_id(), &place.data_dir)?;
    report.check(&here, SystemTime::now())?;
    let looked = look_twice(&place, master.as_ref(), &mut notes)?;
    let leaked: BTreeSet<Leaked> = looked.compared.leaked.into_iter().collect();
    let (still, mut kept): (Vec<Leaked>, Vec<Leaked>) = report
        .leaked
        .into_iter()
        .partition(|entry| leaked.contains(entry));
    let losses = still_leaked(&still);
    if !confirm(&losses, options.consent, "release")? {
        return Ok(Released {
            done: false,
            released: still,
            kept,
            notes,
        });
    }
    let (released, changed) = give_all_back(&place, still)?;
    kept.extend(changed);
    Ok(Released {
        done: true,
        released,
        kept,
        notes,
    })
}

/// Returns what is given back, one sentence for each overlay.
fn still_leaked(leaked: &[Leaked]) -> Vec<String> {
    by_overlay(leaked)
        .iter()
        .map(|(overlay, leaked)| {
            let addresses: Vec<String> = leaked
                .iter()
                .map(|leaked| leaked.address.to_string())
                .collect();
            format!(
                "{} of {overlay} can be given to containers again: {}",
                count_addresses(addresses.len()),
                list_first(&addresses, NAMED)
            )
        })
        .collect()
}

fn by_overlay(leaked: &[Leaked]) -> BTreeMap<&str, Vec<&Leaked>> {
    let mut overlays: BTreeMap<&str, Vec<&Leaked>> = BTreeMap::new();
    for leaked in leaked {
        overlays.entry(&leaked.overlay).or_default().push(leaked);
    }
    overlays
}

fn count_addresses(number: usize) -> String {
    match number {
        1 => "1 address".to_owned(),
        number => format!("{number} addresses"),
    }
}

/// Gives addresses back. Returns those that were, and those that changed meanwhile.
fn give_all_back(
    place: &Place,
    leaked: Vec<Leaked>,
) -> Result<(Vec<Leaked>, Vec<Leaked>), Failure> {
    let mut given = BTreeSet::new();
    for (overlay, leaked) in by_overlay(&leaked) {
        let dir = place.data_dir.join(overlay);
        let wanted: BTreeSet<&Leaked> = leaked.into_iter().collect();
        let cannot = |error: io::Error| {
            Failure(match error.kind() {
                ErrorKind::PermissionDenied => format!(
                    "only root may give addresses back in {}; try sudo",
                    dir.display()
                ),
                _ => format!("cannot give addresses back in {}: {error}", dir.display()),
            })
        };
        let files = reserved_if(&dir, |_| true).map_err(cannot)?;
        let is_wanted = |file: &&Reserved| {
            Leaked::new(overlay, file).is_some_and(|leaked| wanted.contains(&leaked))
        };
        let files: Vec<Reserved> = files.iter().filter(is_wanted).cloned().collect();
        for ip in give_back_patiently(place, &dir, &files).map_err(cannot)? {
            log::info!("gave {ip} of {overlay} back");
            given.insert((overlay.to_owned(), ip));
        }
    }
    Ok(leaked
        .into_iter()
        .partition(|leaked| given.contains(&(leaked.overlay.clone(), leaked.address))))
}

/// Gives addresses of a directory back, as soon as the plugin does not use it.
fn give_back_patiently(
    place: &Place,
    dir: &Path,
    files: &[Reserved],
) -> io::Result<Vec<std::net::IpAddr>> {
    let deadline = Instant::now() + PATIENCE;
    // A container has its network namespace before the plugin is called, so those that are known
    // while the plugin is kept from working are all that can have an address.
    let is_unknown = |reserved: &Reserved| {
        let known = place.known();
        known.is_ok_and(|known| reserved.state(&known, SystemTime::now()) != State::InUse)
    };
    loop {
        match give_back(dir, files, is_unknown) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(PAUSE)
            }
            done => return done,
        }
    }
}

impl Report for Released {
    const COMMAND: &'static str = "ipam release";
    const EXAMINES: bool = false;

    fn findings(&self) -> &[Finding] {
        &[]
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        for note in &self.notes {
            page.line(format_args!("{} {note}.", styled(page::DIM, "note:")))?;
        }
        let verb = if self.done {
            "Gave back"
        } else {
            "Would give back"
        };
        for Leaked {
            overlay,
            address,
            container,
            ..
        } in &self.released
        {
            let container = overlay_core::util::line::one_line(container, 80);
            page.line(format_args!(
                "{verb} {address} of {overlay} (container {container})"
            ))?;
        }
        for Leaked {
            overlay, address, ..
        } in &self.kept
        {
            page.line(format_args!(
                "Kept {address} of {overlay}: it is not leaked any more"
            ))?;
        }
        let verb = if self.done {
            "given back"
        } else {
            "to give back"
        };
        page.line(format_args!(
            "{} {verb}, {} kept",
            count_addresses(self.released.len()),
            self.kept.len()
        ))
    }
}
