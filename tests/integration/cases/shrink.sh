# SPDX-License-Identifier: Apache-2.0
# cluster: site 4 --racks 2
#
# --pm-shrink: a node is lost, no spare is left, and the world goes on without it.
#
# shellcheck shell=bash disable=SC2154,SC2016

shrinks() { supervise_bg --pm-supervise --pm-shrink --pm-node-timeout=2s --pm-orphan-timeout=5s --pm-grace=1s "$@"; }
ranks_started() { [[ $(grep -c "^fault: start $1" "$case_dir/out") == "$2" ]]; }
back() {
    cluster revive "$1"
    skip_clean=${skip_clean//$1/}
    cluster run scontrol update NodeName="$1" State=DOWN Reason="was powered off"
    cluster run scontrol update NodeName="$1" State=RESUME
    wait_until 30 "$1 to be idle again" sh -c "'$dc' --dir '$pm_cluster' run sinfo -h -n $1 -o %t | grep -qx idle"
}
# What a rank of epoch 0 shows before it waits, and one of a later epoch before it ends.
readonly shows='echo "fault: start $RANK/$WORLD_SIZE $SLURM_PROCID/$SLURM_NTASKS on $(hostname) epoch $PM_EPOCH local $LOCAL_RANK/$LOCAL_WORLD_SIZE \
master $MASTER_ADDR $MASTER_PORT nodeid $SLURM_NODEID/$SLURM_NNODES of $SLURM_STEP_NODELIST $SLURM_STEP_TASKS_PER_NODE gtids $SLURM_GTIDS"'

# The main promise: a real MPI program loses a node, and finishes on fewer with the right result.
test_power_off_under_mpi_finishes_on_fewer_nodes() {
    skip_clean=node2 skip_drain=yes step_timeout=75  # a busy disk takes its time for checkpoints
    local field=(--size 128x128 --steps 150 --every 30)
    mkdir -m 777 ckpt
    run srun --pm-supervise -N1 -n1 "$programs/heat" "${field[@]}" --out "$case_dir/undisturbed"
    shrinks -N4 --ntasks-per-node=2 "$programs/heat" "${field[@]}" --step-ms 15 --dir "$case_dir/ckpt" --out "$case_dir/result"
    wait_out '^heat: checkpoint 30$' 20
    cluster kill-node node2
    wait_step
    assert_status 0
    assert_out_count 6 '^heat: start rank=[0-5] size=6 .* epoch=1 '
    assert_out '^heat: resumed from step [1-9][0-9]*$'
    cmp undisturbed result || fail "the result is another one"
    assert_decided shrink node-lost \
        'node2 is lost \(node-lost\): nothing was heard of it for [0-9.]+ s(, and it does not answer a connection)?; restarting 6 ranks on 3 nodes \(was 8 on 4\)$'
    assert_log '.kind == "shrink" and .node == 1 and .rank == 2 and .reason == "1 node lost: 6 ranks on 3 nodes (was 8 on 4)"'
    assert_log_count 1 '.kind == "decision" and .action != "ignore"'
    assert_log '.kind == "exit" and .epoch == 1 and .status.exit == 0'
    back node2
}

test_environment_and_pmix_tell_the_new_size() {
    skip_clean=node1 skip_drain=yes
    shrinks -N4 --ntasks-per-node=2 -m cyclic sh -c \
        "$shows"'; [ "$PM_EPOCH" = 1 ] || exec sleep 60; exec '"$programs/pmix_probe init 'keys:*' fence finalize"
    wait_until 15 "8 ranks" ranks_started '' 8
    wait_running
    cluster kill-node node1
    wait_step
    assert_status 0
    assert_out_count 6 '^fault: start ([0-5])/6 \1/6 on node[234] epoch 1 local [01]/2 master node2 [1-9][0-9]* nodeid [0-2]/3 of node\[2-4\] 2\(x3\) gtids '
    assert_out '^fault: start 0/6 0/6 on node2 epoch 1 local 0/2 .* nodeid 0/3 .* gtids 0,3$'
    assert_out '^fault: start 4/6 4/6 on node3 epoch 1 local 1/2 .* nodeid 1/3 .* gtids 1,4$'
    assert_out_count 6 ' of=job name=pmix.job.size rc=0 type=uint32 value=6$'
    assert_out_count 6 '^pmix_probe: done '
    back node1
}

test_an_agent_that_is_lost_takes_its_node_out() {
    shrinks -N4 --ntasks-per-node=2 "$programs/fault" --run 6000
    wait_until 15 "8 ranks" ranks_started '' 8
    wait_running
    # shellcheck disable=SC2046  # pids are words
    cluster exec node3 kill -KILL $(node_pids node3 pm-agent)
    wait_step
    assert_status 0
    assert_decided shrink agent-lost 'node3 lost its agent \(agent-lost\).*; restarting 6 ranks on 3 nodes \(was 8 on 4\)$'
    assert_out_count 14 '^fault: start'
}

# One spare for two nodes: one is replaced, one done without, in one restart.
test_two_nodes_lost_with_one_spare_are_one_restart() {
    skip_clean='node1 node2' skip_drain=yes
    shrinks --pm-spares=1 -N4 --ntasks-per-node=2 "$programs/fault" --run 5000
    wait_until 15 "6 ranks" ranks_started '' 6
    wait_running
    cluster kill-node node1
    cluster kill-node node2
    wait_step
    assert_status 0
    assert_err '^pm-supervise: 1 node lost \(node2\): going on with 4 ranks on 2 nodes \(was 6 on 3\)$'
    assert_log_count 1 '.kind == "decision" and .action != "ignore"'
    assert_log '.kind == "move" and .node == 0 and .spare == 3'
    assert_log '.kind == "shrink" and .node == 1'
    assert_log '.kind == "exit" and .epoch == 1'
    assert_out_count 10 '^fault: start'
    back node1
    back node2
}

test_below_the_minimum_the_step_stops() {
    shrinks --pm-min-nodes=4 -N4 --ntasks-per-node=1 "$programs/fault" --run 30000
    wait_until 15 "4 ranks" ranks_started '' 4
    wait_running
    # shellcheck disable=SC2046  # pids are words
    cluster exec node3 kill -KILL $(node_pids node3 pm-agent)
    wait_step
    assert_status 1
    assert_decided stop agent-lost 'node3 lost its agent \(agent-lost\).*; stopping: 3 nodes would be left, and --pm-min-nodes=4$'
    assert_out_count 4 '^fault: start'
}

test_what_cannot_shrink_is_refused_before_the_step() {
    supervise --pm-supervise --pm-shrink --pm-min-nodes=3 -N2 -n4 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: --pm-min-nodes=3 is more than the ranks have from the start: the step has 2 nodes \(--nodes\), of which 0 wait as spares; '
    supervise --pm-supervise --pm-shrink --pm-min-nodes=2 --pm-spares=1 -N2 -n4 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: --pm-min-nodes=2 is more than .* of which 1 wait as spares; '
    supervise --pm-supervise --pm-min-nodes=2 -N2 -n4 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: --pm-min-nodes=2 without --pm-shrink: '
    supervise --pm-supervise=notify --pm-shrink -N2 -n4 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: --pm-shrink with --pm-supervise=notify'
    supervise --pm-supervise --pm-shrink --pm-min-nodes=0 -N2 -n4 "$programs/fault" --run 100
    assert_status 125
    assert_out_count 0 .
}
