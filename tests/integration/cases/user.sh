# SPDX-License-Identifier: Apache-2.0
# cluster: site 4
#
# What a user types and sees: options, stdin and stdout, signals, batch jobs.
#
# shellcheck shell=bash disable=SC2154,SC2016

# --- input and output -----------------------------------------------------------------------------

test_stdin_unread_by_a_dead_rank_is_read_by_the_next() {
    seq 1 400 >"$case_dir/in"
    mkdir -p nodes && chmod 1777 nodes
    status=0
    timeout "$step_timeout" "$dc" --dir "$pm_cluster" run srun "${log_options[@]}" --pm-supervise -N1 -n1 \
        "$programs/fault" --echo --after-lines 100 --exit 7 <in >out 2>err || status=$?
    assert_status 0
    assert_decided restart-world exit 'rank 0 .* exited with code 7.*; restarting 1 rank on 1 node \(restart 1 of 3\)$'
    # Every line exactly once and in order: fault never reads past a line.
    sed -n 's/^fault: echo.*text=//p' out >lines
    cmp in lines || fail "stdin was not carried over"
}
test_output_is_complete_and_in_order_over_a_restart() {
    supervise --pm-supervise -N4 -n8 "$programs/fault" --lines 2000 --line-us 100 --rank 3 --after-lines 1500 --exit 7
    assert_status 0
    assert_decided restart-world exit 'rank 3 .* exited with code 7.*; restarting 8 ranks on 4 nodes \(restart 1 of 3\)$'
    # The last life of every rank printed all its lines in order.
    for rank in 0 1 2 3 4 5 6 7; do
        grep "^fault: line rank=$rank incarnation=1 " out | sed 's/.* n=\([0-9]*\).*/\1/' >lines || true
        seq 1 2000 | cmp - lines || fail "lines of rank $rank are lost or out of order"
    done
}
test_label_prefixes_every_line_of_both_lives() {
    supervise --pm-supervise -l -N2 -n2 "$programs/fault" --rank 1 --after 200 --exit 7 --run 300
    assert_status 0
    assert_decided restart-world exit 'rank 1 .* exited with code 7.*; restarting 2 ranks on 2 nodes \(restart 1 of 3\)$'
    assert_out_count 2 '^0: fault: start'
    assert_out_count 2 '^1: fault: start'
}
test_output_files_per_task() {
    supervise --pm-supervise -N2 -n2 -o "$case_dir/o.%t" -e "$case_dir/e.%t" "$programs/fault" --rank 1 --after 200 --exit 7 --run 300
    assert_status 0
    assert_decided restart-world exit 'rank 1 .* exited with code 7.*; restarting 2 ranks on 2 nodes \(restart 1 of 3\)$'
    [[ $(grep -c '^fault: start' o.1) == 2 ]] || fail "o.1 does not hold both lives"
}
test_our_lines_never_go_into_the_programs_output() {
    supervise --pm-supervise -N2 -n2 "$programs/fault" --rank 1 --after 200 --exit 7 --run 300
    assert_status 0
    assert_decided restart-world exit 'rank 1 .* exited with code 7.*; restarting 2 ranks on 2 nodes \(restart 1 of 3\)$'
    ! grep -q pm-supervise out || fail "our lines are on stdout"
}
test_multi_prog() {
    printf '0 %s --run 300\n1-3 %s --rank 2 --after 50 --exit 7 --run 300\n' "$programs/fault" "$programs/fault" >conf
    supervise --pm-supervise -N2 -n4 --multi-prog "$case_dir/conf"
    assert_status 0
    assert_decided restart-world exit 'rank 2 .* exited with code 7.*; restarting 4 ranks on 2 nodes \(restart 1 of 3\)$'
    assert_out_count 8 '^fault: start'
}
test_pty() {
    status=0
    mkdir -p nodes && chmod 1777 nodes
    timeout "$step_timeout" "$dc" --dir "$pm_cluster" run script -qec "srun ${log_options[*]} --pm-supervise --pty -N1 -n1 $programs/fault --exit 7 --run 100" /dev/null \
        >out 2>err </dev/null || status=$?
    assert_status 0
    grep -q $'pm-supervise: rank 0 .*\r$' out || fail "our line does not end in CR LF on a terminal"
    assert_log '.kind == "decision" and .action == "restart-world" and .cause == "exit" and .rank == 0'
}
test_pty_without_a_terminal_is_disregarded_as_by_srun() {
    supervise --pm-supervise --pty -N1 -n1 "$programs/fault" --exit 7 --run 100
    assert_status 0
    assert_err '^pm-supervise: epoch 1 running after'
    ! grep -q $'\r' err || fail "lines end in CR LF"
}

# --- stopping -------------------------------------------------------------------------------------

start_long() { supervise_bg --pm-supervise -N4 -n8 "$programs/fault" --run 60000; wait_until 15 "8 ranks" sh -c "[ \$(grep -c '^fault: start' '$case_dir/out') = 8 ]"; }
srun_pids() { cluster exec login ps -eo pid=,comm= | awk -v n="$1" '$2 == n {print $1}'; }
job_of_case() { basename "$(compgen -G "$case_dir/log.*.json" | head -n 1)" | cut -d. -f2; }

test_scancel_stops_for_good() {
    start_long
    cluster run scancel "$(job_of_case)"
    wait_step
    assert_status 143
    assert_stopped_by_user 15
}
# Slurm kills all processes of a step that is cancelled by its number at once, ours included.
test_scancel_of_the_step_ends_as_plain_srun() {
    except=every_child_is_reaped
    start_long
    cluster run scancel "$(job_of_case).0"
    wait_step
    assert_status 137
    assert_log_count 0 '.kind == "decision" and (.action | startswith("restart"))'
}
# Only Slurm knows how long ranks may take after its signal; one of the two has only now come to PMIx_Init. Plain srun
# waits for them, too, and whoever does not want to wait stops srun.
test_ranks_that_catch_slurms_signal_go_on() {
    supervise_bg --pm-supervise --pm-grace=1s -N2 -n2 bash -c 'trap "got=1" TERM; echo up; while [ -z "$got" ]; do sleep 0.1; done
        [ $SLURM_PROCID = 1 ] || sleep 3; '"$programs"'/pmix_probe init fence finalize && echo saved'
    wait_until 15 "2 ranks" sh -c "[ \$(grep -c '^up' '$case_dir/out') = 2 ]"
    wait_running
    cluster run scancel --signal=TERM "$(job_of_case).0"
    wait_step
    assert_status 0
    assert_out_count 2 '^saved$'
    assert_stopped_by_user 15
}
# Nobody waits for a rank that the signal has ended, as it does not catch it.
test_a_fence_with_a_rank_that_slurms_signal_has_ended_fails() {
    supervise_bg --pm-supervise -N2 -n2 bash -c '[ $SLURM_PROCID = 1 ] || trap "got=1" TERM; echo up; while [ -z "$got" ]; do sleep 0.1; done
        '"$programs"'/pmix_probe init fence finalize; echo "probe ended with $?"'
    wait_until 15 "2 ranks" sh -c "[ \$(grep -c '^up' '$case_dir/out') = 2 ]"
    wait_running
    cluster run scancel --signal=TERM "$(job_of_case).0"
    wait_step
    assert_status 143
    assert_out_count 1 '^probe ended with [1-9]'
    assert_stopped_by_user 15
}
test_ranks_that_outlive_slurms_signal_end_when_srun_is_stopped_as_well() {
    supervise_bg --pm-supervise --pm-grace=1s -N2 -n2 bash -c 'trap "echo caught" TERM; echo up; while :; do sleep 0.1; done'
    wait_until 15 "2 ranks" sh -c "[ \$(grep -c '^up' '$case_dir/out') = 2 ]"
    wait_running
    cluster run scancel --signal=TERM "$(job_of_case).0"
    wait_err 'the step is being stopped \(signal 15\)'
    wait_until 10 "2 signals" sh -c "[ \$(grep -c '^caught' '$case_dir/out') = 2 ]"
    cluster exec login kill -TERM "$(srun_pids pm-coordinator)"
    wait_step
    assert_status 137
    assert_err "^pm-supervise: signal 15 for srun: ranks that have outlived Slurm's signal are ended\$"
    assert_stopped_by_user 15
}
# slurmctld looks every 30 s, and counts limits in minutes; the end of a running job can be set to the second.
test_time_limit_stops_for_good() {
    step_timeout=70
    start_long
    cluster run scontrol update "JobId=$(job_of_case)" EndTime=now+1seconds
    wait_step
    assert_status 143
    assert_stopped_by_user 15
}
# Plain srun answers these with SIGKILL. Here ranks can end in order, and the status is theirs.
stopped_by_signal() {
    supervise_bg --pm-supervise -N2 -n2 sh -c "$2"' echo up; while :; do sleep 0.1; done'
    wait_until 15 "2 ranks" sh -c "[ \$(grep -c '^up' '$case_dir/out') = 2 ]"
    wait_running
    cluster exec login kill "-$1" "$(srun_pids pm-coordinator)"
    wait_step
    assert_status "$3"
    assert_stopped_by_user "$(kill -l "$1")"
    assert_invariants
    rm -rf log.* nodes out
}
test_sigterm_and_sighup_to_srun_stop_for_good() {
    stopped_by_signal TERM '' 143
    stopped_by_signal HUP '' 143
    stopped_by_signal TERM 'trap "exit 0" TERM;' 0
    stopped_by_signal TERM 'trap "exit 7" TERM;' 7
}
# What `2>&1 | less` and Ctrl-S do to stderr: nobody waits for who does not read it, neither the ranks nor the end.
test_stderr_that_nobody_reads_holds_nobody_up() {
    mkfifo stuck
    exec 9<>stuck
    /usr/bin/python3 -c '
import os
fd = os.open("stuck", os.O_WRONLY | os.O_NONBLOCK)
for size in (4096, 1):
    try:
        while True: os.write(fd, b"x" * size)
    except BlockingIOError: pass'
    mkdir -p nodes && chmod 1777 nodes
    timeout -k 5 "$step_timeout" "$dc" --dir "$pm_cluster" run srun "${log_options[@]}" --pm-supervise --pm-node-timeout=2s -N2 -n2 \
        "$programs/fault" --rank 1 --after 200 --exit 7 --run 60000 >out 2>stuck 9>&- </dev/null &
    step_pid=$! step_began=$SECONDS
    wait_until 20 "the restart" log_has '.to == "RUNNING" and .epoch == 1'
    sleep 3  # longer than a lease
    local began=$SECONDS
    cluster exec login kill -TERM "$(srun_pids pm-coordinator)"
    wait_step
    # srun itself waits for the reader, to tell of its tasks: it is ended, and killed 5 s later.
    ((SECONDS - began < 25)) || fail "the end took $((SECONDS - began)) s"
    assert_status 137
    assert_log_count 1 '.kind == "decision" and (.action | startswith("restart"))'
    assert_log ".kind == \"decision\" and .action == \"stop\" and .reason == \"user's stop, signal 15\""
}
# srun takes the first one as a question, passes the second on to the ranks, and kills what is left at once.
test_ctrl_c_twice_stops_for_good() {
    except=every_child_is_reaped
    mkdir -p nodes && chmod 1777 nodes
    status=0
    timeout -k 5 "$step_timeout" "$pm_root/tests/integration/at_terminal" '(?s)(fault: start rank.*?){8}' '\x03' 'one more within 1 sec' '\x03' -- \
        "$dc" --dir "$pm_cluster" run srun "${log_options[@]}" --pm-supervise -N4 -n8 "$programs/fault" --run 60000 >out 2>err || status=$?
    assert_status 130
    assert_out 'pm-supervise: the step is being stopped \(signal 2\); no more restarts'
    assert_log ".kind == \"decision\" and .action == \"stop\" and .reason == \"user's stop, signal 2\""
    assert_log_count 0 '.kind == "decision" and (.action | startswith("restart"))'
}
# kill(1) means the srun that the user knows; a keyboard's signals reach the real one by themselves.
test_signals_for_srun_alone_are_answered_as_by_plain_srun() {
    except=every_child_is_reaped
    start_long
    cluster exec login kill -INT "$(srun_pids pm-coordinator)"
    wait_err '^srun: interrupt \(one more within 1 sec to abort\)'
    cluster exec login kill -QUIT "$(srun_pids pm-coordinator)"
    wait_step
    assert_status 137
    assert_err '^pm-supervise: the step is being stopped \(signal 3\); no more restarts'
}
test_ctrl_z_and_fg_stop_and_continue_srun_once() {
    mkdir -p nodes && chmod 1777 nodes
    status=0
    timeout -k 5 "$step_timeout" "$pm_root/tests/integration/at_terminal" '\$ ' \
        "srun ${log_options[*]} --pm-supervise -N2 -n2 $programs/fault --run 4000\\r" \
        '(?s)(fault: start rank.*?){2}' '\x1a' 'Stopped' 'fg\r' 'srun: got SIGCONT' '' '\$ ' 'exit $?\r' -- \
        "$dc" --dir "$pm_cluster" run env PS1='$ ' bash --norc -i >out 2>err || status=$?
    assert_status 0
    assert_out_count 1 'srun: got SIGCONT'
}
# Of the final world: rank 0 ends in the first life, too, and long before its second ends.
test_wait_ends_the_step_after_the_first_rank_ended() {
    local began
    run srun --wait=1 -N2 -n2 sh -c '[ $SLURM_PROCID = 0 ] || exec sleep 60'
    local wanted=$status
    began=$SECONDS
    supervise --pm-supervise --wait=1 -N2 -n2 bash -c '[ $SLURM_PROCID = 0 ] || { [ $PM_EPOCH = 1 ] || { sleep 0.5; exit 7; }; exec sleep 60; }
        [ $PM_EPOCH = 0 ] || exec sleep 1.2'
    ((SECONDS - began < 30)) || fail "the step went on for $((SECONDS - began)) s"
    assert_status "$wanted"
    assert_err '^pm-supervise: ranks on node2 still run 1 s after the first rank ended \(--wait\); stopping$'
    assert_log '.kind == "decision" and .action == "stop" and .epoch == 1'
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
    # From the state RUNNING to the decision: the second life of rank 0 and the wait.
    log_select '.epoch == 1 and (.to == "RUNNING" or .action == "stop")' |
        jq -se '(.[1].t_ns - .[0].t_ns) / 1e9 | . >= 2 and . < 4' >/dev/null || fail "the wait was not 1 s"
    # The variable means the same.
    run env SLURM_WAIT=1 srun --pm-supervise -N2 -n2 sh -c '[ $SLURM_PROCID = 0 ] || exec sleep 60'
    assert_status "$wanted"
    assert_err '^pm-supervise: ranks on node2 still run 1 s after the first rank ended \(--wait\); stopping$'
}

# --- who and where --------------------------------------------------------------------------------

test_user_who_is_not_root() {
    mkdir -p nodes && chmod 1777 nodes "$case_dir"
    status=0
    timeout "$step_timeout" "$dc" --dir "$pm_cluster" run --user alice srun "${log_options[@]}" --pm-supervise -N4 -n8 \
        "$programs/fault" --rank 3 --after 100 --exit 7 --run 300 >out 2>err </dev/null || status=$?
    assert_status 0
    assert_decided restart-world exit 'rank 3 .* exited with code 7.*; restarting 8 ranks on 4 nodes \(restart 1 of 3\)$'
    assert_out_count 16 '^fault: start'
}
test_batch_job_with_two_supervised_steps_at_once() {
    cat >job <<JOB
#!/bin/bash
for i in 1 2; do
    srun --overlap -N2 -n2 --pm-log=$case_dir/log.%j.%s.json $programs/fault --rank 1 --after 200 --exit 7 --run 500 >$case_dir/out.\$i 2>$case_dir/err.\$i &
done
wait -n; a=\$?; wait -n; b=\$?
echo "\$a \$b" >$case_dir/statuses
JOB
    run sbatch --wait --pm-supervise -N2 -n2 --overcommit -o "$case_dir/batch" job
    [[ $(cat statuses) == "0 0" ]] || fail "the steps ended with $(cat statuses)"
    for i in 1 2; do
        grep -qE '^pm-supervise: rank 1 .* exited with code 7.*; restarting 2 ranks on 2 nodes \(restart 1 of 3\)$' err.$i || fail "step $i was not supervised"
    done
    assert_log_count 2 '.kind == "decision" and .action == "restart-world" and .cause == "exit" and .rank == 1'
    [[ $(compgen -G 'log.*.json' | wc -l) == 2 ]] || fail "the steps share a log"
}
test_salloc_hands_the_option_on_to_the_sruns_inside() {
    run salloc --pm-supervise --pm-max-restarts=1 -N2 -n2 bash -c "
        srun $programs/fault --rank 1 --after 200 --exit 7 --run 300 && srun --pm-supervise=off bash -c 'echo epoch \${PM_EPOCH-none}'"
    assert_status 0
    assert_out_count 4 '^fault: start'
    assert_err '; restarting 2 ranks on 2 nodes \(restart 1 of 1\)$'
    assert_out_count 2 '^epoch none$'
}
# Four nodes for a moment, and nobody's start timeout runs while a step waits for them.
test_queueing_is_not_limited_by_the_start_timeout() {
    cluster run srun --exclusive -N4 sleep 4 &
    wait_until 10 "the nodes to be taken" sh -c "[ \$('$dc' --dir '$pm_cluster' run squeue -h -t running | wc -l) = 1 ]"
    supervise --pm-supervise --pm-start-timeout=1s --exclusive -N4 -n4 sh -c 'echo ran'
    assert_status 0
    assert_out_count 4 '^ran$'
    assert_err '^srun: job [0-9]+ queued and waiting for resources$'
    refute_err pm-supervise
    wait
}
test_environment_variable_turns_it_on() {
    run env SLURM_PM_SUPERVISE=world srun -N2 -n2 "$programs/fault" --rank 1 --after 200 --exit 7 --run 300
    assert_status 0
    assert_err '^pm-supervise: rank 1 .* exited with code 7.*; restarting 2 ranks on 2 nodes \(restart 1 of 3\)$'
    assert_out_count 4 '^fault: start'
}
test_typing_error_in_the_environment_never_runs_a_step_unsupervised() {
    run env SLURM_PM_SUPERVISE=wrold srun -N1 -n1 echo ran
    assert_status 125
    assert_err '^pm-supervise: SLURM_PM_SUPERVISE=wrold: takes world, rank, notify or off$'
    assert_out_count 0 ran
    # Off is off, and what is wrong elsewhere does not matter then.
    run env SLURM_PM_SUPERVISE=wrold srun --pm-supervise=off -N1 -n1 echo ran
    assert_status 0
    run env SLURM_PM_GRACE=wrong srun -N1 -n1 echo ran
    assert_status 0
    refute_err pm-supervise
}
test_export_none() {
    supervise --pm-supervise --export=NONE -N2 -n2 "$programs/fault" --rank 1 --after 200 --exit 7 --run 300
    assert_status 0
    assert_decided restart-world exit 'rank 1 .* exited with code 7.*; restarting 2 ranks on 2 nodes \(restart 1 of 3\)$'
    assert_out_count 4 '^fault: start'
}

# --- options --------------------------------------------------------------------------------------

refused() {
    local line=$1
    shift
    run srun --pm-supervise "$@" -N2 -n2 true
    assert_status 125
    assert_err "^pm-supervise: .*$line"
    [[ $(wc -l <err) == 1 ]] || fail "said in more than one line"
    [[ -z $(cluster run squeue -h) ]] || fail "something was allocated"
}
test_bad_values_are_refused_before_anything_is_allocated() {
    refused 'pm-grace' --pm-grace=5parsecs
    refused 'pm-max-restarts' --pm-max-restarts=-1
    refused 'pm-max-restarts' --pm-max-restarts=1000001
    refused 'pm-node-timeout' --pm-node-timeout=11m
    refused 'pm-spares' --pm-spares=2
    refused 'pm-spares' --pm-spares=many
    refused 'pm-max-node-losses' --pm-max-node-losses=-1
    refused 'pm-port-range' --pm-port-range=5-4
    refused 'mpi' --mpi=pmi2
    refused 'pm-log' --pm-log="$case_dir/no/such/folder/log"
    mkfifo fifo
    refused 'pm-log=.*/fifo: the file is there already' --pm-log="$case_dir/fifo"
    refused 'pm-bind-report=.*/fifo: is no file' --pm-bind-report="$case_dir/fifo"
    refused 'takes world, rank, notify or off' --pm-supervise=everything
    # sbatch looks as well, and submits nothing.
    run sbatch --pm-supervise --pm-grace=5parsecs --wrap true
    [[ $status != 0 ]] || fail "sbatch accepted a bad value"
    assert_err '^pm-supervise: --pm-grace=5parsecs: takes a duration'
}
test_site_defaults_yield_to_the_environment_and_that_to_the_command_line() {
    with_site_defaults max-restarts=1 min-uptime=0 grace=7s
    local dies=(-N1 -n1 "$programs/fault" --lives all --exit 9)
    run srun --pm-supervise "${dies[@]}"
    assert_status 9
    assert_err '; stopping: 1 of 1 restarts used$'
    run env SLURM_PM_MAX_RESTARTS=2 srun --pm-supervise "${dies[@]}"
    assert_status 9
    assert_err '; stopping: 2 of 2 restarts used$'
    run env SLURM_PM_MAX_RESTARTS=2 srun --pm-max-restarts=3 --pm-supervise "${dies[@]}"
    assert_status 9
    assert_err '; stopping: 3 of 3 restarts used$'
    # What --help says is what counts here.
    run srun --help
    tr -s ' \n' ' ' <out >help
    grep -q -- '--pm-max-restarts=[^(]*(default 1) .*--pm-grace=[^(]*(default 7s)' help || fail "--help does not show the site's defaults"
}
test_bad_site_defaults_are_named_and_harm_nobody_else() {
    local words said
    for words in 'grace=tomorrow|grace=tomorrow: takes a duration' 'max-restrats=5|max-restrats: there is no option max-restrats$' \
        'on-node-loss|on-node-loss: needs a value: PATH$'; do
        said=${words#*|} words=${words%%|*}
        with_site_defaults "$words"
        refused "plugstack.conf: $said"
        run srun -N1 -n1 echo ran
        assert_status 0
        assert_out '^ran$'
        refute_err pm-supervise
        cluster exec login umount /etc/slurm/plugstack.conf
    done
    trap - EXIT
}
test_a_sites_bounds_hold_for_every_way_to_ask() {
    with_site_defaults max-restarts:max=2 node-timeout:min=2s grace:max=1m shrink:max=0
    refused '--pm-max-restarts=3: this site allows at most 2 \(max-restarts:max= in plugstack.conf\)$' --pm-max-restarts=3
    refused '--pm-node-timeout=1s: this site allows at least 2s \(node-timeout:min= in plugstack.conf\)$' --pm-node-timeout=1s
    refused '--pm-max-restarts=1/1h: this site allows at most 2' --pm-max-restarts=1/1h
    refused '--pm-shrink: this site allows at most 0 \(shrink:max= in plugstack.conf\)$' --pm-shrink
    run env SLURM_PM_GRACE=2m srun --pm-supervise -N1 true
    assert_status 125
    assert_err '^pm-supervise: SLURM_PM_GRACE=2m: this site allows at most 1m'
    run sbatch --pm-max-restarts=3 --wrap true
    [[ $status != 0 ]] || fail "sbatch accepted what the site does not allow"
    assert_err '^pm-supervise: --pm-max-restarts=3: this site allows at most 2'
    [[ -z $(cluster run squeue -h) ]] || fail "something was allocated"
    # What nobody has said comes within the bounds; what is within is taken.
    run srun --pm-supervise --pm-min-uptime=0 --pm-grace=1m -N1 -n1 "$programs/fault" --lives all --exit 9
    assert_status 9
    assert_err '; stopping: 2 of 2 restarts used$'
}
test_bad_bounds_are_named_and_harm_nobody_else() {
    with_site_defaults grace:max=tomorrow
    refused 'plugstack.conf: grace:max=tomorrow: takes a duration'
    run srun -N1 -n1 echo ran
    assert_status 0
    refute_err pm-supervise
}
# No user can say what only the site can.
test_options_of_the_site_are_no_options_of_users() {
    run env SLURM_PM_ON_NODE_LOSS=/bin/false SLURM_PM_FENCE_REQUIRED=1 srun --pm-supervise -N1 -n1 true
    assert_status 0
    run srun --pm-supervise --pm-fence=/bin/true -N1 true
    [[ $status != 0 ]] || fail "--pm-fence was taken"
    assert_err "unrecognized option '--pm-fence="
    run srun --help
    ! grep -qE -- '--pm-(fence|on-node-loss)' out || fail "--help shows them"
}
test_heterogeneous_steps_are_refused() {
    refused 'heterogeneous' --het-group=0
    run srun --pm-supervise -N1 true : -N1 true
    assert_status 125
    assert_err '^pm-supervise: .*heterogeneous'
    [[ -z $(cluster run squeue -h) ]] || fail "something was allocated"
}
# A failed rank is the policy's affair, whatever srun was told about bad exits.
test_options_about_bad_exits_are_the_policys_affair() {
    local how
    for how in -K --kill-on-bad-exit=1 SLURM_KILL_BAD_EXIT=1; do
        if [[ $how == -* ]]; then
            supervise --pm-supervise "$how" -N2 -n2 "$programs/fault" --rank 1 --after 200 --exit 7 --run 300
        else
            run env "$how" srun "${log_options[@]}" --pm-supervise -N2 -n2 "$programs/fault" --rank 1 --after 200 --exit 7 --run 300
        fi
        assert_status 0
        assert_decided restart-world exit 'rank 1 .* exited with code 7.*; restarting 2 ranks on 2 nodes \(restart 1 of 3\)$'
        assert_out_count 4 '^fault: start'
        assert_invariants
        rm -rf log.* nodes
        mkdir -p nodes && chmod 1777 nodes
    done
}
test_mpi_habits_are_dropped_and_the_programs_own_arguments_kept() {
    supervise --pm-supervise --mpi=pmix -K --no-kill -N1 -n1 echo --mpi=pmi2 -K --no-kill --het-group=1
    assert_status 0
    assert_out '^--mpi=pmi2 -K --no-kill --het-group=1$'
}
# mpi_replaced TYPE COMMAND...: with COMMAND before it, plain srun uses TYPE; a supervised step is ours all the same, in silence.
mpi_replaced() {
    local type=$1
    shift
    run "$@" srun -N1 -n1 env
    assert_status 0
    assert_out "^SLURM_MPI_TYPE=$type\$"
    assert_out '^(PMI_RANK=0|PMIX_NAMESPACE=slurm\.pmix\..*)$'
    run "$@" srun --pm-supervise -N2 -n2 sh -c "env; exec $programs/pmix_probe init fence:collect:bytes=100 finalize"
    assert_status 0
    assert_out_count 2 "^SLURM_MPI_TYPE=$type\$"  # what plain srun shows
    assert_out_count 2 '^PMIX_NAMESPACE=pm\.[0-9]+\.0\.0$'
    assert_out_count 0 '^PMI_'
    assert_out_count 2 '^pmix_probe: finalize .* rc=0 '
    [[ ! -s err ]] || fail "something was said"
}
test_mpi_type_of_site_and_environment_is_replaced_in_silence() {
    local type
    for type in pmi2 pmix; do
        mpi_replaced "$type" env SLURM_MPI_TYPE="$type"
    done
    cluster exec login cat /etc/slurm/slurm.conf >slurm.conf
    trap 'cluster exec login umount /etc/slurm/slurm.conf' EXIT
    cluster exec login mount --bind "$case_dir/slurm.conf" /etc/slurm/slurm.conf
    for type in pmi2 pmix; do
        sed "s/^MpiDefault=.*/MpiDefault=$type/" slurm.conf >changed
        cat changed >slurm.conf
        mpi_replaced "$type" env
    done
}
# What a parallel debugger does to the srun that it starts.
test_debugger_turns_supervision_off() {
    printf '%s\n' '#include <dlfcn.h>' '__attribute__((constructor)) static void attach(void)' \
        '{ int *flag = dlsym(RTLD_DEFAULT, "MPIR_being_debugged"); if (flag) *flag = 1; }' >debugger.c
    gcc -D_GNU_SOURCE -shared -fPIC -o debugger.so debugger.c
    run env LD_PRELOAD="$case_dir/debugger.so" srun --pm-supervise -N1 -n1 sh -c 'echo "epoch ${PM_EPOCH-none}"'
    assert_status 0
    assert_err 'pm-supervise: srun runs under a parallel debugger, so this step is not supervised$'
    assert_out '^epoch none$'
}
# Files that the shell has opened reach srun by their number, as without us.
test_descriptors_that_srun_is_told_of_stay_open() {
    local how
    for how in plain supervised; do
        run bash -c "srun $([[ $how == plain ]] || echo --pm-supervise) -N2 -n2 -l -i <(seq 3) -o /dev/fd/7 --error=/proc/self/fd/8 \
            sh -c 'cat; echo to the other >&2; ls /proc/self/fd | wc -l' 7>$case_dir/out7 8>$case_dir/out8 9</dev/null"
        assert_status 0
        sort out7 >"$how.7"
        sort out8 >"$how.8"
    done
    [[ $(grep -c '^[01]: 3$' plain.7) -ge 2 && $(wc -l <plain.8) == 2 ]] || fail "plain srun: $(cat plain.7 plain.8)"
    diff plain.7 supervised.7 >difference || fail "stdout: $(<difference)"
    diff plain.8 supervised.8 >difference || fail "stderr: $(<difference)"
}
# What srun is not told of is not there for the coordinator either.
test_other_descriptors_do_not_reach_the_coordinator() {
    timeout -k 5 "$step_timeout" "$dc" --dir "$pm_cluster" run bash -c "exec srun --pm-supervise -N1 -n1 -o /dev/fd/7 sleep 3 \
        7>$case_dir/out7 9>$case_dir/out9" </dev/null >out 2>err &
    local pid
    wait_until 10 "a coordinator" sh -c "[ -n \"\$('$dc' --dir '$pm_cluster' exec login ps -eo comm= | grep pm-coordinator)\" ]"
    pid=$(node_pids login pm-coordinator | head -n 1)
    cluster exec login sh -c "for fd in /proc/$pid/fd/*; do readlink \$fd; done" >fds
    grep -q '/out7$' fds || fail "what was named is not there: $(<fds)"
    ! grep -q '/out9$' fds || fail "what was not named is there: $(<fds)"
    wait
}
