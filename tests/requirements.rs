//! T-REQ-1: every requirement of RFC 6972 is met by something that a test proves.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Requirement, what meets it, and tests that fail when it is not met.
const REQUIREMENTS: &[(&str, &str, &[&str])] = &[
    (
        "REQ-1",
        "peers are told apart by their identifier",
        &[
            "the_same_identifier_elsewhere_is_somebody_else",
            "rfc_7846_the_states_of_a_peer_row_by_row",
        ],
    ),
    (
        "REQ-2",
        "swarms by theirs",
        &[
            "a_name_leads_to_swarm_description_and_parents",
            "s_07_replay_of_other_swarms_other_places_and_other_times_fails",
        ],
    ),
    (
        "REQ-3",
        "content is cut into chunks",
        &["packets_leave_in_whole_chunks"],
    ),
    (
        "REQ-4",
        "no two chunks of a swarm have one number",
        &["s_10_a_killed_source_reuses_no_chunk_number"],
    ),
    (
        "OAM.REQ-1",
        "options, variables and files",
        &[
            "the_nearest_layer_wins",
            "printed_settings_are_a_file_that_asks_for_the_same",
        ],
    ),
    (
        "OAM.REQ-2",
        "every option has a default",
        &["implied_defaults_are_the_checked_ones"],
    ),
    (
        "OAM.REQ-3",
        "records of what a node does and of how timely chunks are",
        &[
            "every_record_of_every_tool_fits_the_closed_schema",
            "usr1_writes_records_now",
        ],
    ),
    (
        "OAM.REQ-4",
        "short joins, no gaps",
        &[
            "a_quiet_world_loses_nothing",
            "f10_a_parent_dies_and_nothing_is_lost",
        ],
    ),
    (
        "OAM.REQ-5",
        "HTTP documents and metrics",
        &["documents_beside_the_protocol"],
    ),
    (
        "OAM.REQ-6",
        "faults are seen and mended",
        &[
            "a_dead_parent_is_replaced_without_a_gap",
            "bad_input_29_a_threshold_missed_is_named",
        ],
    ),
    (
        "OAM.REQ-7",
        "configuration is checked, printed and read again",
        &[
            "hup_reads_the_certificate_again_and_a_bad_one_keeps_the_old",
            "errors_say_where_the_value_was_written",
        ],
    ),
    (
        "OAM.REQ-8",
        "distribution and load are measured at every node",
        &["every_channel_of_a_relay_is_seen"],
    ),
    (
        "OAM.REQ-9",
        "secrets are kept",
        &[
            "s_50_secrets_are_seen_nowhere",
            "s_51_rows_13_to_15_keys",
            "s_51_state_that_others_can_read_or_swap",
        ],
    ),
    (
        "TP.REQ-1",
        "CONNECT and FIND give a list that suits the asker",
        &[
            "golden_conversation_of_plain_peers",
            "free_slots_then_depth_then_role_then_slots",
        ],
    ),
    (
        "TP.REQ-2",
        "STAT_REPORT tells activity",
        &["reports_keep_the_registration_and_finds_go_on_while_wanted"],
    ),
    (
        "TP.REQ-3",
        "the tracker is told of no chunks at all",
        &[
            "rfc_7846_golden_pairs",
            "t_req_3_control_is_less_than_a_tenth_of_media",
        ],
    ),
    (
        "TP.REQ-4",
        "TLS tells the peer who the tracker is; a key signs what a source announces",
        &[
            "a_swarm_over_https",
            "certificates_that_are_wrong_are_one_line",
            "a_description_check_decides_who_may_announce",
        ],
    ),
    (
        "PP.REQ-1",
        "HAVE answers the handshake",
        &["plain_peers_stream_both_ways"],
    ),
    (
        "PP.REQ-2",
        "only what was verified is announced",
        &["s_01_polluters_reach_no_player_and_the_stream_goes_on"],
    ),
    (
        "PP.REQ-3",
        "PEX_REQ is answered, and a neighbour that is full names others",
        &[
            "a_peer_whose_tracker_is_gone_finds_a_parent_through_its_neighbours",
            "s_19_remotes_name_nobody_whom_they_cannot_know",
        ],
    ),
    (
        "PP.REQ-4",
        "PEX_REScert: a tracker's signature, or else proof at the first call",
        &[
            "pp_req_4_a_tracker_says_who_is_where",
            "pp_req_4_what_proves_nothing_is_not_believed_and_costs_nobody_his_place",
            "s_19_s_29_alternatives_of_a_liar_pester_nobody",
        ],
    ),
    (
        "PP.REQ-5",
        "the silent are forgotten and named to nobody",
        &[
            "pp_req_3_5_members_are_told_by_neighbours_who_heard_them_lately",
            "silence_ends_a_registration_and_reports_keep_it",
        ],
    ),
    (
        "PP.REQ-6",
        "HAVE as chunks come",
        &["availability_grows_munro_by_munro_and_mends"],
    ),
    (
        "PP.REQ-7",
        "little of it",
        &["t_req_3_control_is_less_than_a_tenth_of_media"],
    ),
    (
        "PP.REQ-8",
        "STATUS tells depth, slots and state",
        &["statuses", "t_req_2_plain_peers_complete_a_swarm"],
    ),
    (
        "SEC.REQ-1",
        "swarms that not everybody may see",
        &["a_swarm_over_https"],
    ),
    (
        "SEC.REQ-2",
        "content that is not its author's is known as such",
        &[
            "s_01_polluters_below_us_cost_us_nothing",
            "s_02_framing_by_bad_uncle_hashes_costs_the_liar_alone",
        ],
    ),
    (
        "SEC.REQ-3",
        "one key identifies a swarm; nothing else is handed out",
        &["s_05_forged_munros_of_others_are_not_looked_at"],
    ),
];

/// Every test in the sources: functions behind a test attribute.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                let name = line.strip_prefix("async ").unwrap_or(line);
                if let Some(rest) = name.strip_prefix("fn ") {
                    let end = rest.find('(').unwrap_or(rest.len());
                    if is_test {
                        found.insert(rest.get(..end).unwrap_or(rest).to_owned());
                    }
                    is_test = false;
                } else if line == "#[test]" || line.starts_with("#[tokio::test") {
                    is_test = true;
                } else if line.starts_with(concat!("#[", "ignore")) {
                    // Left to those who ask for it: no proof.
                    is_test = false;
                }
            }
        }
    }
}

#[test]
fn t_req_1_every_requirement_has_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    for folder in ["src", "tests"] {
        tests_below(&root.join(folder), &mut tests);
    }
    // RFC 6972 §5 to §8: four general ones, nine of management, four of the tracker protocol, eight of the peer protocol,
    // three of security.
    for (family, count) in [
        ("REQ", 4),
        ("OAM.REQ", 9),
        ("TP.REQ", 4),
        ("PP.REQ", 8),
        ("SEC.REQ", 3),
    ] {
        for number in 1..=count {
            let id = format!("{family}-{number}");
            let rows = REQUIREMENTS.iter().filter(|row| row.0 == id).count();
            assert_eq!(rows, 1, "rows of {id}");
        }
    }
    assert_eq!(REQUIREMENTS.len(), 28);
    for (id, what, names) in REQUIREMENTS {
        assert!(!names.is_empty(), "{id}, {what}, is proven by nothing");
        for name in *names {
            assert!(tests.contains(*name), "{id}, {what}: no test {name}");
        }
    }
}
