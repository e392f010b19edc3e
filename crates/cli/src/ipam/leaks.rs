//! Report of leaked addresses: written by `ipam check`, read by `ipam release`.

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use overlay_host::files::{self, Links};
use overlay_host::reserved::Reserved;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::output::Failure;

/// Version of the report's form.
const FORM: u32 = 1;
/// Time after which a report is out of date.
pub const FRESH: Duration = Duration::from_secs(600);
/// Size limit of a report, in bytes.
const LIMIT: u64 = 64 << 20;
/// Identity of the boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Reserved address whose container does not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Leaked {
    /// Overlay.
    pub overlay: String,
    /// The address.
    pub address: IpAddr,
    /// Id of the container in the file.
    pub container: String,
    /// Name of the file.
    pub file: String,
    /// Number of the file in its file system.
    pub inode: u64,
    /// Last change of the file: seconds since 1970.
    pub modified_seconds: u64,
    /// Last change of the file: nanoseconds of the second.
    pub modified_nanoseconds: u32,
}

impl Leaked {
    /// Describes a file; `None`: its name is not UTF-8.
    pub fn new(overlay: &str, reserved: &Reserved) -> Option<Leaked> {
        let modified = reserved
            .modified
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Some(Leaked {
            overlay: overlay.to_owned(),
            address: reserved.ip,
            container: reserved.container.clone(),
            file: reserved.name.to_str()?.to_owned(),
            inode: reserved.inode,
            modified_seconds: modified.as_secs(),
            modified_nanoseconds: modified.subsec_nanos(),
        })
    }
}

/// Host, and boot of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// Name of the host.
    pub host: String,
    /// Identity of the boot.
    pub boot_id: String,
    /// Address of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Ipv4Addr>,
    /// Id of the agent in Mesos.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Directory of host-local's files.
    pub cni_data_dir: PathBuf,
}

impl Origin {
    /// Describes this host.
    ///
    /// # Errors
    /// The kernel does not say the name of the host or the identity of the boot.
    pub fn here(
        agent: Option<Ipv4Addr>,
        agent_id: Option<String>,
        dir: &Path,
    ) -> Result<Origin, Failure> {
        let name = nix::sys::utsname::uname()
            .map_err(|error| format!("cannot read the host's name: {error}"))?;
        let boot_id = fs::read_to_string(BOOT_ID)
            .map_err(|error| format!("cannot read {BOOT_ID}: {error}"))?;
        Ok(Origin {
            host: name.nodename().to_string_lossy().into_owned(),
            boot_id: boot_id.trim().to_owned(),
            agent,
            agent_id,
            cni_data_dir: dir.to_owned(),
        })
    }

    /// Returns in what this host differs from that of a report; `None`: it is the same.
    fn difference(&self, report: &Origin) -> Option<String> {
        let Origin {
            host,
            agent,
            agent_id,
            cni_data_dir,
            boot_id,
        } = report;
        let text =
            |ip: &Option<Ipv4Addr>| ip.map_or("no agent".to_owned(), |ip| format!("agent {ip}"));
        if *host != self.host {
            return Some(format!("it is of host {host}, and this is {}", self.host));
        }
        if *agent != self.agent {
            return Some(format!(
                "it is of {}, and this is {}",
                text(agent),
                text(&self.agent)
            ));
        }
        // The agent may not answer at the moment.
        if agent_id.is_some() && self.agent_id.is_some() && *agent_id != self.agent_id {
            return Some("it is of another agent: the agent has a new id".to_owned());
        }
        if *cni_data_dir != self.cni_data_dir {
            return Some(format!(
                "it is of {}, and host-local uses {}",
                cni_data_dir.display(),
                self.cni_data_dir.display()
            ));
        }
        (*boot_id != self.boot_id).then(|| "the host was restarted since".to_owned())
    }
}

/// Report of leaked addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeakReport {
    /// Version of this form.
    form: u32,
    /// Time of the report: seconds since 1970.
    pub written_seconds: u64,
    /// Host and boot.
    pub origin: Origin,
    /// Leaked addresses.
    pub leaked: Vec<Leaked>,
}

impl LeakReport {
    /// Creates a report of now.
    pub fn new(origin: Origin, leaked: Vec<Leaked>) -> LeakReport {
        LeakReport {
            form: FORM,
            written_seconds: seconds(SystemTime::now()),
            origin,
            leaked,
        }
    }

    /// Writes the report. It appears under its name when it is complete, also after a crash. An
    /// earlier report of that name is replaced.
    ///
    /// # Errors
    /// The file cannot be written, or is no report.
    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            Failure(format!(
                "--report: cannot write {}: {error}",
                file.display()
            ))
        };
        match files::read_text(file, Links::Refuse, LIMIT) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Ok(text) if serde_json::from_str::<LeakReport>(&text).is_ok() => {}
            _ => {
                return Err(format!(
                    "--report: {} exists, and is no report of mesos-overlay ipam check, so it is not replaced; give another file",
                    file.display()
                )
                .into());
            }
        }
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let new = file.with_file_name(name);
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600);
        let mut out = options.open(&new).map_err(failed)?;
        let written = writeln!(out, "{text}")
            .and_then(|()| out.sync_all())
            .and_then(|()| fs::rename(&new, file));
        written.map_err(|error| {
            let _ = fs::remove_file(&new);
            failed(error)
        })
    }

    /// Reads a report.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(file: &Path) -> Result<LeakReport, Failure> {
        let text = files::read_text(file, Links::Follow, LIMIT)
            .map_err(|error| format!("--report: cannot read {}: {error}", file.display()))?;
        let report: LeakReport = serde_json::from_str(&text).map_err(|error| {
            format!(
                "--report: {} is no report of mesos-overlay ipam check: {error}",
                file.display()
            )
        })?;
        match report.form {
            FORM => Ok(report),
            other => Err(format!(
                "--report: {} has the form {other} of another release; {AGAIN}",
                file.display()
            )
            .into()),
        }
    }

    /// Checks that the report is of this host and boot, and fresh.
    ///
    /// # Errors
    /// It is not. The error says the way out.
    pub fn check(&self, here: &Origin, now: SystemTime) -> Result<(), Failure> {
        if let Some(difference) = here.difference(&self.origin) {
            return Err(format!(
                "--report: the report is not of this host as it is now: {difference}; {AGAIN}"
            )
            .into());
        }
        let age = seconds(now).checked_sub(self.written_seconds);
        match age {
            Some(age) if age <= FRESH.as_secs() => Ok(()),
            Some(age) => Err(format!(
                "--report: the report is {age} s old, and only reports of the last {} s are used; {AGAIN}",
                FRESH.as_secs()
            )
            .into()),
            None => Err(format!("--report: the report is of the future, so the clock was changed; {AGAIN}").into()),
        }
    }
}

/// Way out of a report that cannot be used.
const AGAIN: &str = "make a new one on this host: mesos-overlay ipam check --report FILE";

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            host: "a".into(),
            boot_id: "1".into(),
            agent: Some(Ipv4Addr::new(10, 0, 0, 1)),
            agent_id: Some("S0".into()),
            cni_data_dir: "/run/cni".into(),
        }
    }

    #[test]
    fn only_fresh_reports_of_this_boot_are_used() {
        let report = LeakReport::new(origin(), Vec::new());
        let now = UNIX_EPOCH + Duration::from_secs(report.written_seconds);
        let check = |change: &dyn Fn(&mut Origin)| {
            let mut here = origin();
            change(&mut here);
            report
                .check(&here, now)
                .err()
                .map(|Failure(sentence)| sentence)
        };
        assert_eq!(check(&|_| {}), None);
        assert_eq!(
            check(&|here| here.agent_id = None),
            None,
            "the agent is being restarted"
        );
        type Change = Box<dyn Fn(&mut Origin)>;
        let changes: [(Change, &str); 5] = [
            (
                Box::new(|here| here.host = "b".into()),
                "it is of host a, and this is b",
            ),
            (
                Box::new(|here| here.boot_id = "2".into()),
                "the host was restarted since",
            ),
            (
                Box::new(|here| here.agent = None),
                "it is of agent 10.0.0.1, and this is no agent",
            ),
            (
                Box::new(|here| here.agent_id = Some("S1".into())),
                "has a new id",
            ),
            (
                Box::new(|here| here.cni_data_dir = "/var".into()),
                "host-local uses /var",
            ),
        ];
        for (change, part) in changes {
            let sentence = check(&*change).unwrap();
            assert!(
                sentence.contains(part) && sentence.ends_with(AGAIN),
                "{sentence}"
            );
        }
        assert!(report.check(&origin(), now + FRESH).is_ok());
        assert!(
            report
                .check(&origin(), now + FRESH + Duration::from_secs(1))
                .is_err()
        );
        assert!(
            report
                .check(&origin(), now - Duration::from_secs(1))
                .is_err()
        );
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("report");
        let leaked = Leaked {
            overlay: "dcos".into(),
            address: "9.0.0.2".parse().unwrap(),
            container: "x".into(),
            file: "9.0.0.2".into(),
            inode: u64::MAX,
            modified_seconds: 7,
            modified_nanoseconds: 8,
        };
        let report = LeakReport::new(origin(), vec![leaked]);
        report.write(&file).unwrap();
        report.write(&file).unwrap();
        assert_eq!(LeakReport::read(&file).unwrap(), report);
        fs::write(&file, "{}").unwrap();
        let Failure(sentence) = report.write(&file).unwrap_err();
        assert!(sentence.contains("so it is not replaced"), "{sentence}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "{}");
        let Failure(sentence) = LeakReport::read(&file).unwrap_err();
        assert!(
            sentence.contains("is no report of mesos-overlay ipam check"),
            "{sentence}"
        );
    }
}
