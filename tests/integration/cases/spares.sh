# SPDX-License-Identifier: Apache-2.0
# cluster: site 4 --racks 2
#
# Nodes that wait as spares: who is lost is replaced, and the step ends well.
#
# shellcheck shell=bash disable=SC2154,SC2016

spares() { supervise_bg --pm-supervise --pm-node-timeout=2s --pm-orphan-timeout=5s --pm-grace=1s "$@"; }
ranks_started() { [[ $(grep -c "^fault: start $1" "$case_dir/out") == "$2" ]]; }
# slurmctld goes on asking a node that was off about its tasks, at times for longer than a case may last: DOWN settles that.
back() {
    cluster revive "$1"
    skip_clean=${skip_clean//$1/}
    cluster run scontrol update NodeName="$1" State=DOWN Reason="was powered off"
    cluster run scontrol update NodeName="$1" State=RESUME || :  # an error if the node has come back by itself
    wait_until 30 "$1 to be idle again" sh -c "'$dc' --dir '$pm_cluster' run sinfo -h -n $1 -o %t | grep -qx idle"
}

test_world_of_a_step_with_spares_is_the_other_nodes() {
    supervise --pm-supervise --pm-spares=1 -N4 --ntasks-per-node=2 sh -c \
        'echo "$RANK/$WORLD_SIZE $SLURM_PROCID/$SLURM_NTASKS $SLURM_NODEID/$SLURM_NNODES $SLURM_STEP_NODELIST $SLURM_STEP_TASKS_PER_NODE $SLURM_GTIDS $LOCAL_RANK $GROUP_RANK $(hostname)"'
    assert_status 0
    assert_out_count 6 '^[0-5]/6 [0-5]/6 [0-2]/3 node\[1-3\] 2\(x3\) '
    assert_out '^3/6 3/6 1/3 node\[1-3\] 2\(x3\) 2,3 1 1 node2$'
    [[ ! -s err ]] || fail "something was said: $(<err)"
    # Of a cyclic step the world is cyclic, too.
    run srun --pm-supervise --pm-spares=2 -N4 --ntasks-per-node=2 -m cyclic sh -c 'echo "$RANK on $(hostname) of $SLURM_STEP_NODELIST: $SLURM_GTIDS"'
    assert_status 0
    assert_out_count 4 ' of node\[1-2\]: '
    assert_out '^2 on node1 of node\[1-2\]: 0,2$'
}

# The main promise: a real MPI program loses a node, and finishes on the spare with the right result.
test_power_off_under_mpi_finishes_on_the_spare() {
    skip_clean=node2 skip_drain=yes step_timeout=75  # a busy disk takes its time for checkpoints
    local field=(--size 128x128 --steps 150 --every 30)
    mkdir -m 777 ckpt
    run srun --pm-supervise -N1 -n1 "$programs/heat" "${field[@]}" --out "$case_dir/undisturbed"
    spares --pm-spares=1 -N4 --ntasks-per-node=2 "$programs/heat" "${field[@]}" --step-ms 15 --dir "$case_dir/ckpt" --out "$case_dir/result"
    wait_out '^heat: checkpoint 30$' 20
    cluster kill-node node2
    wait_step
    assert_status 0
    assert_out '^heat: resumed from step [3-9][0-9]$'
    cmp undisturbed result || fail "the result is another one"
    assert_decided move-to-spare node-lost \
        'node2 is lost \(node-lost\): nothing was heard of it for [0-9.]+ s(, and it does not answer a connection)?; the 2 ranks of node2 move to spare node4 \(0 spares left\); restarting 6 ranks on 3 nodes$'
    assert_log '.kind == "move" and .node == 1 and .spare == 3 and .spares_left == 0 and .rank == 2'
    assert_log_count 1 '.kind == "decision" and .action != "ignore"'
    assert_log '.kind == "exit" and .epoch == 1 and .status.exit == 0'
    back node2
}

test_power_off_of_the_first_node_moves_rank_0() {
    skip_clean=node1 skip_drain=yes
    spares --pm-spares=1 -N4 --ntasks-per-node=2 sh -c \
        'echo "fault: start $RANK/$WORLD_SIZE on $(hostname) epoch $PM_EPOCH master $MASTER_ADDR $MASTER_PORT nodeid $SLURM_NODEID of $SLURM_STEP_NODELIST"
         [ "$PM_EPOCH" = 1 ] || exec sleep 60'
    wait_until 15 "6 ranks" ranks_started '' 6
    wait_running
    cluster kill-node node1
    wait_step
    assert_status 0
    assert_out_count 6 '^fault: start [0-5]/6 on node[234] epoch 1 master node4 [1-9][0-9]* nodeid [0-2] of node\[4,2-3\]$'
    assert_out_count 2 '^fault: start [01]/6 on node4 epoch 1 .* nodeid 0 '
    back node1
}

test_a_lost_spare_restarts_nothing() {
    skip_clean=node4 skip_drain=yes
    spares --pm-spares=1 -N4 --ntasks-per-node=2 "$programs/fault" --run 7000
    wait_until 15 "6 ranks" ranks_started '' 6
    wait_running
    wait_until 8 "a server on the spare" sh -c "'$dc' --dir '$pm_cluster' exec node4 ps -eo comm= | grep -qx pm-pmix-server"
    cluster kill-node node4
    wait_err 'node4 is lost \(node-lost\): nothing was heard of it for [0-9.]+ s(, and it does not answer a connection)?; going on: it waited as a spare, 0 are left$'
    wait_step
    assert_status 0
    assert_out_count 6 '^fault: start'
    assert_log_count 0 '.kind == "decision" and .action != "ignore"'
    back node4
}

test_two_nodes_powered_off_at_once_are_one_restart() {
    skip_clean='node1 node2' skip_drain=yes
    spares --pm-spares=2 -N4 --ntasks-per-node=2 "$programs/fault" --run 5000
    wait_until 15 "4 ranks" ranks_started '' 4
    wait_running
    cluster kill-node node1
    cluster kill-node node2
    wait_step
    assert_status 0
    assert_err '^pm-supervise: 2 nodes lost, all under switch rack1 \(node1, node2\): their ranks move to node3, node4 \(0 spares left\)$'
    assert_log_count 1 '.kind == "decision" and .action != "ignore"'
    assert_log_count 2 '.kind == "move" and .reason == "2 nodes lost, all under switch rack1"'
    assert_log '.kind == "exit" and .epoch == 1'
    assert_out_count 8 '^fault: start'
    back node1
    back node2
}

# It was given up while it ran: what comes back is refused, and its ranks die.
test_a_cut_node_that_returns_has_no_rank_left() {
    skip_drain=yes
    spares --pm-spares=1 -N4 --ntasks-per-node=2 "$programs/fault" --run 9000
    wait_until 15 "6 ranks" ranks_started '' 6
    wait_running
    cluster cut node2
    wait_err 'node2 is lost \(node-lost\).*move to spare node4'
    wait_err 'epoch 1 running'
    cluster exec node2 ps -eo stat=,comm= | awk '$2 == "fault" && $1 !~ /^T/' >awake
    [[ ! -s awake ]] || fail "ranks of node2 run without a lease: $(<awake)"
    cluster heal node2
    wait_until 5 "ranks of node2 to die" sh -c "[ -z \"\$('$dc' --dir '$pm_cluster' exec node2 ps -eo comm= | grep -x fault)\" ]"
    wait_step
    assert_status 0
    assert_out_count 12 '^fault: start'
}

test_an_agent_that_is_lost_takes_its_node_out() {
    spares --pm-spares=1 -N4 --ntasks-per-node=2 "$programs/fault" --run 6000
    wait_until 15 "6 ranks" ranks_started '' 6
    wait_running
    # shellcheck disable=SC2046  # pids are words
    cluster exec node3 kill -KILL $(node_pids node3 pm-agent)
    wait_step
    assert_status 0
    assert_decided move-to-spare agent-lost 'node3 lost its agent \(agent-lost\).*; the 2 ranks of node3 move to spare node4'
    assert_out_count 12 '^fault: start'
}

test_as_many_spares_as_nodes_are_refused_before_the_step() {
    supervise --pm-supervise --pm-spares=2 -N2 -n4 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: --pm-spares=2 leaves no node for the ranks: the step has 2 nodes \(--nodes\)'
    supervise --pm-supervise --pm-spares=1 -N1 -n1 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: --pm-spares=1 leaves no node for the ranks: the step has 1 node '
    supervise --pm-supervise=notify --pm-spares=1 -N2 -n2 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: --pm-spares=1 with --pm-supervise=notify'
    assert_out_count 0 .
}

test_a_spare_with_too_few_tasks_is_refused_before_the_start() {
    supervise --pm-supervise --pm-spares=1 -N4 -n7 -m block "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: spare node4 has 1 task, too few to take the place of node1, which has 2: '
    assert_out_count 0 .
}
