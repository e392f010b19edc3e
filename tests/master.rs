//! The master against transcripts (see `support/transcript.rs`), and against garbage.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the bans are meant for the pure part"
)]

#[path = "master/garbage.rs"]
mod garbage;
#[path = "master/numbers.rs"]
mod numbers;
#[path = "master/old_log.rs"]
mod old_log;
#[path = "master/player.rs"]
mod player;
#[path = "support/prometheus.rs"]
mod prometheus;
#[path = "master/scale.rs"]
mod scale;
#[path = "master/show.rs"]
mod show;
#[path = "support/transcript.rs"]
mod transcript;
#[path = "master/world.rs"]
mod world;

transcript::transcripts![
    "master", player::play;
    registers_agents,
    gives_both_families,
    deletes_agents,
    follows_the_lead,
    trusts_the_log_only,
    runs_out,
    recovers,
    refuses_contradictions,
    tells_peers,
    serves_its_own_agents_only,
    reclaims_what_leases_left,
    reclaims_on_demand,
    knows_agents_that_return,
    survives_bad_input,
    changes_networks,
    removes_networks,
    refuses_changes,
];
