//! Options of the zones and of the connection to the cluster.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use overlay_dns::publisher;
use overlay_dns::zone::{DomainName, parse_name};

use super::Settings;
use crate::connection::ConnectionOptions;

/// Options of the zones.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Names")]
#[group(skip)]
pub struct Options {
    /// Domain of the names. Several of them with commas, or this option several times; the first
    /// one is in the names of addresses.
    #[arg(long, value_name = "DOMAIN", env = "MESOS_OVERLAY_DNS_DOMAIN")]
    #[arg(default_value = "dcos.thisdcos.directory", value_delimiter = ',')]
    #[arg(value_parser = domain, verbatim_doc_comment)]
    pub domain: Vec<DomainName>,
    /// Range whose addresses get names (PTR records), besides those of the overlays, which the
    /// leading master tells. Several of them with commas, or this option several times.
    #[arg(
        long,
        value_name = "RANGE",
        env = "MESOS_OVERLAY_DNS_REVERSE",
        value_delimiter = ','
    )]
    #[arg(verbatim_doc_comment)]
    pub reverse: Vec<IpNet>,
    /// Name of the primary name server, for the zones' SOA records. Without it: ns in the domain.
    #[arg(long, value_name = "NAME", env = "MESOS_OVERLAY_DNS_PRIMARY", value_parser = domain)]
    pub primary: Option<DomainName>,
    /// Addresses of the primary name server, if its name is in a domain of its own. Several of them
    /// with commas, or this option several times. Without it: those of --listen, but not the
    /// loopback's, nor those that stand for all of the host.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "MESOS_OVERLAY_DNS_PRIMARY_ADDRESS"
    )]
    #[arg(value_delimiter = ',', verbatim_doc_comment)]
    pub primary_address: Vec<IpAddr>,
    /// Name server of the zones, for their NS records. Several of them with commas, or this option
    /// several times. Without it: the primary one.
    #[arg(
        long,
        value_name = "NAME",
        env = "MESOS_OVERLAY_DNS_NAME_SERVER",
        value_delimiter = ','
    )]
    #[arg(value_parser = domain, verbatim_doc_comment)]
    pub name_server: Vec<DomainName>,
    /// Mailbox of the person responsible, as a name: a dot in the place of the @. Without it:
    /// hostmaster in the domain.
    #[arg(long, value_name = "NAME", env = "MESOS_OVERLAY_DNS_MAILBOX", value_parser = domain)]
    #[arg(verbatim_doc_comment)]
    pub mailbox: Option<DomainName>,
    /// File for the last known names, which are answered after a restart while no master leads.
    /// Without it they are not kept.
    #[arg(
        long,
        value_name = "FILE",
        env = "MESOS_OVERLAY_DNS_SNAPSHOT",
        verbatim_doc_comment
    )]
    pub snapshot: Option<PathBuf>,
    /// Seconds for which the last known names are answered while no master is heard.
    #[arg(long, value_name = "SECONDS", env = "MESOS_OVERLAY_DNS_MAX_AGE")]
    #[arg(default_value_t = 86_400)]
    pub max_age: u64,
}

impl Options {
    /// Returns the settings of the follower.
    pub fn settings(&self, connection: &ConnectionOptions) -> Settings {
        Settings {
            connection: connection.clone(),
            zones: publisher::Settings {
                domains: self.domain.clone(),
                ranges: self.reverse.clone(),
                mname: self.primary.clone(),
                rname: self.mailbox.clone(),
                name_servers: self.name_server.clone(),
                addresses: self.primary_address.clone(),
                max_age: Duration::from_secs(self.max_age),
            },
            snapshot: self.snapshot.clone(),
        }
    }
}

/// Reads a domain name.
fn domain(text: &str) -> Result<DomainName, String> {
    match parse_name(text) {
        Ok(name) if !name.is_root() => Ok(name),
        _ => Err(format!("{text} is no name such as dcos.thisdcos.directory")),
    }
}
