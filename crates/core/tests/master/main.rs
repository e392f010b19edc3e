//! Tests of the master: transcripts (see [`testkit::transcript`]), random inputs, metrics, logs
//! of the predecessor, and the work in large clusters.

mod bounds;
mod driver;
mod endpoints;
mod format;
mod garbage;
mod metrics;
mod page;
mod predecessor_log;
mod scale;
mod transcript_runner;
mod write_pauses;

testkit::transcripts![
    "master", transcript_runner::play;
    registers_agents,
    gives_both_families,
    keeps_bridges,
    deletes_agents,
    follows_the_lead,
    opens_the_log_anew,
    trusts_the_log_only,
    runs_out,
    recovers,
    refuses_contradictions,
    tells_peers,
    serves_its_own_agents_only,
    admits_hosts_only,
    knows_the_hosts_networks,
    gives_back_what_agents_hold,
    serves_one_agent_at_an_address,
    believes_no_blind_sender,
    serves_earlier_releases,
    reclaims_what_leases_left,
    reclaims_on_demand,
    knows_agents_that_return,
    survives_bad_input,
    changes_networks,
    removes_networks,
    refuses_changes,
    changes_both_families,
    masters_have_different_files,
    forgets_with_the_lead,
    tells_in_time,
    leases_of_both_families,
    contradictions_of_ipv6,
];
