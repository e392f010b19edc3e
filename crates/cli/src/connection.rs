//! Connection to the cluster: finds the leading master as an agent does, and asks it.

pub mod candidates;
pub mod http;
pub mod master;
mod zookeeper;

use std::path::PathBuf;
use std::time::Duration;

pub use http::{AskError, Http, Subscription};
pub use master::{Master, Unserved};

/// Beginning of the address of a master that speaks https.
const HTTPS: &str = "https://";

/// Options that say where the cluster is and how to log in.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionOptions {
    /// Leading master: host:port, several of them with commas, https://host:port,
    /// zk://[user:password@]host:port[,host:port]…/path, or file:///path of a file with one of
    /// these. Without this option: the variable MESOS_MASTER, the agent module's configuration,
    /// or the flags of the Mesos that runs on this host.
    #[arg(long, value_name = "MASTER", verbatim_doc_comment)]
    pub master: Option<String>,
    /// Configuration file of the agent module. Without this option: the one that the Mesos on this
    /// host loads, or /etc/mesos/overlay/agent.json.
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    pub agent_config: Option<PathBuf>,
    /// Principal for HTTP basic authentication.
    #[arg(long, value_name = "NAME", requires = "secret_file")]
    pub principal: Option<String>,
    /// File with the secret of the principal. A line break at its end is left out.
    #[arg(long, value_name = "FILE", requires = "principal")]
    pub secret_file: Option<PathBuf>,
    /// Speak https to masters and agents.
    #[arg(long)]
    pub https: bool,
    /// File with the certificates of authorities to trust, in PEM form, besides those of the
    /// system. Implies --https.
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    pub ca_file: Option<PathBuf>,
    /// Time limit of each request, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,
}

impl ConnectionOptions {
    /// Returns true if requests go over https.
    pub fn is_https(&self) -> bool {
        let master = self.master.as_deref().unwrap_or_default();
        self.https || self.ca_file.is_some() || master.starts_with(HTTPS)
    }

    /// Returns the time limit of each request.
    pub fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// Returns options that name nothing.
    #[cfg(test)]
    pub fn for_tests() -> ConnectionOptions {
        ConnectionOptions {
            master: None,
            agent_config: None,
            principal: None,
            secret_file: None,
            https: false,
            ca_file: None,
            timeout: 1,
        }
    }
}
