//! Schemas of the JSON output, one for each command that reports something.

use schemars::{Schema, schema_for};

use crate::check::{ConfigReport, HostReport};
use crate::output::{Document, Report};
use crate::ping::report::PingReport;
use crate::setup::SetupReport;
use crate::trace::report::TraceReport;
use crate::{agents, ipam, networks, status, whois};

/// Returns the names of commands and the schemas of their output. docs/schemas has them.
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        entry::<ipam::Show>(),
        entry::<ipam::Check>(),
        entry::<ipam::Released>(),
        entry::<status::Status>(),
        entry::<whois::Whois>(),
        entry::<PingReport>(),
        entry::<TraceReport>(),
        entry::<HostReport>(),
        entry::<ConfigReport>(),
        entry::<SetupReport>(),
        entry::<crate::config::Conversion>(),
        entry::<crate::diags::Diagnostics>(),
        entry::<networks::List>(),
        entry::<networks::Show>(),
        entry::<networks::Added>(),
        entry::<networks::Changed>(),
        entry::<networks::Removed>(),
        entry::<crate::dns::DnsLookup>(),
        entry::<agents::List>(),
        entry::<agents::Show>(),
        entry::<agents::Deleted>(),
        entry::<agents::Reclaimed>(),
    ]
}

/// Returns the name of a command and the schema of its output.
fn entry<R: Report + 'static>() -> (&'static str, Schema) {
    (R::COMMAND, schema_for!(Document<'static, R>))
}
