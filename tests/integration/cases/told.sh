# SPDX-License-Identifier: Apache-2.0
# cluster: site 4
#
# What a step tells: its exit status when several ranks fail, the lines of --pm-verbose, and what is in --pm-log.
#
# shellcheck shell=bash disable=SC2154,SC2016

# --- exit status ------------------------------------------------------------------------------------------------

# first_of STATUS HOW: of three ranks that fail one after the other the first one's status counts, not the highest.
first_of() {
    supervise --pm-supervise=notify -N2 -n4 sh -c "case \$SLURM_PROCID in 0) exec sleep 1.2 ;; 1) sleep 0.6; exit 200 ;; 2) sleep 0.2; $2 ;; 3) sleep 0.9; kill -SEGV \$\$ ;; esac"
    assert_status "$1"
    assert_log_count 3 '.kind == "decision" and .action == "notify"'
    assert_err '^pm-supervise: rank 2 \(node2, pid [0-9]+\) .*; the other ranks are told and go on$'
    assert_err '^pm-supervise: rank 1 \(node1, pid [0-9]+\) exited with code 200 .*; the other ranks are told and go on$'
    assert_log '.kind == "exit" and .status.exit == '"$1"
    assert_invariants
    rm -rf log.* nodes
}
test_status_is_that_of_the_first_rank_that_failed() {
    first_of 9 'exit 9'
    first_of 137 'kill -KILL $$'
}
# What failed in earlier worlds was mended by the restart.
test_status_is_the_final_worlds() {
    supervise --pm-supervise --pm-max-restarts=1 --pm-min-uptime=0 -N2 -n4 sh -c '
        sleep 0.2; case $PM_EPOCH.$SLURM_PROCID in 0.3) exit 200 ;; 1.1) exit 11 ;; *) exec sleep 60 ;; esac'
    assert_status 11
    assert_decided restart-world exit 'rank 3 .* exited with code 200 .*; restarting 4 ranks on 2 nodes \(restart 1 of 1\)$'
    assert_decided stop exit 'rank 1 .* exited with code 11 .*; stopping: 1 of 1 restarts used$'
}

# --- lines ------------------------------------------------------------------------------------------------------

# What is said by default is what people must know. A rank that leaves without PMIx_Finalize is not part of it.
test_verbose_says_more_and_still_nothing_in_the_programs_output() {
    local more
    for more in '' --pm-verbose; do
        supervise --pm-supervise $more -N2 -n4 "$programs/pmix_probe" init fence @3/exit:0 finalize
        assert_status 0
        if [[ $more ]]; then
            assert_err '^pm-supervise: epoch 0 running after [0-9.]+ m?s$'
            assert_err '^pm-supervise: rank 3 ended with 0 without PMIx_Finalize; going on$'
        fi
        [[ $more || ! -s err ]] || fail "something was said without being asked for"
        ! grep -q pm-supervise out || fail "our lines are in the program's output"
        assert_log '.kind == "no-finalize" and .rank == 3'
        assert_log_count 0 '.kind == "failure" or .kind == "decision"'
        assert_invariants
        rm -rf log.* nodes
    done
}

# --- logs -------------------------------------------------------------------------------------------------------

# Two steps never share a file: a name without %j and %s serves one step only.
test_log_that_is_there_already_is_refused_before_anything_is_allocated() {
    run srun --pm-supervise --pm-log="$case_dir/log.json" -N2 -n2 "$programs/fault" --run 100
    assert_status 0
    cp log.json before
    run srun --pm-supervise --pm-log="$case_dir/log.json" -N2 -n2 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: --pm-log=.*/log\.json: the file is there already, and each step needs one of its own: put %j and %s into the name$'
    assert_out_count 0 '^fault'
    cmp before log.json || fail "the first step's log was changed"
    [[ -z $(cluster run squeue -h) ]] || fail "something was allocated"
}
# Where the time of a restart goes. The wait of --pm-backoff begins with the decision; what the halt leaves of it is part of placing.
test_log_says_how_long_each_part_of_a_restart_took() {
    supervise --pm-supervise --pm-min-uptime=0 --pm-backoff=900ms --pm-grace=200ms -N2 -n4 sh -c '
        trap "" TERM; [ $PM_EPOCH != 2 ] || exec '"$programs"'/pmix_probe init fence finalize
        [ $SLURM_PROCID != 3 ] || { sleep 1; exit 7; }; while :; do sleep 0.05; done'
    assert_status 0
    assert_log '.kind == "state" and .to == "RUNNING" and .epoch == 0 and .start_ms >= 1 and .halt_ms == null'
    assert_log '.kind == "state" and .to == "PLACING" and .epoch == 1 and .halt_ms >= 200 and .halt_ms < 3000'
    assert_log '.kind == "state" and .to == "RUNNING" and .epoch == 2 and .start_ms >= 1 and .halt_ms >= 200 and
        .place_ms >= 1 and .halt_ms + .place_ms >= 890 and .halt_ms + .place_ms < 3000'
    assert_log '.kind == "wireup" and .epoch == 2 and .wireup_ms >= 1'
    assert_decided restart-world exit 'rank 3 .* exited with code 7 .*; restarting 4 ranks on 2 nodes in 900 ms \(restart 2 of 3\)$'
}
# What agents write of a rank's end: told to go, killed after the grace, ended, nothing left; with pid and clock.
test_nodes_logs_have_start_stop_kill_and_reap_of_each_rank() {
    supervise --pm-supervise --pm-grace=200ms -N2 -n2 sh -c '
        [ $PM_EPOCH = 0 ] || exit 0; [ $SLURM_PROCID != 0 ] || { sleep 0.3; exit 7; }; trap "" TERM; while :; do sleep 0.05; done'
    assert_status 0
    assert_decided restart-world exit 'rank 0 .* exited with code 7 .*; restarting 2 ranks on 2 nodes \(restart 1 of 3\)$'
    [[ $(jq -r 'select(.rank == 1 and .epoch == 0) | .kind' nodes/*node2* | xargs) == 'start stop kill exit reap' ]] ||
        fail "rank 1 in epoch 0: $(jq -c 'select(.rank == 1)' nodes/*node2*)"
    cat nodes/* | jq -es 'map(select(.kind | test("^(start|stop|kill|exit|reap)$"))) |
        length > 8 and all(.[]; .pid > 1 and .t_ns > 0 and (.time | test("^20.*Z$")) and .job > 0 and .rank >= 0 and .incarnation == .epoch)' >/dev/null ||
        fail "a record lacks a field: $(cat nodes/*)"
    cat nodes/* | jq -es 'map(select(.rank == 1 and .epoch == 0)) | (.[2].t_ns - .[1].t_ns) / 1e6 | . >= 200 and . < 2000' >/dev/null ||
        fail "the kill did not come 200 ms after the stop"
}
