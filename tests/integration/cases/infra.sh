# SPDX-License-Identifier: Apache-2.0
# cluster: site 4
#
# Our own processes die or stop at the worst moment: nothing ever runs unsupervised, nothing stays.
#
# shellcheck shell=bash disable=SC2154,SC2016

long() { supervise_bg --pm-supervise --pm-node-timeout=3s --pm-orphan-timeout=5s "$@"; wait_until 15 "8 ranks" sh -c "[ \$(grep -c ' start' '$case_dir/out') = 8 ]"; }
start_long() { long -N4 -n8 "$programs/fault" --run 60000; }
# shellcheck disable=SC2046  # pids are words
kill_on() { cluster exec "$1" kill "-$3" $(node_pids "$1" "$2"); }

test_agent_killed_stops_the_step_as_agent_lost() {
    start_long
    kill_on node2 pm-agent KILL
    wait_step
    assert_status 1
    assert_decided stop agent-lost 'node2 lost its agent \(agent-lost\).*; stopping: its place in the step cannot come back$'
}
test_shim_killed_stops_the_step_as_shim_lost() {
    start_long
    local pid
    pid=$(cluster exec "$(rank_host 3)" sh -c "awk '/^PPid/ {print \$2}' /proc/$(rank_pid 3)/status")
    cluster exec "$(rank_host 3)" kill -KILL "$pid"
    wait_step
    assert_status 1
    assert_decided stop shim-lost 'rank 3 \(node2, pid [0-9]+\) lost its shim \(shim-lost\).*; stopping: its place in the step cannot come back$'
}
test_slurmstepd_killed_stops_the_step() {
    start_long
    # The step's own slurmstepd, not the one of the extern step, and not the shims that it forked.
    local pid
    pid=$(cluster exec node3 sh -c "ps -eo pid=,args= | grep '[s]lurmstepd: \[[0-9]*\.0\]' | awk '{print \$1; exit}'")
    cluster exec node3 kill -KILL "$pid"
    wait_step
    assert_status 1
    local cause
    cause=$(log_select '.kind == "decision"' | jq -r .cause)
    [[ $cause == shim-lost || $cause == agent-lost ]] || fail "the cause is $cause"
    assert_decided stop "$cause" 'node3.* \((shim|agent)-lost\).*; stopping: its place in the step cannot come back$'
}
test_coordinator_killed_leaves_nothing_on_any_node() {
    except=states_follow_the_table,every_child_is_reaped
    long --pm-orphan-timeout=60s -N4 -n8 "$programs/fault" --run 60000
    local killed=$SECONDS node
    cluster exec login kill -KILL $(cluster exec login ps -eo pid=,comm= | awk '$2 == "pm-coordinator" {print $1}')
    wait_step
    assert_status 137
    # Its port refuses connections, so nobody waits for the orphan timeout.
    for node in $(nodes); do
        wait_until 15 "the ranks of $node to end" sh -c "! '$dc' --dir '$pm_cluster' exec $node ps -eo comm= | grep -qx fault"
    done
    ((SECONDS - killed < 20)) || fail "it took $((SECONDS - killed)) s"
    log_select '.kind == "decision"' >decisions
    [[ ! -s decisions ]] || fail "somebody decided: $(<decisions)"
}
# Before or while the nodes join: neither srun nor an agent waits for it until some timeout of minutes.
test_coordinator_killed_while_the_step_starts_leaves_nothing() {
    local delay
    for delay in 0.02 0.05 0.1; do
        rm -rf log.* nodes
        supervise_bg --pm-supervise --pm-node-timeout=2s --pm-orphan-timeout=4s -N4 -n8 "$programs/fault" --run 60000
        cluster exec login sh -c 'until p=$(ps -eo pid=,comm= | awk "\$2 == \"pm-coordinator\" {print \$1; exit}"); [ "$p" ]; do :; done
            sleep '$delay'; kill -KILL "$p"'
        wait_step
        [[ $status != 0 ]] || fail "status is 0"
        wait_until 12 "srun to end" sh -c "[ -z \"\$('$dc' --dir '$pm_cluster' exec login ps -eo comm= | grep -x srun)\" ]"
        assert_clean
    done
    rm -rf log.* nodes  # nobody was there to end them
}
test_coordinator_and_srun_killed_leaves_nothing_on_any_node() {
    except=states_follow_the_table,every_child_is_reaped
    start_long
    cluster exec login kill -KILL $(cluster exec login ps -eo pid=,comm= | awk '$2 == "pm-coordinator" || $2 == "srun" {print $1}')
    wait_step
    assert_status 137
    assert_clean
    # Nobody is left who could tell slurmctld that the job is over.
    cluster run sh -c 'squeue -h -o %i | xargs -r scancel'
    wait_until 10 "the nodes to be free" sh -c "[ -z \"\$('$dc' --dir '$pm_cluster' run squeue -h)\" ]"
}
test_power_off_of_a_node_stops_the_step_as_node_lost() {
    skip_clean=node4 skip_drain=yes
    start_long
    cluster kill-node node4
    wait_step
    assert_status 1
    assert_decided stop node-lost 'node4 is lost \(node-lost\): nothing was heard of it for [0-9.]+ s(, and it does not answer a connection)?; stopping: its place in the step cannot come back$'
    cluster revive node4
    wait_until 30 "node4 to be idle again" sh -c "'$dc' --dir '$pm_cluster' run sinfo -h -n node4 -o %t | grep -qx idle"
}
test_cut_for_less_than_half_the_timeout_goes_unnoticed() {
    supervise_bg --pm-supervise --pm-node-timeout=4s -N4 -n8 "$programs/fault" --run 6000
    wait_running
    cluster cut node3
    sleep 1.2
    cluster heal node3
    wait_step
    assert_status 0
    assert_log_count 0 '.kind == "failure"'
}

# --- pauses: 3 times the node timeout each ------------------------------------------------------------

test_scontrol_suspend_and_resume() {
    # The agents are frozen with the ranks, and write down that a lease had ended when they are thawed.
    except=live_leases_are_not_stopped
    supervise_bg --pm-supervise --pm-node-timeout=2s -N4 -n8 "$programs/fault" --run 9000
    wait_running
    local job
    job=$(basename "$(compgen -G "$case_dir/log.*.json")" | cut -d. -f2)
    cluster run scontrol suspend "$job"
    sleep 6
    cluster run scontrol resume "$job"
    wait_step
    assert_status 0
    assert_log_count 0 '.kind == "failure"'
}
pause_login() {
    supervise_bg --pm-supervise --pm-node-timeout=2s -N4 -n8 "$programs/fault" --run 9000
    wait_running
    # shellcheck disable=SC2046
    cluster exec login kill "-$1" $(cluster exec login ps -eo pid=,comm= | awk -v a="$2" '$2 == "pm-coordinator" || (a == "all" && $2 == "srun") {print $1}')
    sleep 6
    cluster exec login kill -CONT $(cluster exec login ps -eo pid=,comm= | awk '$2 == "pm-coordinator" || $2 == "srun" {print $1}')
    wait_step
    assert_status 0
    assert_log_count 0 '.kind == "failure"'
}
test_sigstop_of_the_coordinator() { pause_login STOP one; }
test_ctrl_z() { pause_login TSTP all; }

# --- the coordinator out of reach -----------------------------------------------------------------------

node_log_has() { cat "$case_dir"/nodes/* | jq -e -s "any(.[]; $1)" >/dev/null; }
# No node hears of the coordinator: ranks are stopped when their lease ends, and go on when it is renewed.
test_cut_of_the_coordinators_host_stops_ranks_for_a_while() {
    supervise_bg --pm-supervise --pm-node-timeout=2s -N4 -n8 "$programs/fault" --lines 100000 --line-us 50000 --run 100 --rank 0-7 --wait-file "$case_dir/end" --exit 0
    wait_until 15 "8 ranks" sh -c "[ \$(grep -c '^fault: start' '$case_dir/out') = 8 ]"
    wait_running
    cluster cut login
    wait_until 10 "ranks to be stopped" node_log_has '.kind == "pause"'
    sleep 0.5
    local node
    for node in $(nodes); do
        [[ -z $(cluster exec "$node" ps -eo stat=,comm= | awk '$2 == "fault" && $1 !~ /^T/') ]] || fail "a rank of $node runs without a lease"
    done
    cluster heal login
    wait_until 20 "ranks to go on" node_log_has '.kind == "resume"'
    touch end
    wait_step
    assert_status 0
    assert_log_count 0 '.kind == "failure"'
}
test_orphans_are_killed_when_the_coordinator_does_not_come_back() {
    # Nothing reaches the coordinator's log before the link is healed, and by then all is over.
    except=every_child_is_reaped,states_follow_the_table
    supervise_bg --pm-supervise --pm-node-timeout=2s --pm-orphan-timeout=3s -N4 -n8 "$programs/fault" --run 60000
    wait_until 15 "8 ranks" sh -c "[ \$(grep -c '^fault: start' '$case_dir/out') = 8 ]"
    wait_running
    cluster cut login
    local node
    for node in $(nodes); do
        wait_until 15 "the orphans of $node to die" sh -c "! '$dc' --dir '$pm_cluster' exec $node ps -eo comm= | grep -qx fault"
    done
    cluster heal login
    wait_step
    assert_status 1
    assert_log_count 0 '.kind == "decision" and (.action | startswith("restart"))'
}

# --- starting -------------------------------------------------------------------------------------------

# It runs between the fork of an incarnation and its exec, so its failure is that of the exec.
prolog_fails() {
    supervise --pm-supervise -N1 -n1 --task-prolog="$case_dir/prolog" sh -c 'exit 7'
    assert_status "$wanted"
    assert_decided stop exec 'rank 0 \(node1.*\) could not be started .*; stopping: a program that cannot be started is not tried again$'
    assert_log_count "$1" '.kind == "decision" and (.action | startswith("restart"))'
    assert_invariants
    rm -rf log.* nodes
}
test_failure_of_taskprolog_is_an_exec_failure() {
    local wanted
    printf '#!/bin/sh\nexit 3\n' >prolog && chmod 755 prolog
    run srun -N1 -n1 --task-prolog="$case_dir/prolog" sh -c 'exit 7'
    wanted=$status
    prolog_fails 0
    # Also that of an incarnation which is a restart.
    printf '#!/bin/sh\n[ $PM_INCARNATION = 0 ] || exit 3\n' >prolog
    prolog_fails 1
}
