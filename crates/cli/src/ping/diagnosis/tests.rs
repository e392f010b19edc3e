use std::time::Duration;

use super::*;
use crate::paths::entries::samples;
use crate::paths::model::{self, Model};
use crate::ping::plan::{self, Chosen, Sources};

const FAST: Outcome = Outcome::Answered(Duration::from_millis(1));

/// Examines a cluster of which `change` changes the results of each peer.
fn found(model: &Model, change: &dyn Fn(usize, &mut Vec<Option<Cell>>)) -> Vec<(String, String)> {
    let chosen: Vec<Chosen<'_>> = model
        .peers()
        .map(|peer| Chosen {
            peer,
            address: None,
        })
        .collect();
    let columns = plan::columns(&chosen, &Family::BOTH, true);
    let mut rows: Vec<Row<'_>> = chosen
        .iter()
        .map(|chosen| Row {
            peer: chosen.peer,
            cells: vec![None; columns.len()],
        })
        .collect();
    for probe in plan::probes(&chosen, &columns, &Sources::default(), model) {
        rows[probe.row].cells[probe.column] = Some(Cell {
            address: probe.request.target,
            source: Some("9.0.1.1".parse().unwrap()),
            small: FAST,
            sent: 1,
            answered: 1,
            large: Some((1450, FAST)),
            from_vtep: None,
        });
    }
    for (number, row) in rows.iter_mut().enumerate() {
        change(number, &mut row.cells);
    }
    let device = samples::device(model);
    let here = Here {
        own: model.own(),
        device: Some(&device),
        table: 42,
        has_master: true,
    };
    let (findings, _) = examine(&rows, &columns, &here);
    let pairs = findings.into_iter();
    pairs
        .map(|finding| (finding.code.to_owned(), finding.message))
        .collect()
}

fn codes(model: &Model, change: &dyn Fn(&mut Vec<Option<Cell>>)) -> Vec<String> {
    let only_first = |number: usize, cells: &mut Vec<Option<Cell>>| {
        if number == 0 {
            change(cells);
        }
    };
    let found = found(model, &only_first).into_iter();
    found.map(|(code, _)| code).collect()
}

fn silence(cells: &mut [Option<Cell>]) {
    for cell in cells.iter_mut().flatten() {
        cell.small = Outcome::Silent;
        cell.answered = 0;
        cell.large = None;
    }
}

fn narrow(cells: &mut [Option<Cell>], outcome: Outcome) {
    for cell in cells.iter_mut().flatten() {
        cell.large = Some((1500, outcome.clone()));
    }
}

#[test]
fn causes_are_told_apart() {
    let model = model::samples::cluster(3);
    let none: [String; 0] = [];
    assert_eq!(codes(&model, &|_| {}), none);
    assert_eq!(codes(&model, &|cells| silence(cells)), ["host-silent"]);
    assert_eq!(
        codes(&model, &|cells| silence(&mut cells[1..])),
        ["tunnel-blocked"]
    );
    assert_eq!(
        codes(&model, &|cells| silence(&mut cells[..1])),
        none,
        "ICMP is filtered"
    );
    assert_eq!(
        codes(&model, &|cells| silence(&mut cells[3..])),
        ["gateway-silent"]
    );
    let back = |cells: &mut Vec<Option<Cell>>| {
        silence(&mut cells[3..4]);
        cells[3].as_mut().unwrap().from_vtep = Some(FAST);
    };
    assert_eq!(codes(&model, &back), ["return-path-broken"]);
    let lost = |cells: &mut Vec<Option<Cell>>| cells[1].as_mut().unwrap().sent = 3;
    assert_eq!(codes(&model, &lost), ["packets-lost"]);
    let too_large = Outcome::TooLarge(Some(1400));
    let underlay = found(&model, &|number, cells| {
        if number == 1 {
            narrow(cells, too_large.clone());
        }
    });
    assert_eq!(underlay[0].0, "path-mtu-too-small");
    assert!(
        underlay[0]
            .1
            .contains("directly to 10.0.0.3 (the way takes 1400)"),
        "{underlay:?}"
    );
    let tunnel = |cells: &mut Vec<Option<Cell>>| narrow(&mut cells[1..], Outcome::Silent);
    assert_eq!(codes(&model, &tunnel), ["path-mtu-too-small"]);
    let fragmented = |cells: &mut Vec<Option<Cell>>| narrow(&mut cells[..1], Outcome::Silent);
    assert_eq!(codes(&model, &fragmented), none, "it passes the tunnel");
}

#[test]
fn a_lost_agent_is_only_lost() {
    let mut model = model::samples::cluster(2);
    model.agents[1].connected = false;
    model.agents[1].since_seconds = Some(7);
    let lost = found(&model, &|_, cells| silence(cells));
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].0, "agent-lost");
    assert_eq!(
        lost[0].1,
        "the master has had no connection with the agent of 10.0.0.2 for 7 s; its host does not answer"
    );
}

#[test]
fn many_peers_with_one_cause_share_a_finding() {
    let model = model::samples::cluster(1_000);
    let found = found(&model, &|number, cells| match number {
        0..600 => silence(&mut cells[1..]),
        600..603 => silence(cells),
        _ => {}
    });
    let codes: Vec<&str> = found.iter().map(|(code, _)| code.as_str()).collect();
    assert_eq!(
        codes,
        [
            "host-silent",
            "host-silent",
            "host-silent",
            "tunnel-blocked"
        ]
    );
    let (_, message) = &found[3];
    assert!(
        message.starts_with("600 of 999 probed peers (10.0.0.2, 10.0.0.3, 10.0.0.4 and 597 more)"),
        "{message}"
    );
}
