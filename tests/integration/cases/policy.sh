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
    assert_decided stop exit 'rank 3 .*; stopping: 2 of 2 restarts used$'
}
test_budget_of_zero_never_restarts() {
    supervise --pm-supervise --pm-max-restarts=0 -N4 -n8 "$programs/fault" --rank 3 --after 50 --exit 9 --run 5000
    assert_status 9
    assert_log_count 0 '.kind == "decision" and .action == "restart-world"'
    assert_decided stop exit 'rank 3 .*; stopping: --pm-max-restarts=0$'
}
test_budget_in_a_window_comes_back() {
    supervise --pm-supervise --pm-max-restarts=1/1s --pm-min-uptime=0 -N2 -n2 \
        "$programs/fault" --rank 1 --lives 2 --after 1200 --exit 9 --run 2500
    assert_status 0
    assert_log_count 2 '.kind == "decision" and .action == "restart-world"'
    assert_decided restart-world exit '; restarting 2 ranks on 2 nodes \(restart 1 of 1 within 1 s\)$'
}
test_three_startup_failures_in_a_row_stop() {
    supervise --pm-supervise --pm-max-restarts=100 --pm-min-uptime=5s -N2 -n2 \
        "$programs/fault" --rank 1 --lives all --exit 9 --run 5000
    assert_status 9
    assert_log_count 2 '.kind == "decision" and .action == "restart-world"'
    assert_decided stop exit 'rank 1 .*; stopping: 3 times in a row it died within 5 s \(--pm-min-uptime\)$'
}
test_backoff_doubles() {
    supervise --pm-supervise --pm-max-restarts=3 --pm-min-uptime=0 --pm-backoff=300ms:1s -N2 -n2 \
        "$programs/fault" --rank 1 --lives 3 --exit 9 --run 300
    assert_status 0
    # Nothing before the 1st restart, 300 ms before the 2nd, 600 ms before the 3rd.
    log_select '.kind == "state" and .to == "STARTING"' | jq -s -e 'map(.t_ns / 1e6 | floor) | (.[2] - .[1]) as $second | (.[3] - .[2]) as $third |
        (.[1] - .[0] < 300) and $second >= 300 and $third >= 600 and $third < 1200' >/dev/null ||
        fail "the waits are not 0, 300 and 600 ms: $(log_select '.kind == "state" and .to == "STARTING"')"
    assert_decided restart-world exit 'rank 1 .*; restarting 2 ranks on 2 nodes in 600 ms \(restart 3 of 3\)$'
}
test_fatal_exit_code_is_never_restarted() {
    supervise --pm-supervise -N4 -n8 "$programs/fault" --rank 3 --after 100 --exit 93 --run 5000
    assert_status 93
    assert_decided stop exit 'rank 3 .*; stopping: exit code 93 is in --pm-fatal-exit$'
    assert_log_count 0 '.kind == "decision" and .action == "restart-world"'
}
test_fatal_signal_is_never_restarted() {
    supervise --pm-supervise --pm-fatal-exit=93,SIGUSR1 -N4 -n8 "$programs/fault" --rank 3 --after 100 --signal USR1 --run 5000
    assert_status 138
    assert_decided stop signal 'rank 3 .* killed by signal 10 .*; stopping: signal 10 is in --pm-fatal-exit$'
    assert_log_count 0 '.kind == "decision" and .action == "restart-world"'
}
test_two_failures_at_once_are_one_decision() {
    supervise_bg --pm-supervise -N4 -n8 "$programs/fault" --rank 0,2-5,7 --wait-file "$case_dir/now" --exit 7 --run 300
    wait_until 15 "8 ranks" sh -c "[ \$(grep -c '^fault: start' '$case_dir/out') = 8 ]"
    touch now
    wait_step
    assert_status 0
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
    assert_decided restart-world exit '; restarting 8 ranks on 4 nodes \(restart 1 of 3\)$'
    assert_out_count 16 '^fault: start'
    assert_out_count 8 '^fault: done .* incarnation=1 '
}
# One restart is allowed, and all six take it.
test_failures_at_once_are_one_decision_in_rank_mode_too() {
    supervise_bg --pm-supervise=rank --pm-max-restarts=1 -N4 -n8 "$programs/fault" --rank 0,2-5,7 --wait-file "$case_dir/now" --exit 7 --run 1000
    wait_until 15 "8 ranks" sh -c "[ \$(grep -c '^fault: start' '$case_dir/out') = 8 ]"
    touch now
    wait_step
    assert_status 0
    assert_out_count 14 '^fault: start'
    assert_decided restart-rank exit 'rank [0-7] .* exited with code 7.*; restarting this rank \(restart 1 of 1\)$'
    assert_log_count 6 '.kind == "decision" and .action == "restart-rank" and .reason == "restart 1 of 1"'
    assert_log_count 6 '.kind == "running-again"'
    [[ $(grep -c '^pm-supervise: rank [0-7] running again after ' err) == 6 ]] || fail "not every rank is said to run again"
}
# The shims stay until the step is over: a rank that had ended well starts again with its world.
test_ranks_that_had_ended_well_start_again_with_the_world() {
    supervise_bg --pm-supervise -N4 -n8 "$programs/fault" --rank 3 --wait-file "$case_dir/now" --exit 7 --run 100
    wait_until 15 "7 ranks to end" sh -c "[ \$(grep -c '^fault: done' '$case_dir/out') = 7 ]"
    touch now
    wait_step
    assert_status 0
    assert_out_count 16 '^fault: start'
    assert_out_count 15 '^fault: done'
    assert_decided restart-world exit 'rank 3 .*; restarting 8 ranks on 4 nodes \(restart 1 of 3\)$'
}
test_failure_at_startup_is_handled() {
    supervise --pm-supervise -N4 -n8 "$programs/fault" --rank 6 --exit 7 --run 200
    assert_status 0
    assert_decided restart-world exit 'rank 6 .* exited with code 7.*; restarting 8 ranks on 4 nodes \(restart 1 of 3\)$'
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
}
test_failure_while_halting_joins_the_decision() {
    supervise --pm-supervise --pm-grace=1s -N4 -n8 bash -c '
        trap "sleep 0.3; exit 11" TERM
        [ "$PM_EPOCH" = 0 ] || exit 0
        [ "$SLURM_PROCID" != 3 ] || { sleep 0.2; exit 7; }
        while :; do sleep 0.05; done'
    assert_status 0
    assert_decided restart-world exit 'rank 3 .* exited with code 7.*; restarting 8 ranks on 4 nodes \(restart 1 of 3\)$'
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
}
test_rank_that_ignores_sigterm_is_killed_after_the_grace() {
    supervise --pm-supervise --pm-grace=500ms -N4 -n8 sh -c "[ \$PM_EPOCH = 1 ] || set -- --run 60000
        exec $programs/fault --rank 3 --after 100 --exit 7 --ignore-term \"\$@\""
    assert_status 0
    assert_out_count 16 '^fault: start'
    # They had their SIGTERM, and time.
    assert_out_count 7 '^fault: signal rank=[0-7] incarnation=0 number=15$'
    assert_log '.kind == "state" and .to == "PLACING" and .halt_ms >= 500 and .halt_ms < 3000'
    assert_decided restart-world exit 'rank 3 .*; restarting 8 ranks on 4 nodes \(restart 1 of 3\)$'
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
}
# with_family OPTIONS...: rank 3 has descendants and fails; its next life looks whether one of them is left.
with_family() {
    supervise --pm-supervise --pm-grace=200ms -N4 -n8 sh -c "[ \$SLURM_PROCID = 3 ] || exec $programs/fault --run 800
        [ \$PM_EPOCH = 0 ] || while read -r pid kind; do [ ! -e /proc/\$pid ] || echo \$pid \$kind >>left; done <pids.0
        exec $programs/fault --rank 3 --after 400 --exit 7 --run 800 $* --pid-file pids.\$PM_EPOCH"
    assert_status 0
    assert_decided restart-world exit 'rank 3 .* exited with code 7.*; restarting 8 ranks on 4 nodes \(restart 1 of 3\)$'
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
    [[ ! -e left ]] || fail "they outlived their rank: $(<left)"
}
test_fifty_descendants_die_with_their_rank() {
    with_family --children 20 --chain 20 --sessions 5 --daemons 5
    [[ $(wc -l <pids.0) == 50 ]] || fail "there were $(wc -l <pids.0) descendants"
}
test_rank_that_keeps_forking_cannot_escape() {
    with_family --forkers 2 --daemons 2
    (($(grep -c forker pids.0) > 10)) || fail "it did not keep forking"
}
