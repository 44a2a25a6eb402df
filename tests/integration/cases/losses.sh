# SPDX-License-Identifier: Apache-2.0
# cluster: site 8
#
# The end after a node is lost, with Slurm's own timeout (SlurmdTimeout=300) far away: soon, with the right status,
# with all that live nodes wrote, with a ledger; and who else is told. Each case takes nodes that are idle and leaves
# the lost one as it is: Slurm needs half a minute to be done with it.
#
# shellcheck shell=bash disable=SC2154,SC2016

skip_clean=
now_boottime() { /usr/bin/python3 -c 'import time; print(time.clock_gettime(time.CLOCK_BOOTTIME))'; }

# At SIGTERM each rank writes far more than what pipes and sockets between it and srun can hold.
readonly last_words='trap "seq -f \"last $SLURM_PROCID %g\" 30000; exit 0" TERM; echo up; while :; do sleep 0.1 & wait $!; done'

three_nodes() { supervise_bg --pm-supervise --pm-node-timeout=2s -N3 -n6 "$@"; }
# What rank 5 runs on, the last node of the step.
lose() {
    local how=$1
    wait_until 20 "6 ranks" sh -c "[ \$(grep -c '^up' '$case_dir/out') = 6 ]"
    wait_running
    lost=$(rank_host 5)
    [[ $how == stepd ]] || skip_clean=$lost
    case $how in
        off) cluster kill-node "$lost" ;;
        reset) cluster kill-node "$lost" --reset ;;
        cut) cluster cut "$lost" ;;
        stepd) cluster exec "$lost" sh -c 'kill -KILL $(ps -eo pid=,args= | grep "[s]lurmstepd: \[[0-9]*\.0\]" | awk "{print \$1; exit}")' ;;
    esac
}
# The step has ended: how long after its verdict?
ended_soon_after_the_verdict() {
    local s
    s=$(log_select '.kind == "decision" and .action == "stop"' | jq -s --argjson now "$(now_boottime)" '$now - .[0].t_ns / 1e9')
    echo "from the verdict to the prompt: $s s"
    awk -v s="$s" 'BEGIN { exit !(s <= 6) }' || fail "the prompt came $s s after the verdict"
}
all_is_written() {
    local rank
    for rank in 0 1 2 3; do
        grep "^last $rank " out | awk '{ if ($3 != ++n) exit 1 } END { exit n != 30000 }' || fail "output of rank $rank is missing"
    done
}
nobody_is_drained() {
    cluster run sinfo -h -N -o '%N %T' | grep -E 'drain|down' && fail "a node is drained or down"
    return 0
}
ends() {
    three_nodes bash -c "$last_words"
    lose "$1"
    wait_step
    ended_soon_after_the_verdict
    assert_status 1
    all_is_written
    nobody_is_drained
}
in_ledger() {
    assert_err "^pm-supervise: lost in epoch 0: $lost at 20[0-9T:.-]+Z \\($1\\): $2; [0-9.]+ (s|ms) until the step ended\$"
    assert_log ".kind == \"ledger\" and .cause == \"$1\" and .lost_ms > 0 and (.reason | startswith(\"$lost: \"))"
    [[ $(grep -c '^pm-supervise: lost in epoch' err) == 1 ]] || fail "the ledger has not one line"
}

test_end_after_a_power_off() { ends off; in_ledger node-lost 'nothing was heard of it for [0-9.]+ s'; }
test_end_after_a_reset() { ends reset; in_ledger agent-lost "its agent's port refused two connections"; }
test_end_after_a_cut() {
    ends cut
    in_ledger node-lost 'nothing was heard of it for [0-9.]+ s'
    cluster heal "$lost"
    skip_clean=
}
test_end_after_slurmstepd_was_killed() {
    ends stepd
    refute_err '^pm-supervise: lost in epoch'  # no node was
}
# As `ends off`, with stdout going into the pipe $1.
power_off_under_a_pipe() {
    local words=${last_words/echo up/touch \"$case_dir/up.\$SLURM_PROCID\"}
    mkdir -p nodes && chmod 1777 nodes
    { timeout 40 "$dc" --dir "$pm_cluster" run srun "${log_options[@]}" --pm-supervise --pm-node-timeout=2s -N3 -n6 \
        bash -c "$words" >"$1" 2>err </dev/null || echo $? >status; } &
    step_pid=$!
    wait_until 20 "6 ranks" sh -c "[ \$(ls '$case_dir' | grep -c '^up') = 6 ]"
    wait_running
    lost=$(rank_host 5) skip_clean=$lost
    cluster kill-node "$lost"
    wait_err 'is lost \(node-lost\)'
}
step_has_ended() {
    wait "$step_pid"
    ended_soon_after_the_verdict
    status=$(<status)
    assert_status 1
}
# Whoever reads our output begins 3 s after the verdict.
test_output_waits_for_a_slow_reader() {
    mkfifo slow
    { wait_file "$case_dir/begin" 60; cat >out; } <slow &
    local reader=$!
    power_off_under_a_pipe slow
    sleep 3
    touch begin
    step_has_ended
    wait "$reader"
    all_is_written
}
# Nobody reads at all: 5 s are the bound.
test_output_that_nobody_reads_does_not_hold_the_step() {
    mkfifo stuck
    sleep 60 <stuck &
    local reader=$!
    power_off_under_a_pipe stuck
    step_has_ended
    kill "$reader"
}
