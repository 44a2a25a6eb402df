# SPDX-License-Identifier: Apache-2.0
# cluster: site 4
#
# The environment of a rank, of what a rank starts, and of those who never asked for supervision.
#
# shellcheck shell=bash disable=SC2154,SC2016

test_python_style_environment_for_the_first_life_and_after_a_restart() {
    supervise --pm-supervise -N2 -n4 bash -c '
        echo "env $PM_EPOCH $RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $GROUP_RANK $NODE_RANK $MASTER_ADDR $MASTER_PORT $TORCHELASTIC_RESTART_COUNT $TORCHELASTIC_MAX_RESTARTS $PM_INCARNATION $PM_MAX_RESTARTS ${PM_RESTART_CAUSE:--} ${PM_RESTART_RANK:--}"
        [ $PM_EPOCH = 1 ] || [ $RANK != 3 ] || { sleep 0.2; exit 7; }; sleep 0.4'
    assert_status 0
    assert_out '^env 0 3 4 1 2 1 1 node1 [0-9]+ 0 3 0 3 - -$'
    assert_out '^env 1 3 4 1 2 1 1 node1 [0-9]+ 1 3 1 3 exit 3$'
    [[ $(awk '/^env/ {print $2, $10}' out | sort -u | wc -l) == 2 ]] || fail "ranks disagree on MASTER_PORT, or it did not change"
    [[ $(awk '/^env/ {print $10}' out | sort -u | wc -l) == 2 ]] || fail "MASTER_PORT did not change with the epoch"
}
# A rank can listen there; and what rank 0 was told is what everybody was told.
test_master_port_is_free_on_the_node_of_rank_0() {
    supervise --pm-supervise -N2 -n2 python3 -c '
import os, socket, sys
if os.environ["RANK"] == "0":
    socket.create_server(("", int(os.environ["MASTER_PORT"])))
    print("bound", os.environ["PM_EPOCH"], os.environ["MASTER_ADDR"], socket.gethostname(), os.environ["MASTER_PORT"], flush=True)
sys.exit(os.environ["PM_EPOCH"] == "0" and os.environ["RANK"] == "0")'
    assert_status 0
    assert_out '^bound 0 node1 node1 [0-9]+$'
    assert_out '^bound 1 node1 node1 [0-9]+$'
}
# Whoever reads the whole environment finds what plain srun gives, with the step's own numbers, and our additions.
test_environment_of_a_rank_is_plain_sruns_and_ours() {
    local show='env | grep -v "^_=" | sed "s/^/$SLURM_PROCID /"'
    local ours='(RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|GROUP_RANK|NODE_RANK|MASTER_ADDR|MASTER_PORT|TORCHELASTIC_(RESTART_COUNT|MAX_RESTARTS|RUN_ID)|PM_(EPOCH|INCARNATION|MAX_RESTARTS|RESTART_CAUSE|RESTART_RANK)|PMIX_[A-Z0-9_]+|OMP_NUM_THREADS|OMPI_MCA_orte_precondition_transports)='
    # Numbers of job and step, ports of srun, the rank's pid.
    local differs='(SLURM_(JOB_?ID|STEP_?ID|TASK_PID|SRUN_COMM_PORT|STEP_LAUNCHER_PORT|LAUNCH_NODE_IPADDR|JOB_START_TIME|JOB_END_TIME|JOB_NAME|STEP_RESV_PORTS)|SLURM_[A-Z_]*PORT|SLURM_JOBID|TMPDIR)='
    run salloc -N2 -n4 sh -c "srun sh -c '$show'"
    grep -vE "^[0-9]+ $differs" out | sort >plain
    [[ -s plain ]] || fail "plain srun showed nothing"
    run salloc -N2 -n4 sh -c "srun --pm-supervise sh -c '[ \$PM_EPOCH = 1 ] || [ \$SLURM_PROCID != 3 ] || exit 7; [ \$PM_EPOCH = 1 ] || exec sleep 20; $show'"
    assert_status 0
    grep -vE "^[0-9]+ ($ours|$differs)" out | sort >supervised
    diff plain supervised >difference || fail "the environment differs: $(<difference)"
    # And each of ours is there.
    local name rank=3
    for name in RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 GROUP_RANK=1 NODE_RANK=1 MASTER_ADDR=node1 'MASTER_PORT=[0-9]+' \
        TORCHELASTIC_RESTART_COUNT=1 TORCHELASTIC_MAX_RESTARTS=3 'TORCHELASTIC_RUN_ID=[0-9]+\.0' PM_EPOCH=1 PM_INCARNATION=1 \
        OMP_NUM_THREADS=1 PM_MAX_RESTARTS=3 PM_RESTART_CAUSE=exit PM_RESTART_RANK=3 'PMIX_NAMESPACE=pm\.[0-9]+\.0\.1' PMIX_RANK=3 \
        'OMPI_MCA_orte_precondition_transports=[0-9a-f]{16}-[0-9a-f]{16}'; do
        assert_out "^$rank $name\$"
    done
}
test_master_address_of_the_user_stays() {
    MASTER_ADDR=example MASTER_PORT=1234 TORCHELASTIC_RUN_ID=mine RANK=77 supervise --pm-supervise -N1 -n1 \
        bash -c 'echo "env $MASTER_ADDR $MASTER_PORT $TORCHELASTIC_RUN_ID $RANK"'
    assert_out '^env example 1234 mine 0$'
}
test_internals_are_not_seen_by_ranks() {
    run srun -N1 -n1 env
    sort out >plain
    supervise --pm-supervise -N1 -n1 env
    ! grep -E 'SLURM_PM_STEP|SLURM_PM_KEY' out || fail "internals in the environment of a rank"
    local name
    local same='for name in SLURM_MPI_TYPE SLURM_NO_KILL SLURM_KILL_BAD_EXIT SLURM_WAIT; do eval "echo $name \${$name-unset}"; done'
    run srun -N1 -n1 sh -c "$same"
    mv out plain
    run srun --pm-supervise -N1 -n1 sh -c "$same"
    diff plain out >difference || fail "differs from plain srun's: $(<difference)"
    # The user's own values are the user's, also in the second life; --mpi of habit is what srun was told.
    local users=(SLURM_MPI_TYPE=none SLURM_NO_KILL=set SLURM_KILL_BAD_EXIT=1 SLURM_WAIT=77)
    run env "${users[@]}" srun -N1 -n1 sh -c "$same"
    mv out plain
    run env "${users[@]}" srun --pm-supervise -N1 -n1 sh -c "[ \$PM_EPOCH = 1 ] || exit 7; $same"
    diff plain out >difference || fail "differs from plain srun's: $(<difference)"
    run srun --mpi=pmix -N1 -n1 sh -c "$same"
    mv out plain
    run srun --mpi=pmix --pm-supervise -N1 -n1 sh -c "$same"
    diff plain out >difference || fail "differs from plain srun's: $(<difference)"
    run env SLURM_MPI_TYPE=pmix srun --pm-supervise -N1 -n1 sh -c "$same"
    diff plain out >difference || fail "differs from plain srun's: $(<difference)"
    refute_err pm-supervise
}
test_srun_inside_a_supervised_rank() {
    supervise --pm-supervise -N2 -n2 bash -c '[ $SLURM_PROCID = 0 ] || exit 0
        echo "outer $MASTER_ADDR $MASTER_PORT $TORCHELASTIC_RUN_ID"
        srun --overlap -N1 -n1 -w node2 bash -c "echo plain-inner \${SLURM_MPI_TYPE-unset} \${SLURM_KILL_BAD_EXIT-unset}; env | grep ^SLURM_PM_STEP"
        srun --overlap --pm-supervise -N1 -n1 -w node2 bash -c "[ \$PM_EPOCH = 1 ] || exit 7; echo inner \$MASTER_ADDR \$MASTER_PORT \$TORCHELASTIC_RUN_ID \$PM_INCARNATION"'
    assert_status 0
    assert_out '^plain-inner unset unset$'
    assert_out_count 0 SLURM_PM_STEP
    assert_err '; restarting 1 rank on 1 node \(restart 1 of 3\)$'
    # The outer step's rendezvous is not the user's: the inner one has its own.
    assert_out '^outer node1 [0-9]+ [0-9]+\.0$'
    assert_out '^inner node2 [0-9]+ [0-9]+\.2 1$'
    [[ $(awk '$1 == "outer" || $1 == "inner" {print $3}' out | sort -u | wc -l) == 2 ]] || fail "both steps have the same MASTER_PORT"
}
test_sbatch_from_a_supervised_rank() {
    supervise --pm-supervise -N1 -n1 sbatch --wait -n1 --overcommit -o "$case_dir/inner" --wrap "env | grep -E 'SLURM_PM_STEP|SLURM_PM_KEY'; echo batch-ran"
    assert_status 0
    [[ $(<inner) == batch-ran ]] || fail "the batch job printed: $(<inner)"
}
# On the same nodes, with and without the plugin in anybody's plugstack.conf.
test_srun_without_the_option_is_plain_srun() {
    local host show='env | grep -vE "^(_|SLURM_(JOB_?ID|TASK_PID|JOB_START_TIME|JOB_END_TIME|[A-Z_]*PORT))=" | sort
        cat /proc/self/limits; ls -l /proc/self/fd | sed "s/.* -> /-> /; s/[0-9][0-9]*//g" | sort
        grep -E "^(Sig(Pnd|Blk|Ign|Cgt)|Cap|Cpus|Groups|Uid|Gid|Seccomp|NoNewPrivs)" /proc/self/status; cat /proc/self/oom_score_adj
        sed "s/_[0-9][0-9]*//g" /proc/self/cgroup; exit 5'
    run srun -N2 -n2 -l sh -c "$show"
    assert_status 5
    sort out >with
    mv err with.err
    [[ -z $(node_pids node1 pm-agent) ]] || fail "an agent runs without the option"
    trap 'for host in login node1 node2; do cluster exec $host umount /etc/slurm/plugstack.conf; done' EXIT
    echo '# nothing' >plugstack
    for host in login node1 node2; do cluster exec "$host" mount --bind "$case_dir/plugstack" /etc/slurm/plugstack.conf; done
    run srun -N2 -n2 -l sh -c "$show"
    assert_status 5
    sort out >without
    diff without with >difference || fail "with the plugin it differs: $(<difference)"
    diff <(sort err) <(sort with.err) >difference || fail "srun says something else: $(<difference)"
    run srun --pm-supervise -N1 -n1 true
    [[ $status != 0 ]] || fail "the plugin was still there"
}
# Scripts of srun inherit what the coordinator gave it; the steps that they start are none of its.
test_srun_in_prolog_and_epilog_starts_a_step_of_its_own() {
    local name
    for name in prolog epilog; do
        cat >$name <<SCRIPT
#!/bin/sh
echo "\$0" | sed 's|.*/|ran |'
srun --overlap -N1 -n1 sh -c 'echo "$name plain \${PM_EPOCH-none} \${SLURM_WAIT-none} \${SLURM_NO_KILL-none}"'
srun --overlap -N1 -n1 env | grep -c ^SLURM_PM_STEP_ | sed "s/^/$name internals /"
srun --overlap --pm-supervise -N1 -n1 sh -c 'echo "$name supervised \$PM_EPOCH \${SLURM_WAIT-none}"'
SCRIPT
        chmod 755 $name
    done
    mkdir -p nodes && chmod 1777 nodes
    SLURM_WAIT=77 run salloc -N2 -n2 srun "${log_options[@]}" --pm-supervise --prolog="$case_dir/prolog" --epilog="$case_dir/epilog" -N2 -n2 \
        sh -c 'echo "rank $PM_EPOCH ${SLURM_WAIT-none}"; [ $PM_EPOCH.$SLURM_PROCID != 0.1 ] || exit 7'
    assert_status 0
    assert_out '^rank 1 77$'
    for name in prolog epilog; do
        assert_out_count 1 "^ran $name\$"
        assert_out "^$name plain none 77 none\$"
        assert_out "^$name internals 0\$"
        assert_out "^$name supervised 0 77\$"
    done
    assert_decided restart-world exit 'rank 1 .* exited with code 7.*'
}
test_oci_containers_are_refused_before_the_step() {
    run srun --pm-supervise --container=/bundle -N1 -n1 true
    assert_status 125
    assert_err '^pm-supervise: --pm-supervise does not support OCI containers \(--container\): '
    SLURM_CONTAINER=/bundle run srun --pm-supervise -N1 -n1 true
    assert_status 125
    assert_err '^pm-supervise: SLURM_CONTAINER=/bundle: --pm-supervise does not support OCI containers; unset it$'
    [[ -z $(cluster run squeue -h) ]] || fail "something was allocated"
}
