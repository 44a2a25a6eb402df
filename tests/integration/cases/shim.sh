# SPDX-License-Identifier: Apache-2.0
# cluster: site 4
#
# The shim: what a rank gets and what Slurm sees is what plain srun gives and shows, over every restart. The way by
# fork is run by Slurm itself; pm-shim, the way by prepend of Slurm >= 23.11, below a real agent and coordinator, with
# direct_step in the place of srun and slurmstepd.
#
# shellcheck shell=bash disable=SC2154,SC2016

ranks_up() { wait_until 15 "$1 ranks" sh -c "[ \$(grep -c '^fault: start' '$case_dir/out') = $1 ]"; }
job_of_case() { basename "$(compgen -G "$case_dir/log.*.json" | head -n 1)" | cut -d. -f2; }
parent_of() { cluster exec "$1" awk '/^PPid/ {print $2}' "/proc/$2/status"; }

# --- what a rank is given ----------------------------------------------------------------------------------

# One line per fd, with what differs from run to run taken out; no pipeline, which would open fds of its own.
readonly list_fds='fd=0; while [ $fd -lt 300 ]; do [ ! -e /proc/$$/fd/$fd ] || echo "fds $SLURM_PROCID $fd $(readlink /proc/$$/fd/$fd)"; fd=$((fd + 1)); done'
test_file_descriptors_of_a_rank_are_plain_sruns() {
    run srun -N2 -n4 sh -c "$list_fds"
    sed 's/\[[0-9]*\]/[N]/' out | sort >plain
    [[ -s plain ]] || fail "plain srun's ranks list no fds"
    supervise --pm-supervise -N2 -n4 sh -c "[ \$PM_EPOCH = 1 ] || [ \$SLURM_PROCID != 3 ] || exit 7; [ \$PM_EPOCH = 1 ] || exec sleep 20; $list_fds"
    assert_status 0
    sed 's/\[[0-9]*\]/[N]/' out | sort >supervised
    diff plain supervised >difference || fail "a rank has other fds: $(cat difference)"
}
readonly list_limits='echo "limits $(ulimit -c) $(ulimit -Hc) $(ulimit -n) $(ulimit -l) $(ulimit -s) $(umask) $(grep -E "^(Sig(Blk|Ign)|Cpus_allowed_list)" /proc/$$/status | tr -d "\n\t") $(cat /proc/$$/oom_score_adj)"'
test_limits_signals_and_cpus_of_a_rank_are_plain_sruns_but_for_the_oom_score() {
    run sh -c "ulimit -c 12345; ulimit -n 777; exec srun -N1 -n1 sh -c '$list_limits'"
    local plain
    plain=$(grep ^limits out)
    mkdir -p nodes && chmod 1777 nodes
    run sh -c "ulimit -c 12345; ulimit -n 777; exec srun ${log_options[*]} --pm-supervise -N1 -n1 sh -c '[ \$PM_EPOCH = 1 ] || exit 7; $list_limits'"
    assert_status 0
    [[ $(grep ^limits out) == "${plain% *} $((${plain##* } + 100))" ]] || fail "plain: $plain; supervised: $(cat out)"
}
# The coordinator has a descriptor per link; srun would hand its limit on to the ranks.
test_raised_limit_of_open_files_is_the_coordinators_alone() {
    local show='echo "files $(ulimit -Sn) $(ulimit -Hn)"' hard
    run sh -c "ulimit -Sn 777; exec srun -N1 -n1 sh -c '$show'"
    hard=$(sed -n 's/^files 777 //p' out)
    ((hard > 777)) || fail "plain srun shows no soft limit of 777 below a hard one: $(<out)"
    rm out
    mkdir -p nodes && chmod 1777 nodes
    timeout -k 5 "$step_timeout" "$dc" --dir "$pm_cluster" run sh -c "ulimit -Sn 777
        exec srun ${log_options[*]} --pm-supervise -N1 -n1 sh -c '$show; [ \$PM_EPOCH = 1 ] && exit; until [ -e $case_dir/die ]; do sleep 0.1; done; exit 7'" >out 2>err </dev/null &
    step_pid=$! step_began=$SECONDS
    wait_out '^files '
    cluster exec login sh -c "for p in \$(ps -eo pid=,comm= | awk '\$2 == \"pm-coordinator\" {print \$1}'); do cat /proc/\$p/limits; done" >limits
    touch die
    wait_step
    assert_status 0
    assert_out_count 2 "^files 777 $hard\$"
    grep -qE "^Max open files +$((hard < 65536 ? hard : 65536)) +$hard " limits || fail "the coordinator has not raised its own: $(<limits)"
}
# It has slurmstepd's memory and numbers: what slurmstepd logs must not end up in a link of ours, and what it waits for
# at the other ends of its pipes must not be kept open by us.
test_shim_holds_nothing_of_slurmstepds_but_the_number_of_its_log_file() {
    supervise_bg --pm-supervise -N1 -n2 "$programs/fault" --run 60000 --wait-file "$case_dir/end" --all-ranks --exit 0
    ranks_up 2
    wait_running
    local rank shim stepd
    for rank in 0 1; do
        shim=$(parent_of node1 "$(rank_pid $rank)")
        stepd=$(parent_of node1 "$shim")
        cluster exec node1 sh -c 'for fd in /proc/$0/fd/*; do echo "${fd##*/} $(readlink $fd)"; done' "$shim" | sort -n >"shim.$rank"
        cluster exec node1 sh -c 'for fd in /proc/$0/fd/*; do echo "${fd##*/} $(readlink $fd)"; done' "$stepd" | grep 'log/node1.log$' >log-file
        [[ -s log-file ]] || fail "slurmstepd has no log file here"
        awk '$1 > 2 && $1 < 64' "shim.$rank" | diff log-file - >difference || fail "between stdio and 64: $(<difference)"
        [[ $(awk '$1 >= 64 {print $2}' "shim.$rank" | sed 's/[0-9][0-9]*/N/g' | sort | xargs) == '/proc/N/oom_score_adj anon_inode:[pidfd] anon_inode:[signalfd] anon_inode:[timerfd] socket:[N]' ]] ||
            fail "its own: $(<"shim.$rank")"
    done
    touch end
    wait_step
    assert_status 0
    assert_log_count 0 '.kind == "failure" or .kind == "decision"'
}
test_shim_and_agent_are_not_the_first_to_be_killed_for_memory() {
    supervise_bg --pm-supervise -N1 -n1 "$programs/fault" --run 60000 --wait-file "$case_dir/end" --exit 0
    ranks_up 1
    wait_running
    local rank shim agent
    rank=$(rank_pid 0) shim=$(parent_of node1 "$(rank_pid 0)") agent=$(node_pids node1 pm-agent)
    score() { cluster exec node1 cat "/proc/$1/oom_score_adj"; }
    (($(score "$rank") == $(score "$shim") + 100 && $(score "$rank") == $(score "$agent") + 100)) ||
        fail "oom_score_adj: rank $(score "$rank"), shim $(score "$shim"), agent $(score "$agent")"
    touch end
    wait_step
}
test_end_of_stdin_reaches_every_incarnation() {
    supervise --pm-supervise -N1 -n1 sh -c 'cat >/dev/null; echo eof $PM_EPOCH; [ $PM_EPOCH = 1 ] || exit 7'
    assert_status 0
    assert_out '^eof 0$'
    assert_out '^eof 1$'
    # Input for one task of several: the others see its end at once.
    status=0
    seq 3 | timeout "$step_timeout" "$dc" --dir "$pm_cluster" run srun --pm-supervise -i 1 -N2 -n2 sh -c 'echo $SLURM_PROCID $(wc -l)' >out 2>err || status=$?
    assert_status 0
    assert_out '^0 0$'
    assert_out '^1 3$'
}

# --- signals -------------------------------------------------------------------------------------------------

# proctrack/cgroup signals the shim alone, so each rank gets what the shim forwards: exactly one.
test_signals_are_forwarded_exactly_once() {
    supervise_bg --pm-supervise -N4 -n8 "$programs/fault" --report-signals --run 60000 --wait-file "$case_dir/end" --all-ranks --exit 0
    ranks_up 8
    wait_running
    local job name number
    job=$(job_of_case)
    for name in USR1 USR2 HUP ALRM QUIT URG; do
        number=$(kill -l "$name")
        cluster run scancel -s "$name" "$job.0"
        wait_until 10 "$name at 8 ranks" sh -c "[ \$(grep -c ' number=$number\$' '$case_dir/out') -ge 8 ]"
    done
    sleep 0.3
    for name in USR1 USR2 HUP ALRM QUIT URG; do
        assert_out_count 8 "^fault: signal .* number=$(kill -l "$name")\$"
    done
    touch end
    wait_step
    assert_status 0
    assert_log_count 0 '.kind == "failure" or .kind == "decision"'
}

# All that a process can catch, sent to the shim alone; SIGCHLD is what it has of its own children.
test_every_signal_that_can_be_caught_is_forwarded_once() {
    supervise_bg --pm-supervise -N1 -n1 python3 -c "
import os, signal, sys, time
caught = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD})
for number in caught:
    signal.signal(number, lambda n, frame: os.write(1, b'got %d\n' % n))
print('caught', *map(int, caught), flush=True)
while not os.path.exists('$case_dir/end'):
    time.sleep(0.05)"
    wait_out '^caught '
    wait_running
    local shim number
    shim=$(parent_of node1 "$(rank_pid 0)")
    for number in $(sed -n 's/^caught //p' out); do
        cluster exec node1 kill "-$number" "$shim"
        wait_out "^got $number\$" 10
    done
    sleep 0.3
    touch end
    wait_step
    assert_status 0
    [[ $(sed -n 's/^got //p' out | xargs) == "$(sed -n 's/^caught //p' out)" ]] || fail "the rank got $(sed -n 's/^got //p' out | xargs)"
    (($(grep -c '^got ' out) > 50)) || fail "only $(grep -c '^got ' out) signals were tried"
    # Only slurmstepd speaks for Slurm: this SIGTERM was no scancel.
    assert_log_count 0 '.kind == "failure" or .kind == "decision"'
    refute_err 'pm-supervise'
}

# --- orphans -------------------------------------------------------------------------------------------------

test_rank_dies_with_its_shim_and_the_shim_with_slurmstepd() {
    supervise_bg --pm-supervise -N4 -n8 "$programs/fault" --run 60000 --children 3
    ranks_up 8
    wait_running
    local rank shim stepd
    rank=$(rank_pid 2) shim=$(parent_of node2 "$(rank_pid 2)")
    cluster exec node2 kill -KILL "$shim"
    wait_until 2 "rank 2 to die with its shim" sh -c "! '$dc' --dir '$pm_cluster' exec node2 kill -0 $rank"
    wait_step
    assert_status 1
    assert_log '.kind == "failure" and .cause == "shim-lost"'
    assert_clean
    rm -rf log.* nodes out
    supervise_bg --pm-supervise -N4 -n8 "$programs/fault" --run 60000
    ranks_up 8
    wait_running
    rank=$(rank_pid 2) shim=$(parent_of node2 "$(rank_pid 2)")
    stepd=$(parent_of node2 "$shim")
    cluster exec node2 kill -KILL "$stepd"
    wait_until 2 "shim and rank to die with slurmstepd" sh -c "! '$dc' --dir '$pm_cluster' exec node2 sh -c 'kill -0 $rank || kill -0 $shim'"
    wait_step
    [[ $status != 0 ]] || fail "status is 0"
}

# --- how a rank ends -----------------------------------------------------------------------------------------

# Slurm hears of the signal, as from plain srun; and there is one core, the rank's.
test_status_by_signal_is_raised_again_without_a_second_core() {
    local pattern
    pattern=$(</proc/sys/kernel/core_pattern)
    run sh -c "ulimit -c unlimited; exec srun -N2 -n2 $programs/fault --rank 1 --segv --run 300"
    grep -E 'srun: error: node2: task 1: ' err >plain || fail "plain srun says nothing"
    assert_status 139
    rm -f core*
    mkdir -p nodes && chmod 1777 nodes
    run sh -c "ulimit -c unlimited; exec srun ${log_options[*]} --pm-supervise=notify -N2 -n2 $programs/fault --rank 1 --segv --run 300"
    assert_status 139
    assert_err 'srun: error: node2: task 1: Segmentation fault'
    [[ $pattern == core* ]] || return 0
    [[ $(compgen -G 'core*' | wc -l) == 1 ]] || fail "there are $(compgen -G 'core*' | wc -l) cores"
    # A second one of the same name would have taken the place of the first.
    grep -aq "$programs/fault" core* || fail "the core is not the rank's"
}

# --- the heir: a process that waits to be the next incarnation ---------------------------------------------------

heir_of() { cluster exec "$1" ps -eo pid=,ppid=,comm= | awk -v shim="$2" '$2 == shim && $3 == "pm-shim" {print $1}'; }
shim_of() { parent_of "$(rank_host "$1")" "$(rank_pid "$1")"; }
has_heir() { [[ -n $(heir_of "$1" "$2") ]]; }
wait_heir() { wait_until 15 "an heir of rank $1" has_heir "$(rank_host "$1")" "$(shim_of "$1")"; }

# What it is given is what a fork at the last moment is given: epoch 1 is an heir's, epoch 2 comes too early for one.
test_an_heir_gets_what_a_forked_process_gets() {
    local show="for e in 1 2; do [ \$PM_EPOCH != \$e ] || { $list_fds; $list_limits; grep -E '^(SigPnd|ShdPnd|PPid|Pid)' /proc/\$\$/status | sed s/^/state/; env | sed 's/^/env /'; } >$case_dir/life.\$e; done"
    MASTER_ADDR=mine PMIX_RANK=99 supervise_bg --pm-supervise -N1 -n1 sh -c "$show; case \$PM_EPOCH in 0) : >$case_dir/up; while [ ! -e $case_dir/die ]; do sleep 0.1; done; exit 7 ;; 1) exit 7 ;; esac"
    wait_file up
    wait_running
    wait_heir 0
    local heir
    heir=$(heir_of node1 "$(shim_of 0)")
    touch die
    wait_step
    assert_status 0
    grep -qE "^statePid:[[:space:]]*$heir\$" life.1 || fail "incarnation 1 was not the heir $heir: $(grep ^statePid life.1)"
    grep -qx 'env MASTER_ADDR=mine' life.1 || fail "the user's own variable is gone"
    local life
    for life in 1 2; do
        sed -E 's/\[[0-9]*\]/[N]/; s/life.[12]$/life/; s/^(statePid|env (SLURM_TASK_PID|MASTER_PORT|PMIX_SERVER_URI[0-9]*|PMIX_(SERVER|SYSTEM)_TMPDIR|PMIX_NAMESPACE|OMPI_MCA_orte_precondition_transports|PM_EPOCH|PM_INCARNATION|TORCHELASTIC_RESTART_COUNT)).*/\1/' life.$life | sort >shown.$life
    done
    diff shown.2 shown.1 >difference || fail "an heir differs from a forked process: $(cat difference)"
}
# Incarnation 1 is an heir's, which was made before its time; incarnation 2 comes too early for one.
test_taskprolog_runs_once_in_each_incarnation() {
    printf '#!/bin/sh\necho "$SLURM_PROCID $PM_INCARNATION" >>%s/prologs\necho "export SEEN=$PM_INCARNATION"\n' "$case_dir" >prolog
    chmod 755 prolog
    supervise_bg --pm-supervise -N2 -n4 --task-prolog="$case_dir/prolog" sh -c 'echo "seen $SLURM_PROCID $PM_INCARNATION $SEEN"; : >up.$PM_EPOCH.$SLURM_PROCID
        [ $PM_EPOCH != 2 ] || exit 0; [ $SLURM_PROCID = 1 ] || exec sleep 60
        until [ $PM_EPOCH = 1 ] || [ -e die ]; do sleep 0.1; done
        for r in 0 2 3; do until [ -e up.$PM_EPOCH.$r ]; do sleep 0.02; done; done; exit 7'
    wait_out '^seen 1 0 0'
    wait_running
    wait_heir 1
    local heir
    heir=$(heir_of node1 "$(shim_of 1)")
    [[ $(sort prologs | xargs) == '0 0 1 0 2 0 3 0' ]] || fail "before any restart it ran for: $(sort prologs | xargs)"
    touch die
    wait_step
    assert_status 0
    jq -es --argjson pid "$heir" 'any(.[]; .kind == "start" and .rank == 1 and .incarnation == 1 and .pid == $pid)' nodes/* >/dev/null ||
        fail "incarnation 1 was not the heir $heir"
    [[ $(sort prologs | xargs) == '0 0 0 1 0 2 1 0 1 1 1 2 2 0 2 1 2 2 3 0 3 1 3 2' ]] || fail "it ran for: $(sort prologs | xargs)"
    [[ $(sort out | xargs) == "$(for r in 0 1 2 3; do for i in 0 1 2; do echo "seen $r $i $i"; done; done | xargs)" ]] ||
        fail "what it exports was not seen by each incarnation"
}
# slurmstepd runs it after our part (before 23.11), so its word is the last one, as the man page says.
test_what_taskprolog_exports_comes_after_our_environment() {
    printf '#!/bin/sh\necho "saw $SLURM_PROCID $RANK $PM_EPOCH" >>%s/saw\necho "export RANK=77"\necho "unset PM_MAX_RESTARTS"\n' "$case_dir" >prolog
    chmod 755 prolog
    supervise --pm-supervise -N1 -n2 --task-prolog="$case_dir/prolog" sh -c 'echo "env $PM_EPOCH $SLURM_PROCID $RANK $WORLD_SIZE ${PM_MAX_RESTARTS-unset}"
        [ $PM_EPOCH = 1 ] || [ $SLURM_PROCID != 1 ] || { sleep 0.2; exit 7; }; sleep 0.4'
    assert_status 0
    [[ $(sort saw | xargs) == 'saw 0 0 0 saw 0 0 1 saw 1 1 0 saw 1 1 1' ]] || fail "the prolog saw: $(sort saw)"
    local epoch rank
    for epoch in 0 1; do for rank in 0 1; do assert_out_count 1 "^env $epoch $rank 77 2 unset\$"; done; done
    assert_decided restart-world exit 'rank 1 .* exited with code 7.*; restarting 2 ranks on 1 node \(restart 1 of 3\)$'
}
# Some proctrack plugins signal all that descends from slurmstepd: what came before its time is not the program's.
test_an_heir_forgets_signals_that_came_before_its_time() {
    supervise_bg --pm-supervise -N1 -n1 "$programs/fault" --report-signals --wait-file "$case_dir/die" --run 1500 --exit 7
    ranks_up 1
    wait_running
    wait_heir 0
    local heir name
    heir=$(heir_of node1 "$(shim_of 0)")
    for name in TERM USR1 INT HUP TSTP; do
        cluster exec node1 kill "-$name" "$heir"
    done
    touch die
    ranks_up 2
    sleep 0.5
    cluster run scancel -s USR2 "$(job_of_case).0"
    wait_out "^fault: signal .* number=$(kill -l USR2)\$"
    wait_step
    assert_status 0
    [[ $(rank_pid 0) == "$heir" ]] || fail "incarnation 1 is not the heir $heir"
    assert_out_count 1 '^fault: signal '
}
test_an_heir_that_was_killed_is_replaced_by_a_fork() {
    supervise_bg --pm-supervise -N2 -n4 "$programs/fault" --rank 1 --wait-file "$case_dir/die" --run 60000 --exit 7 --lives 1
    ranks_up 4
    wait_running
    wait_heir 1
    wait_heir 0
    local heir
    heir=$(heir_of node1 "$(shim_of 1)")
    cluster exec node1 kill -KILL "$heir"
    wait_until 5 "the heir to be reaped" sh -c "! '$dc' --dir '$pm_cluster' exec node1 kill -0 $heir 2>/dev/null"
    touch die
    ranks_up 8
    wait_err 'epoch 1 running'
    cluster run scancel "$(job_of_case)"
    wait_step
    [[ $(rank_pid 1) != "$heir" ]] || fail "incarnation 1 is said to be the dead heir"
    assert_clean
}
# It is no part of the rank's tree, and nothing waits for it: neither a halt nor the end.
end_ms() {
    rm -rf log.* nodes out end
    supervise_bg --pm-supervise -N2 -n2 "$programs/fault" --run 60000 --wait-file "$case_dir/end" --all-ranks --exit 0
    ranks_up 2
    wait_running
    wait_heir 0
    wait_heir 1
    local began=$EPOCHREALTIME
    touch end
    wait_step
    assert_status 0
    took_ms=$(((${EPOCHREALTIME/./} - ${began/./}) / 1000))
}
test_heirs_do_not_hold_up_the_end() {
    local took_ms attempt
    for attempt in 1 2 3; do  # the machine may be busy; slurmstepd is never fast if it finds somebody in the step
        end_ms
        assert_clean
        ((took_ms >= 900)) || return 0
    done
    fail "the step took $took_ms ms to end in attempt $attempt"
}
test_an_heir_dies_with_its_shim() {
    supervise_bg --pm-supervise -N2 -n4 "$programs/fault" --run 60000
    ranks_up 4
    wait_running
    wait_heir 1
    local shim heir
    shim=$(shim_of 1) heir=$(heir_of node1 "$(shim_of 1)")
    cluster exec node1 kill -KILL "$shim"
    wait_until 2 "the heir to die with its shim" sh -c "! '$dc' --dir '$pm_cluster' exec node1 kill -0 $heir 2>/dev/null"
    wait_step
    assert_status 1
    assert_log '.kind == "failure" and .cause == "shim-lost"'
}
test_nobody_waits_where_nothing_is_ever_restarted() {
    supervise_bg --pm-supervise=notify -N1 -n1 "$programs/fault" --run 4000
    ranks_up 1
    wait_running
    sleep 3
    ! has_heir node1 "$(shim_of 0)" || fail "there is an heir"
    wait_step
    assert_status 0
}

# --- pm-shim, put before the program ----------------------------------------------------------------------------

libexec_dir() { find "$pm_prefix" -type d -path '*libexec/pm-supervise' | head -n 1; }
# direct CONF PROGRAM...: two tasks on node1.
direct() {
    mkdir -p nodes && chmod 1777 nodes
    local began=$SECONDS
    status=0
    timeout -k 5 "$step_timeout" "$dc" --dir "$pm_cluster" exec node1 "$pm_root/tests/integration/direct_step" start "$(libexec_dir)" \
        "supervise=world log=$case_dir/log.%j.%s.json log-nodes=$case_dir/nodes $1" -n 2 "${@:2}" >out 2>err </dev/null || status=$?
    ((SECONDS - began < step_timeout)) || fail "did not end within $step_timeout s"
}
test_prepended_shim_runs_fails_and_restarts() {
    direct "" "$programs/fault" --rank 1 --after 100 --exit 7 --run 300 --children 4 --daemons 2
    assert_status 0
    assert_out_count 4 '^fault: start'
    assert_out_count 2 '^fault: start .* incarnation=1 '
    assert_err '^pm-supervise: rank 1 \(node1, pid [0-9]+\) exited with code 7.*restarting 2 ranks on 1 node \(restart 1 of 3\)'
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
}
test_prepended_shim_serves_pmix_and_forwards_a_signal_death() {
    direct "max-restarts=0" "$programs/pmix_probe" init fence:collect:bytes=100 @1/signal:KILL fence:expect=any finalize
    assert_status 137
    assert_err 'direct_step: task 1 ended with -9'
    assert_log '.kind == "failure" and .cause == "signal" and .rank == 1'
}
test_prepended_shim_finds_the_program_and_reports_a_failed_exec_as_slurm_does() {
    direct "" sh -c 'echo "found $0"; fd=3; while [ $fd -lt 300 ]; do [ ! -e /proc/$$/fd/$fd ] || echo "fd $fd"; fd=$((fd + 1)); done; echo "env $(env | grep -c -E "^(PM_AGENT|SLURM_PM_STEP)")"'
    assert_status 0
    assert_out_count 2 '^found sh$'
    assert_out_count 0 '^fd ([3-9]|[0-9]{2,})$'
    assert_out_count 2 '^env 0$'
    assert_invariants
    rm -rf log.* nodes
    direct "" no-such-program
    assert_status 2
    assert_err 'no-such-program'
    assert_log '.kind == "failure" and .cause == "exec"'
    assert_invariants
    rm -rf log.* nodes
    # --bcast=/tmp/ names the file after job, step and node.
    cluster exec node1 sh -c 'cp /bin/true /tmp/slurm_bcast_4711.3_node1'
    direct "" /tmp/
    cluster exec node1 rm -f /tmp/slurm_bcast_4711.3_node1
    assert_status 0
}
test_prepended_shim_is_small_and_without_dependencies() {
    ! ldd "$(libexec_dir)/pm-shim" 2>/dev/null | grep -q '=>' || fail "pm-shim has dependencies: $(ldd "$(libexec_dir)/pm-shim")"
    # A rank may run before its shim has given back what it needed to start it.
    direct "" sh -c 'sleep 0.5; echo "pss $(awk "/^Pss:/ {print \$2}" /proc/$PPID/smaps_rollup)"; sleep 0.3'
    assert_status 0
    local kib
    for kib in $(sed -n 's/^pss //p' out); do
        ((kib <= 400)) || fail "a shim has $kib KiB PSS"
    done
    assert_out_count 2 '^pss [0-9]+$'
}
