# SPDX-License-Identifier: Apache-2.0
# cluster: site 4
#
# --pm-health: an executable that every node must pass before ranks start there.
#
# shellcheck shell=bash disable=SC2154,SC2016

# healthy SCRIPT: $case_dir/health runs SCRIPT, and notes what it was run for, where and as whom.
healthy() {
    mkdir -m 777 checks
    printf '#!/bin/sh\necho "$1 $(hostname) $(id -u)" >>%s/checks/$(hostname)\n%s\n' "$case_dir" "$1" >health
    chmod 755 health
}
checked() { cat checks/* | sort; }
checks() { supervise --pm-supervise --pm-health="$case_dir/health" --ntasks-per-node=2 "$@"; }
ranks_started() { [[ $(grep -c '^fault: start' out) == "$1" ]]; }
lose_agent_of() {
    # shellcheck disable=SC2046  # pids are words
    cluster exec "$1" kill -KILL $(node_pids "$1" pm-agent)
}

test_every_node_is_checked_once_before_the_start() {
    healthy 'sleep 1'
    checks --pm-spares=1 -N4 sh -c 'ls '"$case_dir"'/checks | wc -l'
    assert_status 0
    assert_out_count 6 '^4$'
    uid=$(cluster run id -u)
    [[ $(checked) == "$(for i in 1 2 3 4; do echo "join node$i $uid"; done)" ]] || fail "checked: $(checked)"
    [[ ! -s err ]] || fail "something was said: $(<err)"
}

test_an_unfit_node_is_replaced_before_the_start() {
    healthy '[ "$(hostname)" != node2 ] || exit 7'
    checks --pm-spares=1 -N4 sh -c 'echo "$RANK on $(hostname)"'
    assert_status 0
    assert_out_count 2 '^[23] on node4$'
    assert_out_count 6 .
    assert_err '^pm-supervise: node2 is not fit \(unhealthy\): --pm-health ended with exit code 7; spare node4 takes its place \(0 spares left\)$'
    assert_err '^pm-supervise: refused in epoch 0: node2 at .* \(unhealthy\): --pm-health ended with exit code 7; '
    assert_log '.kind == "failure" and .cause == "unhealthy" and .node == 1'
    assert_log '.kind == "ledger" and .cause == "unhealthy" and .node == 1'
    assert_log '.kind == "exit" and .status.exit == 0'
}

test_without_a_spare_an_unfit_node_refuses_the_step() {
    healthy '[ "$(hostname)" != node3 ] || kill -9 $$'
    checks -N4 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: node3 is not fit \(unhealthy\): --pm-health was killed by signal 9; stopping: without --pm-spares every node is needed$'
    assert_out_count 0 .
}

test_a_check_that_hangs_is_killed_at_its_limit() {
    healthy '[ "$(hostname)" != node1 ] || { sleep 300 & sleep 301; }'
    checks --pm-health-timeout=1s -N2 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: node1 is not fit \(unhealthy\): --pm-health took longer than 1 s and was killed; stopping: '
    assert_out_count 0 .
}

test_what_is_not_executable_on_a_node_is_refused() {
    local program=/tmp/pm-health-test node
    for node in $(nodes); do
        cluster exec "$node" sh -c "printf '#!/bin/sh\n' >$program; chmod 755 $program"
    done
    cluster exec node2 chmod 644 "$program"
    supervise --pm-supervise --pm-health="$program" -N4 -n4 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: node2: --pm-health cannot be run here \(Permission denied\)$'
    assert_out_count 0 .
    supervise --pm-supervise --pm-health=/tmp -N2 -n2 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: node[12]: --pm-health cannot be run here \(Is a directory\)$'
    supervise --pm-supervise --pm-health=health -N2 -n2 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: --pm-health=health: takes an absolute path of at most 511 bytes'
    for node in $(nodes); do cluster exec "$node" rm "$program"; done
}

test_a_spare_that_has_become_unfit_is_skipped() {
    healthy 'case "$1 $(hostname)" in "use node3") exit 4 ;; "use node4") sleep 0.5 ;; esac'
    supervise_bg --pm-supervise --pm-spares=2 --pm-health="$case_dir/health" --pm-node-timeout=2s -N4 --ntasks-per-node=2 \
        "$programs/fault" --run 5000
    wait_until 15 "4 ranks" ranks_started 4
    wait_running
    lose_agent_of node2
    wait_step
    assert_status 0
    assert_out_count 8 '^fault: start'
    assert_err '^pm-supervise: node3 is not fit \(unhealthy\): --pm-health ended with exit code 4; it takes nobody.s place, 1 spare is left$'
    assert_err '^pm-supervise: 1 node lost \(node2\): its ranks move to node4 \(0 spares left\)$'
    assert_err '^pm-supervise: refused in epoch 0: node3 at '
    assert_log_count 1 '.kind == "decision" and .action != "ignore"'
    assert_log '.kind == "move" and .node == 1 and .spare == 3'
    [[ $(checked | grep -c ^use) == 2 ]] || fail "checked: $(checked)"
}

# --- --pm-blame ---

test_a_node_that_is_first_to_fail_twice_is_swapped() {
    supervise --pm-supervise --pm-spares=1 --pm-blame=2 --pm-max-restarts=5 --pm-min-uptime=0 -N4 --ntasks-per-node=2 \
        sh -c 'echo "$RANK on $(hostname) epoch $PM_EPOCH"; [ "$(hostname) $LOCAL_RANK" != "node2 1" ] || { sleep 0.3; exit 3; }; sleep 2'
    assert_status 0
    assert_out_count 18 .
    assert_out_count 2 '^[23] on node4 epoch 2$'
    assert_err '\(restart 2 of 5\); node2 was first to fail 2 times: its ranks move to spare node4 \(0 spares left\)$'
    assert_err '^pm-supervise: blamed in epoch 1: node2 at .* \(--pm-blame\): its ranks were first to fail 2 times; '
    assert_log '.kind == "blamed" and .node == 1 and .spare == 3'
    assert_log '.kind == "exit" and .epoch == 2 and .status.exit == 0'
}

test_a_blamed_node_stays_without_a_spare() {
    supervise --pm-supervise --pm-blame=1 --pm-max-restarts=1 --pm-min-uptime=0 -N2 -n2 sh -c \
        '[ "$(hostname) $PM_EPOCH" != "node2 0" ] || { sleep 0.3; exit 3; }; sleep 1; echo "$RANK on $(hostname)"'
    assert_status 0
    assert_out '^1 on node2$'
    assert_err '\(restart 1 of 1\); node2 was first to fail 1 time, but no spare is left that can take its place: it stays$'
}

# --- Slurm's view ---

test_a_spare_that_slurm_drains_is_not_used() {
    skip_drain=yes
    supervise_bg --pm-supervise --pm-spares=2 --pm-node-timeout=2s -N4 --ntasks-per-node=2 "$programs/fault" --run 4000
    wait_until 15 "4 ranks" ranks_started 4
    wait_running
    cluster run scontrol update NodeName=node3 State=DRAIN Reason="to be looked at"
    lose_agent_of node2
    wait_step
    cluster run scontrol update NodeName=node3 State=RESUME
    assert_status 0
    assert_err '^pm-supervise: Slurm shows node3 as drained or down: no use as a spare now, 1 is left$'
    assert_err '^pm-supervise: 1 node lost \(node2\): its ranks move to node4 \(0 spares left\)$'
    assert_log '.kind == "drained" and .node == 2'
    assert_log '.kind == "move" and .node == 1 and .spare == 3'
}

test_slurm_that_does_not_answer_holds_nobody_up() {
    printf '#!/bin/sh\nexec sleep 60\n' >sinfo
    chmod 755 sinfo
    trap 'cluster exec login umount /usr/bin/sinfo' EXIT
    cluster exec login mount --bind "$case_dir/sinfo" /usr/bin/sinfo
    supervise_bg --pm-supervise --pm-spares=1 --pm-node-timeout=2s -N3 --ntasks-per-node=2 "$programs/fault" --run 5000
    wait_until 15 "4 ranks" ranks_started 4
    wait_running
    lose_agent_of node2
    wait_step
    cluster exec login umount /usr/bin/sinfo # the look at the cluster needs it
    trap - EXIT
    assert_status 0
    assert_err '^pm-supervise: Slurm does not say whether it has drained a spare; they are taken as they come$'
    assert_log '.kind == "move" and .node == 1 and .spare == 2'
    assert_log '.kind == "state" and .to == "RUNNING" and .epoch == 1 and .place_ms >= 1900 and .place_ms < 3000'
}
