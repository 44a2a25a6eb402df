# SPDX-License-Identifier: Apache-2.0
# cluster: site 18
#
# The end after a node is lost, with Slurm's own timeout (SlurmdTimeout=300) far away: soon, with the right status,
# with all that live nodes wrote, with a ledger; and who else is told. Each case takes nodes that are idle and leaves
# the lost one as it is: Slurm needs half a minute to be done with it.
#
# shellcheck shell=bash disable=SC2154,SC2016

skip_clean=
# Of the cluster's many nodes a case looks at its own.
nodes() { cat "$case_dir"/nodes/* 2>/dev/null | jq -r .writer | sort -u; }
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

test_end_after_a_power_off() { ends off; in_ledger node-lost 'nothing was heard of it for [0-9.]+ s, and it does not answer a connection'; }
test_end_after_a_reset() { ends reset; in_ledger agent-lost "its port refused the connection twice"; }
test_end_after_a_cut() {
    ends cut
    in_ledger node-lost 'nothing was heard of it for [0-9.]+ s(, and it does not answer a connection)?'
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

# srun makes a terminal raw for --pty, and cannot undo that when it is killed.
test_terminal_is_given_back() {
    mkdir -p nodes && chmod 1777 nodes
    timeout 40 "$pm_root/tests/integration/at_terminal" -- "$dc" --dir "$pm_cluster" run sh -c '"$@"; stty -a' sh \
        srun "${log_options[@]}" --pm-supervise --pm-node-timeout=2s --pty -N3 -n6 sh -c 'echo up; sleep 100' >out 2>err </dev/null &
    step_pid=$! step_began=$SECONDS
    wait_running
    wait_until 10 "rank 5" sh -c "cat '$case_dir'/nodes/* | grep -q '\"rank\":5'"
    lost=$(rank_host 5) skip_clean=$lost
    cluster kill-node "$lost"
    wait_step
    ended_soon_after_the_verdict
    assert_out '[ ;]icanon'
    assert_out '[ ;]echo '
}

# --- who else is told -----------------------------------------------------------------------------------

# The login host's /dev with a /dev/log behind which somebody listens, for one command.
readonly with_syslog='
    dev=$1 lines=$2; shift 2
    mkdir -p "$dev" && mount -t tmpfs tmpfs "$dev"
    for name in null zero full random urandom tty; do touch "$dev/$name"; mount --bind "/dev/$name" "$dev/$name"; done
    mkdir "$dev/shm" && mount --bind /dev/shm "$dev/shm"
    /usr/bin/python3 -c "
import os, socket, sys
os.chdir(sys.argv[1])  # the whole path may be too long for a socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(\"log\")
while True:
    print(s.recv(65536).decode(), flush=True)" "$dev" >"$lines" &
    listener=$!
    mount --rbind "$dev" /dev
    status=0; "$@" || status=$?
    kill "$listener"; exit "$status"'
test_each_declared_node_is_a_line_for_syslog() {
    mkdir -p nodes && chmod 1777 nodes
    timeout 40 "$dc" --dir "$pm_cluster" run unshare -m sh -c "$with_syslog" sh "$case_dir/dev" "$case_dir/syslog" \
        srun "${log_options[@]}" --pm-supervise --pm-node-timeout=2s -N3 -n6 bash -c "$last_words" >out 2>err </dev/null &
    step_pid=$! step_began=$SECONDS
    lose off
    wait_step
    assert_status 1
    [[ $(wc -l <syslog) == 1 ]] || fail "syslog has $(wc -l <syslog) lines"
    grep -qE "^<12>[A-Z][a-z]{2} [ 0-9]{2} [0-9:]{8} pm-coordinator\[[0-9]+\]: job [0-9]+ step 0: $lost is declared lost \(node-lost\): nothing was heard of it for [0-9.]+ s(, and it does not answer a connection)?\$" syslog ||
        fail "syslog: $(<syslog)"
    assert_log_count 1 '.kind == "lost"'
}

site_program() { printf '#!/bin/sh\n%s\n' "$1" >program && chmod 755 program && with_site_defaults "on-node-loss=$case_dir/program"; }
three_of_alice() {
    mkdir -p nodes && chmod 1777 nodes
    timeout 40 "$dc" --dir "$pm_cluster" run --user alice srun "${log_options[@]}" --pm-supervise --pm-node-timeout=2s -N3 -n6 \
        bash -c "$last_words" >out 2>err </dev/null &
    step_pid=$! step_began=$SECONDS
}
test_the_sites_program_hears_of_each_node_as_the_user() {
    site_program '{ id -un; echo "$@"; env | grep ^PM_LOSS_ | sort; ps -o pid= -o pgid= -p $$; } >$(dirname "$0")/told.tmp; mv $(dirname "$0")/told.tmp $(dirname "$0")/told; echo noise; echo noise >&2'
    three_of_alice
    lose off
    wait_step
    assert_status 1
    all_is_written
    local job
    job=$(log_select '.kind == "lost"' | jq -r .job)
    head -n 2 told | diff - <(printf 'alice\n%s node-lost %s\n' "$lost" "$job") || fail "it was told otherwise"
    for line in CAUSE=node-lost "EVIDENCE=nothing was heard of it for [0-9.]+ s(, and it does not answer a connection)?" EPOCH=0 "JOB=$job" "NODE=$lost" \
        'SILENT_MS=[12][0-9]{3}' STEP=0 'TIME=20[0-9T:.-]+Z'; do
        grep -qxE "PM_LOSS_$line" told || fail "it was not told $line: $(<told)"
    done
    tail -n 1 told | awk '{ exit $1 != $2 }' || fail "it has no process group of its own"
    ! grep -q noise out err || fail "its output is in ours"
}
# Nobody waits for it, and it ends at its limit although we are gone by then.
test_a_program_that_hangs_holds_nobody() {
    site_program 'touch $(dirname "$0")/begun; sleep 1000 & echo $! $$ >$(dirname "$0")/pids; wait'
    three_of_alice
    lose off
    wait_step
    ended_soon_after_the_verdict
    assert_status 1
    [[ -e begun ]] || fail "it was not run"
    # shellcheck disable=SC2046  # pids are words
    wait_until 12 "it to be killed" sh -c "! '$dc' --dir '$pm_cluster' exec login ps -o pid= -p $(tr ' ' , <pids)"
}
test_a_program_that_fails_is_said() {
    site_program 'exit 3'
    three_of_alice
    lose off
    wait_step
    assert_status 1
    assert_err "^pm-supervise: on-node-loss for $lost ended with exit code 3\$"
}
test_a_program_that_is_not_there_is_said() {
    with_site_defaults "on-node-loss=$case_dir/none"
    three_of_alice
    lose off
    wait_step
    assert_status 1
    assert_err "^pm-supervise: on-node-loss for $lost could not be run \\(exit code 127\\)\$"
}

# --- fencing ----------------------------------------------------------------------------------------

# fenced_by PROGRAM [NAME=VALUE...]: the site's fence program, a shell script in the case's folder.
fenced_by() {
    printf '#!/bin/sh\ncd "$(dirname "$0")"\n%s\n' "$1" >program && chmod 755 program
    with_site_defaults "fence=$case_dir/program" "${@:2}"
}
with_a_spare() {
    mkdir -p nodes && chmod 1777 nodes
    timeout 40 "$dc" --dir "$pm_cluster" run srun "${log_options[@]}" --pm-supervise --pm-spares=1 --pm-node-timeout=2s -N3 \
        --ntasks-per-node=2 sh -c 'echo up; [ $PM_EPOCH = 1 ] || sleep 100' >out 2>err </dev/null &
    step_pid=$! step_began=$SECONDS
    wait_until 20 "4 ranks" sh -c "[ \$(grep -c '^up' '$case_dir/out') = 4 ]"
    wait_running
    lost=$(rank_host 3) skip_clean=$lost
    cluster kill-node "$lost"
    wait_step
}
readonly boottime='/usr/bin/python3 -c "import time; print(time.clock_gettime(time.CLOCK_BOOTTIME))"'
test_ranks_start_elsewhere_when_their_node_is_fenced_off() {
    fenced_by "echo \"\$@\" >args; sleep 1; $boottime >done"
    with_a_spare
    assert_status 0
    assert_err "^pm-supervise: $lost is fenced off \\(1(\.[0-9])? s\\)\$"
    grep -qxE "$lost node-lost [0-9]+" args || fail "it was called with: $(<args)"
    cat nodes/* | jq -se --argjson done "$(<done)" '[.[] | select(.kind == "start" and .epoch == 1) | .t_ns / 1e9] | length == 4 and min > $done' >/dev/null ||
        fail "a rank was started before the node was fenced off"
    assert_log '.kind == "fenced-off"'
    assert_err "^pm-supervise: lost in epoch 0: $lost .*; [0-9.]+ s until epoch 1 ran\$"
}
test_a_fence_that_fails_is_said_and_the_step_goes_on() {
    fenced_by 'exit 3'
    with_a_spare
    assert_status 0
    assert_err "^pm-supervise: $lost could not be fenced off: fence ended with exit code 3; going on\$"
}
test_a_fence_that_is_required_and_takes_too_long_stops_the_step() {
    fenced_by 'exec sleep 100' fence-required fence-timeout=1s
    with_a_spare
    assert_status 1
    assert_err "^pm-supervise: $lost could not be fenced off: fence took longer than 1 s and was killed; stopping, as this site has set fence-required\$"
    assert_out_count 4 '^up'  # nobody started elsewhere
    assert_log '.kind == "fence-off-failed"'
}
test_a_fence_that_is_required_is_looked_for_before_anything_starts() {
    with_site_defaults "fence=$case_dir/none" fence-required
    run srun --pm-supervise -N1 true
    assert_status 125
    assert_err "^pm-supervise: plugstack.conf: fence=.*/none, which this site requires, cannot be run on this host: No such file or directory\$"
}
test_a_step_ends_after_its_lost_node_is_fenced_off() {
    fenced_by "sleep 3; $boottime >done"
    ends off
    [[ -e done ]] || fail "the step did not wait"
    assert_err "^pm-supervise: $lost is fenced off \\(3(\.[0-9])? s\\)\$"
}
# As scancel --signal=KILL does to all of a step, but srun ends only after the third node's ranks have.
test_a_stop_fences_off_no_node_that_has_only_lost_its_agent() {
    local rank
    fenced_by 'echo "$1" >>fenced'
    three_nodes --pm-grace=2s sh -c 'trap "" TERM; echo up; while :; do sleep 0.2; done'
    wait_until 20 "6 ranks" sh -c "[ \$(grep -c '^up' '$case_dir/out') = 6 ]"
    wait_running
    for rank in 0 5; do
        # shellcheck disable=SC2046  # pids are words
        cluster exec "$(rank_host $rank)" kill -KILL $(node_pids "$(rank_host $rank)" pm-agent)
    done
    wait_step
    assert_status 1
    assert_err 'lost its agent \(agent-lost\): its port refused the connection twice; stopping'
    [[ ! -e fenced ]] || fail "fenced off: $(<fenced)"
}

# --- what Slurm itself would do ------------------------------------------------------------------------------

readonly at_submission='^pm-supervise: without --no-kill Slurm ends or requeues the job' at_start='^pm-supervise: job [0-9]+ does not seem to be submitted with --no-kill'
submit() { run sbatch -W -o "$case_dir/job" "$@" && assert_status 0; }
says() { grep -qE "$2" "$1" || fail "$1 does not say $2"; }
says_not() { ! grep -qE 'no-kill' "$1" || fail "$1 says: $(grep no-kill "$1")"; }
readonly step='srun --pm-supervise --pm-spares=1 -N2 --ntasks-per-node=1 true'
test_who_asks_for_spares_is_told_what_a_loss_means_without_no_kill() {
    submit --pm-supervise --pm-spares=1 -N2 --ntasks-per-node=1 --wrap "$step"
    says err "$at_submission"
    says job "$at_start"
    [[ $(grep -c no-kill job) == 1 ]] || fail "said more than once"
    # Only the srun inside asks.
    submit -N2 --ntasks-per-node=1 --wrap "$step"
    says_not err
    says job "$at_start"
    submit -N2 --ntasks-per-node=1 --wrap "${step/--pm-spares=1/--pm-shrink}; ${step/--pm-spares=1/--pm-relaunch=1}"
    [[ $(grep -cE "$at_start" job) == 2 ]] || fail "who shrinks, or is launched again, is not told"
}
test_nobody_is_told_who_gave_no_kill() {
    submit --no-kill --pm-supervise --pm-spares=1 -N2 --ntasks-per-node=1 --wrap "$step"
    says_not err
    says_not job
    printf '%s\n' '#!/bin/sh' '#SBATCH --no-kill' "$step" >script
    submit --pm-spares=1 -N2 --ntasks-per-node=1 script
    says_not err
    says_not job
    # A job inside it has an answer of its own.
    submit --no-kill -N2 --ntasks-per-node=1 --wrap "sbatch -W -o $case_dir/inner -N2 --ntasks-per-node=1 --wrap '$step'"
    says inner "$at_start"
}
test_nobody_else_is_told() {
    submit --pm-supervise -N2 --ntasks-per-node=1 --wrap 'srun -N2 true; ! env | grep NO_KILL'
    says_not err
    says_not job
    # A job that srun makes itself.
    run srun --pm-supervise --pm-spares=1 -N2 --ntasks-per-node=1 true
    assert_status 0
    says_not err
}
