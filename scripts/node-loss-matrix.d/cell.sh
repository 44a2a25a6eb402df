# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154,SC2016,SC2034
#
# One try of one cell: a step of 6 nodes and 2 spares (16 and 4), a fault, and all that has to be true then: exit
# status, who was found lost and what was decided, how often the world was started again, that no rank runs where it
# must not, that nothing is left on any node (those that come back included), and the invariants in the event logs.
# Sourced after tests/integration/lib.sh; cell_run FAULT VICTIM. Leaves what it has seen in the file `seen`, as JSON.
#
# With a fan-out of 2 nodes 0 and 1 hang at the coordinator, 2 and 3 at 0, 4 and 5 at 1; node i is host node(i+1).

timeout_s=3 orphan_s=4 grace_s=1 step_timeout=60
world=6 spares=2 where='login' coordinator=login outcome='' stopped='' hold='' struck='' job=() extra=()

# slurmstepd of the first node waits for those that are lost: Slurm's own affair, also after a plain srun.
eval "$(declare -f leftovers | sed '1s/leftovers/all_leftovers/')"
leftovers() { all_leftovers "$1" | grep -v ' slurmstepd ' || true; }

# CLOCK_BOOTTIME, as in the logs.
booted=$(/usr/bin/python3 -c 'import time; print(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))')
boottime() { awk -v now="$EPOCHREALTIME" -v booted="$booted" 'BEGIN { printf "%.4f", now - booted }'; }
since() { awk -v a="$1" -v b="$(boottime)" 'BEGIN { printf "%.2f", b - a }'; }

# --- the step -------------------------------------------------------------------------------------------

step_options() {
    options=(--pm-supervise --pm-node-timeout="${timeout_s}s" --pm-orphan-timeout="${orphan_s}s" --pm-grace="${grace_s}s"
        --pm-fanout=2 --pm-spares="$spares" "-N$((world + spares))" "-n$((world + spares))" "${extra[@]}")
    program=("$programs/pmix_probe" init fence "touch:$case_dir/up" "wait-file:$case_dir/end" fence finalize)
    # Halting then lasts as long as the grace.
    [[ ! $hold ]] || program=(sh -c 'trap "" TERM; exec "$@"' sh "${program[@]}")
}

begin() {
    step_options
    mkdir -p nodes && chmod 1777 nodes
    if [[ ${job[*]} ]]; then
        timeout -k 5 "$step_timeout" "$dc" --dir "$pm_cluster" run "${job[@]}" srun "${log_options[@]}" "${options[@]}" "${program[@]}" \
            >out 2>err </dev/null &
        step_pid=$! step_began=$SECONDS
    elif [[ $where == login ]]; then
        supervise_bg "${options[@]}" "${program[@]}"
    else
        { echo '#!/bin/bash' && printf 'exec srun' && printf ' %q' "${log_options[@]}" "${options[@]}" "${program[@]}" && echo; } >job
        run sbatch --no-kill --no-requeue "-N$((world + spares))" -o "$case_dir/out" -e "$case_dir/err" job
        assert_status 0
    fi
}

epoch_is_up() { [[ $(grep -c " epoch=$1 " up 2>/dev/null) == "$world" ]]; }
wait_up() { await "${2:-30}" "epoch $1 is up" epoch_is_up "$1"; }
newest_epoch() { log_select '.kind == "state" and .to == "STARTING"' | jq -s 'length - 1'; }
# state EPOCH NAME: has the step been in it? Looked for in the text, as some states last for a moment only.
had_state() { grep -qsE "\"kind\":\"state\".*\"epoch\":$1,.*\"to\":\"$2\"" log.*.json; }
wait_state() { await 30 "state $2 of epoch $1" had_state "$@"; }

# As wait_until, but a step that has ended is not waited for.
await() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [[ ! ${step_pid-} ]] || kill -0 "$step_pid" 2>/dev/null || fail "the step ended before $what"
        ((SECONDS < deadline)) || fail "waited in vain for $what"
        sleep 0.05
    done
}
# How many nodes have such records.
nodes_with() { cat log.*.json | jq -s "[.[] | select($1) | .node] | unique | length"; }
are_lost() { (($(nodes_with '.kind == "lost" or (.kind == "failure" and (.cause == "node-lost" or .cause == "agent-lost"))') == $1)); }
have_moved() { (($(nodes_with '.kind == "move"') >= $1)); }

# --- faults ---------------------------------------------------------------------------------------------

strike_one() {
    case $1 in
        off) cluster kill-node "$2" ;;
        crash) cluster kill-node "$2" --reset ;;
        cut) cluster cut "$2" ;;
        one-way) cluster cut "$2" "--$( ((RANDOM % 2)) && echo in || echo out)" ;;
        pause) cluster pause "$2" ;;
        reboot) cluster reboot "$2" ;;
    esac
}
# strike FAULT HOST...: at the same time.
strike() {
    local host jobs=()
    struck_at=${struck_at:-$(boottime)} second_at=$(boottime)
    for host in "${@:2}"; do
        strike_one "$1" "$host" >>strikes 2>&1 &
        jobs+=($!)
        struck+=" $1:$host"
    done
    [[ $1 == reboot ]] || wait "${jobs[@]}"
}
# Whoever was struck comes back.
undo() {
    local one
    wait_strikes
    for one in $struck; do
        case $one in
            off:* | crash:*) cluster revive "${one#*:}" & ;;
            cut:* | one-way:*) cluster heal "${one#*:}" ;;
            pause:*) cluster resume "${one#*:}" ;;
        esac
    done
    wait_strikes
    struck=''
}
wait_strikes() {
    local job
    for job in $(jobs -p); do
        [[ $job == "${step_pid-}" ]] || wait "$job" || true
    done
}

# --- what has to be true ------------------------------------------------------------------------------

decisions() { log_select '.kind == "decision" and .action != "ignore"' | jq -s length; }
note() {
    local again
    again=$(log_select '.kind == "state" and .to == "RUNNING" and (.epoch // 0) > 0' | jq -s --argjson at "${struck_at:-0}" \
        'if length > 0 then (last.t_ns / 1e9 - $at) * 100 | round / 100 else null end')
    jq -nc --argjson restarts "$(decisions)" --argjson again_s "${again:-null}" --arg status "${status-}" \
        --arg cause "$(log_select '.kind == "failure"' | jq -rs 'first.cause // ""')" --arg gone_s "${gone_s-}" \
        --arg decision "$(grep -m 1 -E '^pm-supervise: .*(lost|failed|killed)' err 2>/dev/null || true)" \
        --arg outcome "$outcome" '{$outcome, $restarts, $again_s, $status, $cause, $gone_s, $decision}' >seen
}

# The step went on: MIN to MAX decisions, every loss of a world's node is a move, the last epoch ends well.
carries_on() {
    local min=$1 max=$2 victims=$3
    outcome='went on'
    ! gives_up || return 0
    await 40 "$victims losses" are_lost "$victims"
    ((max == 0)) || await 40 "$victims moves" have_moved "$victims"
    await 40 "the last epoch is up" last_epoch_is_up
    refute_running_elsewhere
    note
    touch end
    wait_step
    note
    assert_status 0
    (($(decisions) >= min && $(decisions) <= max)) || fail "$(decisions) decisions, not $min to $max"
    assert_log_count "$(decisions)" '.kind == "decision" and .action == "move-to-spare"'
    assert_log '.kind == "exit"'
}
# srun ends a step of which slurmctld says that a node is back without it, and whose connection was reset. In a job that
# has other nodes it is launched again; else that is the end of it, soon, with a status and with a reason.
gives_up() {
    [[ $struck == *reboot* ]] || return 1
    local try
    for ((try = 0; try < 80; try++)); do
        ! grep -qiE "$aborted" err || break
        kill -0 "$step_pid" 2>/dev/null || break
        sleep 0.1
    done
    grep -qiE "$aborted" err || return 1
    if [[ ${job[*]} ]]; then is_launched_again; else ends_as_srun_gave_up; fi
}
aborted='^srun: error: aborting, (io error and missing step|step missing and io error)'
is_launched_again() {
    outcome='srun gave up'
    await 20 "the second launch" log_has '.kind == "decision" and .action == "relaunch"'
    await 40 "the last epoch is up" last_epoch_is_up
    touch end
    outcome='launched again'
    wait_step
    note
    assert_status 0
    assert_log '.kind == "exit" and .launch == 1 and .status.exit == 0'
}
ends_as_srun_gave_up() {
    wait_step
    outcome='srun gave up'
    note
    [[ $status != 0 ]] || fail "srun gave up and the status is 0"
    awk -v s="$(since "$struck_at")" 'BEGIN { exit !(s <= 15) }' || fail "the step took $(since "$struck_at") s to end"
}
last_epoch_is_up() { epoch_is_up "$(newest_epoch)"; }
# Ranks of a node that is given up stand still or are gone, where one can look.
refute_running_elsewhere() {
    local one awake
    for one in $struck; do
        [[ $one == cut:* || $one == one-way:* ]] || continue
        awake=$(cluster exec "${one#*:}" ps -eo stat=,comm= | awk '$2 == "pmix_probe" && $1 !~ /^[TZ]/')
        [[ ! $awake ]] || fail "ranks of ${one#*:} run without a lease: $awake"
    done
}

# --- victims whose loss the step survives ------------------------------------------------------------------

# Who is rebooted takes srun along: then the step is part of a job that has as many nodes again.
in_a_job() {
    job=(salloc --no-kill "-N$pm_nodes" --ntasks-per-node=1)
    extra+=(--pm-relaunch=1)
    step_timeout=90
}
one_of_the_world() {
    [[ $1 != reboot ]] || in_a_job
    begin
    wait_up 0
    wait_state 0 RUNNING
    strike "$@"
    carries_on 1 1 $(($# - 1))
}
victim_leaf() { one_of_the_world "$1" node6; }
victim_inner() { one_of_the_world "$1" node2; }
victim_node0() { one_of_the_world "$1" node1; }
victim_two() { one_of_the_world "$1" node2 node5; }
victim_4-of-16() {
    world=16 spares=4
    one_of_the_world "$1" node3 node7 node11 node16
}
victim_spare() {
    [[ $1 != reboot ]] || in_a_job
    begin
    wait_up 0
    wait_state 0 RUNNING
    strike "$1" node7
    carries_on 0 0 1
}

# PLACING lasts until the site has fenced off the first one.
slow_fence() {
    printf '#!/bin/sh\nsleep 3; touch "$(dirname "$0")/fenced-soon"; exec sleep 0.35\n' >program && chmod 755 program
    cluster exec "$coordinator" cat /etc/slurm/plugstack.conf | sed "s|pm_supervise.so.*|& fence=$case_dir/program|" >plugstack
    cluster exec "$coordinator" mount --bind "$case_dir/plugstack" /etc/slurm/plugstack.conf
}
# one_more FAULT EPOCH STATE: the second victim is struck when the first one's loss has led to that state.
one_more() {
    begin
    wait_up 0
    wait_state 0 RUNNING
    strike "$1" node5
    if [[ $1 == reboot ]]; then
        wait_until 30 "state $3 of epoch $2, or the end" had_state_or_end "$2" "$3"
        kill -0 "$step_pid" 2>/dev/null || return 0
    fi
    [[ $3 != STARTING ]] || stop_an_agent
    wait_state "$2" "$3"
    strike "$1" node3
    [[ $(state_at "$second_at") == "$3" ]] || missed "it was $(state_at "$second_at") when the second node was struck"
    [[ ! $(log_select '.kind == "lost" and .node == 3') ]] || missed "the node whose agent stood still was taken for lost"
}
# The cell has not been tried: the state that it is about was over too soon, as happens on a busy machine.
missed() {
    echo "MISSED: $*"
    exit 77
}
had_state_or_end() { had_state "$@" || ! kill -0 "$step_pid" 2>/dev/null; }
# The state at that time.
state_at() { log_select '.kind == "state"' | jq -rs --argjson at "$1" '[.[] | select(.t_ns / 1e9 <= $at)] | last.to // "FORMING"'; }
state_now() { log_select '.kind == "state"' | jq -rs 'last.to'; }
victim_halting() {
    hold=yes grace_s=3
    one_more "$1" 0 HALTING
    carries_on 1 1 2
}
victim_placing() {
    slow_fence
    one_more "$1" 0 PLACING
    carries_on 1 1 2
}
# STARTING lasts as long as the agent of node4 stands still, who has been heard of when PLACING ends.
stop_an_agent() {
    stopped=$(ours | awk '$1 == "node4" && $3 == "pm-agent" { print $4 }')
    await 20 "the node is nearly fenced off" test -e fenced-soon
    # shellcheck disable=SC2086  # its child is called so, too, until its exec
    kill -STOP $stopped
}
victim_starting() {
    slow_fence
    one_more "$1" 1 STARTING
    go_on
    carries_on 1 2 2
}

# --- Slurm's own daemons, and the coordinator's link ----------------------------------------------------------

restart_slurmctld() {
    cluster exec login sh -c 'kill -KILL $(cat /run/slurmctld.pid); sleep 0.5; slurmctld'
}
restart_slurmd() {
    cluster exec node3 sh -c 'kill -KILL $(cat /run/slurmd.pid); sleep 0.5; slurmd'
}
victim_leaf_meanwhile() {
    begin
    wait_up 0
    wait_state 0 RUNNING
    "restart_$1"
    strike off node6
    carries_on 1 1 1
    wait_until 20 "slurmctld to answer" cluster run sinfo
}
victim_link() {
    orphan_s=20 outcome='went on'
    begin
    wait_up 0
    wait_state 0 RUNNING
    cluster cut login
    sleep 5
    cluster heal login
    sleep 3
    note
    touch end
    wait_step
    note
    assert_status 0
    assert_log_count 0 '.kind == "decision"'
    cat nodes/* | jq -e -s 'any(.[]; .kind == "pause") and any(.[]; .kind == "resume")' >/dev/null || fail "no rank was stopped meanwhile"
}

# --- the end of the coordinator ----------------------------------------------------------------------------------

# The processes of ours on all hosts but those that were struck: host, state, name. Read from outside, for all at once;
# the fourth column is the pid there.
ours() {
    local host pid hosts=''
    for host in login $(nodes); do
        [[ " $struck " != *":$host "* ]] || continue
        read -r pid _ <"$pm_cluster/hosts/$host/init" || continue
        hosts+=" $(readlink "/proc/$pid/ns/pid" | tr -dc 0-9) $host"
    done
    ps -eo pidns=,stat=,comm=,pid= | awk -v hosts="$hosts" 'BEGIN { n = split(hosts, h); for (i = 1; i < n; i += 2) name[h[i]] = h[i + 1] }
        $1 in name && $3 ~ /^(pm-|pmix_probe)/ && $2 !~ /^Z/ { print name[$1], $2, $3, $4 }'
}
# Ranks are stopped when their lease is over; every process of the step is gone with the orphan timeout.
step_ends_everywhere() {
    local awake left
    sleep "$(awk -v s="$(since "$struck_at")" -v t="$timeout_s" 'BEGIN { d = t + 0.6 - s; print (d > 0 ? d : 0) }')"
    awake=$(ours | awk '$3 == "pmix_probe" && $2 !~ /^T/')
    [[ ! $awake ]] || fail "ranks run $(since "$struck_at") s after the coordinator was lost: $awake"
    while left=$(ours); [[ $left ]]; do
        awk -v s="$(since "$struck_at")" -v o="$orphan_s" 'BEGIN { exit !(s <= o + 5) }' ||
            fail "left $(since "$struck_at") s after the coordinator was lost: $left"
        sleep 0.1
    done
    gone_s=$(since "$struck_at") outcome="ended everywhere"
    note
}
# FINISHING lasts as long as a shim does not end, for 10 s at most: those of a spare stand still.
stop_a_spare() {
    stopped=$(ours | awk '$1 == "node7" && $3 == "pm-shim" { print $4 }')
    [[ $stopped ]] || fail "node7 has no shim"
    # shellcheck disable=SC2086  # pids are words
    kill -STOP $stopped
}
# shellcheck disable=SC2086  # pids are words
go_on() { [[ ! $stopped ]] || kill -CONT $stopped 2>/dev/null || true; }
reach() {
    case $1 in
        FORMING) cluster pause node4 && begin && wait_until 20 "a node to join" log_has '.kind == "joined"' && return ;;
        PLACING | STARTING) slow_fence ;;
        HALTING | STOPPING) hold=yes grace_s=3 ;;
    esac
    begin
    wait_up 0
    wait_state 0 RUNNING
    case $1 in
        PLACING) strike off node6 ;;
        STARTING) strike off node6 && stop_an_agent && wait_state 1 STARTING && return ;;
        HALTING) signal_rank 3 KILL ;;
        FINISHING) stop_a_spare && touch end ;;
        STOPPING) cluster exec "$coordinator" sh -c 'kill -TERM $(ps -eo pid=,comm= | awk "\$2 == \"pm-coordinator\" { print \$1 }")' ;;
    esac
    wait_state 0 "$1"
}
lose_coordinator() {
    local state=$1 fault=$2
    except=states_follow_the_table,every_child_is_reaped,every_failure_is_decided
    [[ $where == login ]] || coordinator=node1
    reach "$state"
    struck_at=''
    if [[ $fault == kill ]]; then
        struck_at=$(boottime)
        cluster exec "$coordinator" sh -c 'kill -KILL $(ps -eo pid=,comm= | awk "\$2 == \"pm-coordinator\" { print \$1 }")'
    else
        strike "$fault" "$coordinator"
    fi
    [[ $state != FORMING ]] || { sleep 1; cluster resume node4; }
    go_on
    step_ends_everywhere
    # Whoever is gone has left the state that it was in as the last one; a host that is cut or paused goes on.
    [[ $fault != kill && $fault != off || $(state_at 1e9) == "$state" ]] || missed "the coordinator had reached $(state_at 1e9)"
    [[ $where != login ]] || { wait_step; [[ $status != 0 ]] || fail "the killed coordinator ended with 0"; }
    # One that never had a node to tell has no log to look at.
    find . -maxdepth 1 -name 'log.*.json' -size 0 -delete
}
victim_with-coordinator() {
    where='batch'
    lose_coordinator RUNNING "$1"
}

cell_run() {
    trap 'go_on; note || true' EXIT
    case $1/$2 in
        off+*/leaf) victim_leaf_meanwhile "${1#off+}" ;;
        cut-5s/*) victim_link ;;
        kill/coordinator-*) lose_coordinator "${2#*-}" kill ;;
        off/host-*) where='batch'; lose_coordinator "${2#*-}" off ;;
        *) "victim_$2" "$1" ;;
    esac
    undo
    skip_drain=yes
    # A node that was paused as a whole cannot stop its ranks in time (doc/design/agent-and-coordinator.md).
    [[ $1 != pause ]] || except+=,live_leases_are_not_stopped
    assert_clean
    assert_invariants
}
