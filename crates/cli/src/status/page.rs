//! Page of `mesos-overlay status`.

use std::io;

use super::ranges::{Use, uses};
use super::report::{
    Agent, AgentState, Agents, Cluster, Host, HostOverlay, ObjectCount, Overlay, Status,
};
use crate::answers::{Addresses, Capacity};
use crate::finding::Finding;
use crate::output::Report;
use crate::output::page::{DIM, ERROR, GOOD, Page, WARNING, bar, count, duration, styled};

impl Report for Status {
    const COMMAND: &'static str = "status";

    fn findings(&self) -> &[Finding] {
        &self.findings
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        if let Some(cluster) = &self.cluster {
            write_cluster(cluster, page)?;
        }
        if let Some(host) = &self.host {
            write_host(host, page)?;
        }
        for note in &self.notes {
            page.line(format_args!("\n{} {note}", styled(DIM, "note:")))?;
        }
        Ok(())
    }
}

fn write_cluster(cluster: &Cluster, page: &mut Page<'_>) -> io::Result<()> {
    page.line(master(cluster))?;
    write_networks(cluster, page)?;
    match &cluster.agents {
        Some(agents) => write_agents(agents, page),
        None => Ok(()),
    }
}

fn master(cluster: &Cluster) -> String {
    let address = cluster.master.as_deref().unwrap_or("not found");
    let status = match cluster.status.as_deref() {
        Some("serving") => styled(GOOD, "serving"),
        Some(status) => styled(ERROR, status),
        None => styled(ERROR, "no answer"),
    };
    let release = cluster.release.as_ref();
    let release = release.map_or(String::new(), |release| format!(", release {release}"));
    format!("Master {address}: {status}{release}")
}

fn write_networks(cluster: &Cluster, page: &mut Page<'_>) -> io::Result<()> {
    let mut rows = Vec::new();
    for overlay in &cluster.overlays {
        rows.extend(overlay_rows(overlay));
    }
    if let Some(vteps) = &cluster.vteps {
        let uses = capacity_cells(&vteps.addresses);
        for (index, range) in vteps.ranges.iter().enumerate() {
            let name = if index == 0 { "(VTEPs)" } else { "" };
            let agents = String::new();
            let mut row = vec![name.to_owned(), String::new(), agents, range.clone()];
            row.extend(uses.get(index).cloned().unwrap_or_default());
            rows.push(row);
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    page.line("")?;
    page.table(
        &["OVERLAY", "STATE", "AGENTS", "RANGE", "USED", "", "OF"],
        &[2, 5, 6],
        rows,
    )
}

/// Returns a row for each range of an overlay.
fn overlay_rows(overlay: &Overlay) -> Vec<Vec<String>> {
    let state = match overlay.state.as_str() {
        "active" => styled(GOOD, "active"),
        "disabled" => styled(DIM, "disabled"),
        "left_out" => styled(ERROR, "left out"),
        state => styled(WARNING, state),
    };
    let uses = overlay
        .subnets
        .as_ref()
        .map(capacity_cells)
        .unwrap_or_default();
    let row = |index: usize, range: &str| {
        let mut row = match index {
            0 => vec![
                overlay.name.clone(),
                state.clone(),
                overlay.agents.to_string(),
            ],
            _ => vec![String::new(); 3],
        };
        row.push(range.to_owned());
        row.extend(uses.get(index).cloned().unwrap_or_default());
        row
    };
    match overlay.ranges.is_empty() {
        true => vec![row(0, "")],
        false => overlay
            .ranges
            .iter()
            .enumerate()
            .map(|(index, range)| row(index, range))
            .collect(),
    }
}

/// Returns the cells "bar", "used" and "of" for each family.
fn capacity_cells(capacity: &Capacity) -> Vec<Vec<String>> {
    let cells = |of: Use| {
        vec![
            bar(of.total - of.free.min(of.total), of.total),
            of.used.to_string(),
            of.total.to_string(),
        ]
    };
    uses(capacity).map(cells).collect()
}

fn write_agents(agents: &Agents, page: &mut Page<'_>) -> io::Result<()> {
    let mut parts = vec![format!("{} connected", agents.connected)];
    if agents.lost > 0 {
        parts.push(styled(ERROR, format_args!("{} lost", agents.lost)));
    }
    if agents.with_errors > 0 {
        parts.push(styled(
            ERROR,
            format_args!("{} with errors", agents.with_errors),
        ));
    }
    let total = count(agents.total, "agent");
    page.line(format_args!("\n{total}: {}", parts.join(", ")))?;
    page.table(
        &["AGENT", "STATE", "SINCE", "RELEASE"],
        &[2],
        agents.listed.iter().map(agent_row),
    )?;
    match agents.unlisted {
        0 => Ok(()),
        more => page.line(styled(
            DIM,
            format_args!("and {more} more (--all lists all)"),
        )),
    }
}

fn agent_row(agent: &Agent) -> Vec<String> {
    let state = match agent.state {
        AgentState::Ok => styled(GOOD, "connected"),
        AgentState::Configuring => styled(WARNING, "configuring"),
        AgentState::HostErrors => styled(ERROR, "host error"),
        AgentState::Failed => styled(ERROR, "failed"),
        AgentState::Lost => styled(ERROR, "lost"),
    };
    vec![
        agent.ip.to_string(),
        state,
        agent.since_seconds.map(duration).unwrap_or_default(),
        agent.release.clone().unwrap_or_default(),
    ]
}

fn write_host(host: &Host, page: &mut Page<'_>) -> io::Result<()> {
    let state = match (host.answers, host.registered, &host.master) {
        (false, ..) => styled(ERROR, "no answer"),
        (_, Some(true), Some(master)) => styled(GOOD, format_args!("registered at {master}")),
        (_, _, Some(master)) => styled(ERROR, format_args!("not registered at {master}")),
        _ => styled(ERROR, "knows no master"),
    };
    page.line(format_args!("\nThis host, agent {}: {state}", host.agent))?;
    let rows = host.overlays.iter().flat_map(host_overlay_rows);
    page.table(
        &[
            "OVERLAY",
            "STATE",
            "SUBNETS",
            "ADDRESSES",
            "IN USE",
            "",
            "OF",
        ],
        &[5, 6],
        rows,
    )?;
    if !host.objects.is_empty() {
        page.line("")?;
        page.table(
            &["OBJECTS", "WANTED", "STATE"],
            &[1],
            host.objects.iter().map(object_row),
        )?;
    }
    for sentence in &host.draining {
        page.line(format_args!("{} {sentence}", styled(WARNING, "draining:")))?;
    }
    Ok(())
}

/// Returns a row for each containerizer of an overlay.
fn host_overlay_rows(overlay: &HostOverlay) -> Vec<Vec<String>> {
    let state = match overlay.status.as_deref() {
        Some("STATUS_OK") => styled(GOOD, "ok"),
        Some("STATUS_FAILED") => styled(ERROR, "failed"),
        _ => styled(WARNING, "configuring"),
    };
    let first = vec![overlay.name.clone(), state, overlay.subnets.join(" ")];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (containerizer, addresses) in &overlay.addresses {
        for cells in address_cells(containerizer, addresses) {
            let begin = if rows.is_empty() {
                first.clone()
            } else {
                vec![String::new(); 3]
            };
            rows.push([begin, cells].concat());
        }
    }
    if rows.is_empty() {
        rows.push(first);
    }
    rows
}

fn address_cells(containerizer: &str, addresses: &Addresses) -> Vec<Vec<String>> {
    let total = addresses.total.map(u128::from);
    let families = [
        ("", addresses.in_use, total),
        (" IPv6", addresses.in_use6, addresses.total6),
    ];
    let cells = |(family, in_use, total): (&str, Option<u64>, Option<u128>)| {
        let total = total?;
        let bar = in_use.map_or(String::new(), |in_use| bar(in_use.into(), total));
        let in_use = in_use.map_or("unknown".to_owned(), |in_use| in_use.to_string());
        Some(vec![
            format!("{containerizer}{family}"),
            bar,
            in_use,
            total.to_string(),
        ])
    };
    families.into_iter().filter_map(cells).collect()
}

fn object_row((name, objects): (&&'static str, &ObjectCount)) -> Vec<String> {
    let state = match objects.differences {
        0 => styled(GOOD, "as wanted"),
        1 => styled(ERROR, "1 difference"),
        more => styled(ERROR, format_args!("{more} differences")),
    };
    let wanted = objects.wanted.map(|wanted| wanted.to_string());
    let name = match *name {
        "cni_files" => "CNI files".to_owned(),
        "docker_networks" => "Docker networks".to_owned(),
        "fdb_entries" => "FDB entries".to_owned(),
        "vxlan_device" => "VXLAN device".to_owned(),
        name => name.replace('_', " "),
    };
    vec![name, wanted.unwrap_or_default(), state]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        let texts = [0, 119, 120, 7_199, 7_200, 172_800].map(duration);
        assert_eq!(texts, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
