# SPDX-License-Identifier: Apache-2.0
# cluster: site 4 --racks 2
#
# --pm-relaunch: a step of a job loses too many nodes, and is launched again on others of the job.
#
# shellcheck shell=bash disable=SC2154,SC2016

# In a job of 4 nodes: a step on the first 3 of them.
in_job() {
    mkdir -p "$case_dir/nodes" && chmod 1777 "$case_dir/nodes"
    timeout -k 5 "$step_timeout" "$dc" --dir "$pm_cluster" run salloc --no-kill -N4 --ntasks-per-node=2 srun "${log_options[@]}" \
        --pm-supervise --pm-relaunch=1 --pm-node-timeout=2s --pm-orphan-timeout=5s --pm-grace=1s "$@" \
        >"$case_dir/out" 2>"$case_dir/err" </dev/null &
    step_pid=$! step_began=$SECONDS
}
ranks_started() { [[ $(grep -c "^fault: start" "$case_dir/out") == "$1" ]]; }
back() {
    cluster revive "$1"
    skip_clean=${skip_clean//$1/}
    cluster run scontrol update NodeName="$1" State=DOWN Reason="was powered off"
    cluster run scontrol update NodeName="$1" State=RESUME
    wait_idle "$1"
}
wait_idle() {
    wait_until 30 "$1 to be idle again" sh -c "'$dc' --dir '$pm_cluster' run sinfo -h -n $1 -o %t | grep -qx idle"
}

# A real MPI program loses a node, and ends on another one of the job with the right result.
test_power_off_under_mpi_finishes_in_another_step() {
    skip_clean=node2 skip_drain=yes step_timeout=75  # a busy disk takes its time for checkpoints
    local field=(--size 128x128 --steps 150 --every 30)
    mkdir -m 777 ckpt
    run srun --pm-supervise -N1 -n1 "$programs/heat" "${field[@]}" --out "$case_dir/undisturbed"
    in_job -N3 -n6 "$programs/heat" "${field[@]}" --step-ms 15 --dir "$case_dir/ckpt" --out "$case_dir/result"
    wait_out '^heat: checkpoint 30$' 20
    cluster kill-node node2
    wait_step
    assert_status 0
    assert_out_count 6 '^heat: start rank=[0-5] size=6 .* host=node[134] epoch=1 '
    assert_out '^heat: resumed from step [1-9][0-9]*$'
    cmp undisturbed result || fail "the result is another one"
    assert_decided relaunch node-lost \
        'node2 is lost \(node-lost\): nothing was heard of it for [0-9.]+ s(, and it does not answer a connection)?; its place in the step cannot come back: launching the step again on other nodes of the job \(launch 2 of 2\)$'
    assert_err '^pm-supervise: nothing of the step runs any more; launch 2 of 2, without node2$'
    assert_err '^pm-supervise: lost in epoch 0: node2 at .*; [0-9.]+ s until this launch ended$'
    assert_err '^pm-supervise: epoch 1 running after '
    assert_log '.kind == "relaunch" and .launch == 0 and .step == 0'
    assert_log '.kind == "exit" and .launch == 1 and .step == 1 and .epoch == 1 and .status.exit == 0'
    back node2
}

# Of the launch that runs, as its srun was given it.
key_of_launch() {
    local pids
    mapfile -t pids < <(node_pids login srun)
    cluster exec login sh -c 'for p; do tr "\0" "\n" </proc/$p/environ; done' sh "${pids[@]}" | sed -n 's/^SLURM_PM_STEP_KEY=//p' | sort -u
}
# The budgets go on, and so does the number of launches. What is left of the old launch does not know the new one's key.
test_a_second_loss_has_no_nodes_left() {
    local key
    skip_drain=yes
    in_job -N3 -n6 "$programs/fault" --run 30000
    wait_until 15 "6 ranks" ranks_started 6
    wait_running
    key=$(key_of_launch)
    [[ $key =~ ^[0-9a-f]{64}$ ]] || fail "the first launch has no key"
    # shellcheck disable=SC2046  # pids are words
    cluster exec node2 kill -KILL $(node_pids node2 pm-agent)
    wait_until 20 "6 ranks more" ranks_started 12
    wait_err '^pm-supervise: epoch 1 running after '
    [[ $(key_of_launch) =~ ^[0-9a-f]{64}$ && $(key_of_launch) != "$key" ]] || fail "the second launch has no key of its own"
    # shellcheck disable=SC2046
    cluster exec node4 kill -KILL $(node_pids node4 pm-agent)
    wait_step
    assert_status 1
    assert_decided relaunch agent-lost 'node2 lost its agent \(agent-lost\).*\(launch 2 of 2\)$'
    assert_decided stop agent-lost 'node4 lost its agent \(agent-lost\).*, and it is not launched again: --pm-relaunch is used up$'
    assert_out_count 12 '^fault: start'
}

# Whoever kills all of a step does not want it back, though the job has nodes enough.
test_a_step_that_is_killed_from_outside_stays_dead() {
    skip_drain=yes except=every_child_is_reaped  # nobody was left to see it
    in_job -N1 -n2 "$programs/fault" --run 30000
    wait_until 15 "2 ranks" ranks_started 2
    wait_running
    local step
    step=$(cluster run squeue -h -s -o %i | grep -v extern | head -n 1)
    cluster run scancel --signal=KILL "$step"
    wait_step
    [[ $status != 0 ]] || fail "it ended with 0"
    assert_out_count 2 '^fault: start'
    assert_log_count 0 '.kind == "relaunch"'
}

test_what_cannot_be_launched_again_says_why() {
    supervise_bg --pm-supervise --pm-relaunch=1 --pm-grace=1s -N2 -n2 "$programs/fault" --run 30000
    wait_until 30 "2 ranks" ranks_started 2
    wait_running
    # shellcheck disable=SC2046  # pids are words
    cluster exec node2 kill -KILL $(node_pids node2 pm-agent)
    wait_step
    assert_status 1
    assert_decided stop agent-lost \
        'node2 lost its agent \(agent-lost\).*; stopping: its place in the step cannot come back, and it is not launched again: srun has made the allocation itself, and it has no other nodes$'
    run srun --pm-supervise=notify --pm-relaunch=1 -N2 -n2 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: --pm-relaunch=1 with --pm-supervise=notify'
}

# A node that is rebooted at once, with its own address, makes srun abort the whole step. Slurm tells of the reboot.
test_srun_that_gives_up_after_a_reboot_is_launched_again() {
    skip_drain=yes step_timeout=80
    in_job -N3 -n6 "$programs/fault" --run 8000
    wait_until 30 "6 ranks" ranks_started 6
    wait_running
    cluster reboot node2
    wait_step
    assert_status 0
    assert_err '^srun: error: Aborting, (io error and missing step|step missing and io error) on node 1$'
    # srun waits for tasks that it has killed; when no node of the step is left we end it, if it has not ended.
    assert_err '^pm-supervise: (srun has given the step up \(exit code 137\), as|no node of the step was left, and) node2 was reset: launching it again on other nodes of the job \(launch 2 of 2\)$'
    assert_err '^pm-supervise: nothing of the step runs any more; launch 2 of 2, without node2$'
    assert_log '.kind == "decision" and .action == "relaunch" and .cause == "node-lost"'
    assert_log '.kind == "exit" and .launch == 1 and .status.exit == 0'
    assert_out_count 12 '^fault: start'
    assert_out_count 6 '^fault: done'
}

# slurmctld takes a node away that is DOWN for it: srun hears of it and goes on, so this is a loss like any other.
test_a_node_that_slurm_takes_away_is_one_that_is_lost() {
    skip_drain=yes step_timeout=80
    in_job -N3 -n6 "$programs/fault" --run 6000
    wait_until 30 "6 ranks" ranks_started 6
    wait_running
    cluster run scontrol update NodeName=node2 State=DOWN Reason="taken away"
    wait_step
    assert_status 0
    assert_err '^srun: error: Node failure on node2$'
    assert_err '^pm-supervise: nothing of the step runs any more; launch 2 of 2, without node2$'
    assert_out_count 12 '^fault: start'
    wait_idle node2
}
