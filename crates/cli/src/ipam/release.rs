//! `mesos-overlay ipam release`.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use overlay_core::util::line::list_first;
use overlay_host::reserved::{Containers, GivenBack, Reserved, State, give_back, reserved_if};
use schemars::JsonSchema;
use serde::Serialize;

use super::check::{MasterPart, look_twice};
use super::leaks::{LeakReport, Leaked, Origin};
use super::view::{Place, known_to_agents};
use crate::change::{ConsentOptions, confirm};
use crate::connection::ConnectionOptions;
use crate::finding::Finding;
use crate::output::page::{self, Page, styled};
use crate::output::{Failure, OutputOptions, Report, finish, refuse};
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
///   2  the report cannot be used, not all could be seen or given back, it was not confirmed, or
///      wrong usage
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
    /// Error that ended it before all were given back.
    #[serde(skip)]
    failure: Option<Failure>,
}

/// Runs the command.
pub fn run(options: &Options) -> ExitCode {
    let mut result = release(options);
    let failure = match &mut result {
        Ok(released) => released.failure.take(),
        Err(_) => None,
    };
    let status = finish(options.output, result);
    match failure {
        Some(Failure(sentence)) => refuse(&sentence),
        None => status,
    }
}

fn release(options: &Options) -> Result<Released, Failure> {
    let report = LeakReport::read(&options.report)?;
    let mut notes = Vec::new();
    let Examined {
        mut place,
        mut still,
    } = examine(options, &report, &mut notes)?;
    let losses = still_leaked(&still);
    let is_confirmed = confirm(&losses, options.consent, "release")?;
    if is_confirmed && !still.is_empty() && !options.consent.yes {
        // The operator may have taken a long time to answer.
        let confirmed: BTreeSet<Leaked> = still.into_iter().collect();
        Examined { place, still } = examine(options, &report, &mut Vec::new())?;
        still.retain(|leaked| confirmed.contains(leaked));
    }
    if !is_confirmed {
        return Ok(Released {
            done: false,
            kept: without(&report.leaked, &still),
            released: still,
            notes,
            failure: None,
        });
    }
    let (released, failure) = give_all_back(&place, &still);
    let kept = match failure {
        Some(failure) if released.is_empty() => return Err(failure),
        Some(_) => without(&report.leaked, &still),
        None => without(&report.leaked, &released),
    };
    Ok(Released {
        done: true,
        released,
        kept,
        notes,
        failure,
    })
}

/// Result of an examination of a report.
struct Examined {
    place: Place,
    /// Addresses of the report that are still leaked.
    still: Vec<Leaked>,
}

/// Examines the report and this host.
///
/// # Errors
/// The report cannot be used, or not all of this host can be seen.
fn examine(
    options: &Options,
    report: &LeakReport,
    notes: &mut Vec<String>,
) -> Result<Examined, Failure> {
    let host = ThisHost::look();
    let place = Place::find(&options.connection, &host)?;
    let place = place.ok_or("this is not the host of an agent: nothing names a configuration of the agent module; give --agent-config")?;
    let master = MasterPart::ask(&options.connection, &host);
    let master = master.map_err(|Failure(sentence)| {
        notes.push(format!("the master was not asked: {sentence}"));
    });
    let master = master.ok();
    let agent = place.agent_ip(master.as_ref().map(|master| &master.state));
    let here = Origin::here(agent, place.agent_id(), &place.data_dir)?;
    report.check(&here, SystemTime::now())?;
    let looked = look_twice(&place, master.as_ref(), notes)?;
    if !looked.sees_containers {
        return Err("the Mesos agent of this host does not say which containers it has, so nothing is given back; try again when it answers at /containers".into());
    }
    let leaked: BTreeSet<Leaked> = looked.compared.leaked.into_iter().collect();
    let still = report.leaked.iter().filter(|entry| leaked.contains(entry));
    Ok(Examined {
        still: still.cloned().collect(),
        place,
    })
}

/// Returns the addresses that are not among others.
fn without(all: &[Leaked], others: &[Leaked]) -> Vec<Leaked> {
    let others: BTreeSet<&Leaked> = others.iter().collect();
    let rest = all.iter().filter(|leaked| !others.contains(leaked));
    rest.cloned().collect()
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

/// Gives addresses back. Returns those that were, and the error that ended it.
fn give_all_back(place: &Place, leaked: &[Leaked]) -> (Vec<Leaked>, Option<Failure>) {
    let mut given = BTreeSet::new();
    let mut failure = None;
    for (overlay, leaked) in by_overlay(leaked) {
        let dir = place.data_dir.join(overlay);
        let result = give_overlay_back(&dir, overlay, &leaked.into_iter().collect());
        let result = result.unwrap_or_else(|error| GivenBack {
            error: Some(error),
            ..GivenBack::default()
        });
        for ip in result.addresses {
            log::info!("gave {ip} of {overlay} back");
            given.insert((overlay.to_owned(), ip));
        }
        if let Some(error) = result.error {
            failure = Some(cannot(&dir, &error));
            break;
        }
    }
    let is_given = |leaked: &&Leaked| given.contains(&(leaked.overlay.clone(), leaked.address));
    (leaked.iter().filter(is_given).cloned().collect(), failure)
}

fn cannot(dir: &Path, error: &io::Error) -> Failure {
    Failure(match error.kind() {
        ErrorKind::PermissionDenied => format!(
            "only root may give addresses back in {}; try sudo",
            dir.display()
        ),
        _ => format!("cannot give addresses back in {}: {error}", dir.display()),
    })
}

/// Gives those addresses of a directory back whose files are as in the report.
fn give_overlay_back(
    dir: &Path,
    overlay: &str,
    wanted: &BTreeSet<&Leaked>,
) -> io::Result<GivenBack> {
    let is_wanted =
        |file: &Reserved| Leaked::new(overlay, file).is_some_and(|leaked| wanted.contains(&leaked));
    let mut files = reserved_if(dir, |_| true)?;
    files.retain(is_wanted);
    give_back_patiently(dir, &files, known_to_agents)
}

/// Gives addresses of a directory back, as soon as the plugin does not use it. Those stay whose
/// containers are known.
fn give_back_patiently(
    dir: &Path,
    files: &[Reserved],
    find_known: impl Fn() -> io::Result<Containers>,
) -> io::Result<GivenBack> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // A container has its network namespace before the plugin is called, so those that are
        // known while the plugin is kept from working are all that can have an address.
        let known = OnceCell::new();
        let is_unknown = |reserved: &Reserved| {
            let known = known.get_or_init(&find_known).as_ref();
            known.is_ok_and(|known| reserved.state(known, SystemTime::now()) != State::InUse)
        };
        let result = give_back(dir, files, is_unknown);
        if let Some(Err(error)) = known.into_inner() {
            return Err(error);
        }
        match result {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Nothing is given back as long as not all containers can be seen.
    #[test]
    fn what_may_be_in_use_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("9.0.0.2");
        fs::write(&path, "gone").unwrap();
        let hour = Duration::from_secs(3600);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - hour).unwrap();
        let files = reserved_if(dir.path(), |_| true).unwrap();
        let failed = give_back_patiently(dir.path(), &files, || Err(io::Error::other("hidden")));
        assert!(failed.unwrap_err().to_string().contains("hidden"));
        let known = |id: &str| Containers {
            booted: None,
            known: [id.to_owned()].into(),
        };
        let kept = give_back_patiently(dir.path(), &files, || Ok(known("gone"))).unwrap();
        assert!(kept.addresses.is_empty() && path.exists());
        let given = give_back_patiently(dir.path(), &files, || Ok(known("other"))).unwrap();
        assert_eq!(given.addresses.len(), 1);
        assert!(!path.exists());
    }
}
