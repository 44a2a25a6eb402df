# SPDX-License-Identifier: Apache-2.0
# cluster: site 4
#
# Budget, window, minimum uptime, backoff, fatal exits, grace, and failures at awkward moments.
#
# shellcheck shell=bash disable=SC2154

fault() { supervise "$1" -N4 -n8 "${@:2}"; }

test_budget_is_spent_then_the_step_stops_with_the_first_failures_status() {
    supervise --pm-supervise --pm-max-restarts=2 --pm-min-uptime=0 -N4 -n8 \
        "$programs/fault" --rank 3 --lives all --after 50 --exit 9 --run 5000
    assert_status 9
    assert_log_count 2 '.kind == "decision" and .action == "restart-world"'
    assert_err 'restart 2 of 2'
    assert_err '; stopping'
}
test_budget_of_zero_never_restarts() {
    supervise --pm-supervise --pm-max-restarts=0 -N4 -n8 "$programs/fault" --rank 3 --after 50 --exit 9 --run 5000
    assert_status 9
    assert_log_count 0 '.kind == "decision" and .action == "restart-world"'
}
test_budget_in_a_window_comes_back() {
    supervise --pm-supervise --pm-max-restarts=1/1s --pm-min-uptime=0 -N2 -n2 \
        "$programs/fault" --rank 1 --lives 2 --after 1200 --exit 9 --run 2500
    assert_status 0
    assert_log_count 2 '.kind == "decision" and .action == "restart-world"'
}
test_three_startup_failures_in_a_row_stop() {
    supervise --pm-supervise --pm-max-restarts=100 --pm-min-uptime=5s -N2 -n2 \
        "$programs/fault" --rank 1 --lives all --exit 9 --run 5000
    assert_status 9
    assert_log_count 2 '.kind == "decision" and .action == "restart-world"'
}
test_backoff_doubles() {
    supervise --pm-supervise --pm-max-restarts=3 --pm-min-uptime=0 --pm-backoff=300ms:1s -N2 -n2 \
        "$programs/fault" --rank 1 --lives 3 --exit 9 --run 300
    assert_status 0
    # Nothing before the 1st restart, 300 ms before the 2nd, 600 ms before the 3rd.
    log_select '.kind == "state" and .to == "STARTING"' | jq -s -e 'map(.t_ns / 1e6 | floor) | (.[2] - .[1]) as $second | (.[3] - .[2]) as $third |
        (.[1] - .[0] < 300) and $second >= 300 and $third >= 600 and $third < 1200' >/dev/null ||
        fail "the waits are not 0, 300 and 600 ms: $(log_select '.kind == "state" and .to == "STARTING"')"
}
test_fatal_exit_code_is_never_restarted() {
    supervise --pm-supervise -N4 -n8 "$programs/fault" --rank 3 --after 100 --exit 93 --run 5000
    assert_status 93
    assert_err 'pm-fatal-exit'
    assert_log_count 0 '.kind == "decision" and .action == "restart-world"'
}
test_fatal_signal_is_never_restarted() {
    supervise --pm-supervise --pm-fatal-exit=93,SIGUSR1 -N4 -n8 "$programs/fault" --rank 3 --after 100 --signal USR1 --run 5000
    assert_status 138
    assert_log_count 0 '.kind == "decision" and .action == "restart-world"'
}
test_two_failures_at_once_are_one_decision() {
    supervise --pm-supervise -N4 -n8 "$programs/fault" --rank 0,2-5,7 --wait-file "$case_dir/now" --exit 7 --run 300 &
    local background=$!
    wait_until 15 "8 ranks" sh -c "[ \$(grep -c '^fault: start' '$case_dir/out') = 8 ]"
    touch "$case_dir/now"
    wait "$background"
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
    assert_out_count 16 '^fault: start'
}
test_failure_at_startup_is_handled() {
    supervise --pm-supervise -N4 -n8 "$programs/fault" --rank 6 --exit 7 --run 200
    assert_status 0
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
}
test_failure_while_halting_joins_the_decision() {
    supervise --pm-supervise --pm-grace=1s -N4 -n8 bash -c '
        trap "sleep 0.3; exit 11" TERM
        [ "$PM_EPOCH" = 0 ] || exit 0
        [ "$SLURM_PROCID" != 3 ] || { sleep 0.2; exit 7; }
        while :; do sleep 0.05; done'
    assert_status 0
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
}
test_rank_that_ignores_sigterm_is_killed_after_the_grace() {
    supervise --pm-supervise --pm-grace=500ms -N4 -n8 "$programs/fault" --rank 3 --after 100 --exit 7 --ignore-term --run 300
    assert_status 0
    assert_out_count 16 '^fault: start'
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
}
test_fifty_descendants_die_with_their_rank() {
    supervise --pm-supervise -N4 -n8 "$programs/fault" --rank 3 --after 400 --exit 7 --run 800 \
        --children 20 --chain 20 --sessions 5 --daemons 5 --pid-file "$case_dir/pids"
    assert_status 0
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
}
test_rank_that_keeps_forking_cannot_escape() {
    supervise --pm-supervise --pm-grace=200ms -N2 -n2 "$programs/fault" --rank 1 --after 300 --exit 7 --run 500 \
        --forkers 2 --daemons 2
    assert_status 0
}
