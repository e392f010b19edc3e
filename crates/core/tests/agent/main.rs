//! The agent: transcripts (see docs/dev/testing.md), and arbitrary input.

mod format;
mod garbage;
mod session;
mod transcript_runner;

testkit::transcripts![
    "agent", transcript_runner::run;
    registers,
    knows_whether_others_reach_it,
    obeys_the_leader_only,
    confirms_its_session,
    believes_no_blind_sender,
    waits_for_a_confirmation,
    authenticates_with_keys,
    loses_the_leader_while_configuring,
    logs_a_problem_once,
    tells_errors,
    retries_with_one_growing_timer,
    retries_in_time_while_peers_come,
    waits_for_the_last_container,
    follows_the_masters_list,
    follows_its_peers,
    is_deleted,
    lets_go_of_overlays,
    tells_what_became_of_its_ranges,
    unpacks_peers,
    serves_a_leader_that_counts_anew,
    begins_anew_with_each_leader,
    waits_to_the_moment,
    keeps_what_it_knows,
    has_both_families,
    builds_on_lists_it_has,
    refuses_bad_values,
    believes_what_can_be_right,
    asks_again_for_what_was_missing,
    answers_http,
    reports_before_it_is_sure,
    leaves_the_data_plane_to_another,
    refreshes,
    counts_addresses,
    keeps_the_engines_networks,
    works_while_the_engine_is_away,
    needs_no_engine_without_docker,
];
