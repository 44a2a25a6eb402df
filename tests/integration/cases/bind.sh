# SPDX-License-Identifier: Apache-2.0
# cluster: site 3 --gpus 4
#
# Where ranks run: --pm-bind on real CPUs, as ranks see it themselves, over restarts and on a spare, next to what the
# user says to Slurm. GPUs are terminals; what Slurm says of them (GRES, SLURM_STEP_GPUS, the tokens) is its own.
#
# shellcheck shell=bash disable=SC2154,SC2016

# "rank epoch: cpus memory tokens threads", of the shell itself.
readonly look='set -- $(grep -E "^[0-9a-f]+ (bind|prefer|interleave|default)" /proc/$$/numa_maps | head -n 1)
echo "at $SLURM_PROCID $PM_EPOCH: $(awk "/^Cpus_allowed_list/ {print \$2}" /proc/$$/status) $2 gpus=$CUDA_VISIBLE_DEVICES omp=$OMP_NUM_THREADS"'
needs_two_cpus() { (($(nproc) == 2)) || { echo "skipped: it is written for a machine with 2 CPUs"; exit 0; }; }
# On node1 this stands in pm-discover's place until the case ends; looks_like: it sees the machine of a fixture.
in_discovers_place() {
    chmod 755 "$1"
    trap 'cluster exec node1 umount "$pm_prefix/libexec/pm-supervise/pm-discover"' EXIT
    cluster exec node1 mount --bind "$1" "$pm_prefix/libexec/pm-supervise/pm-discover"
}
looks_like() {
    cp "$pm_root/tests/topology/fixtures/$1.xml" "$case_dir"
    printf '#!/bin/sh\nexec %s/tests/topology/picture_of %s/%s.xml\n' "$pm_build" "$case_dir" "$1" >discover
    in_discovers_place "$case_dir/discover"
}
is_at() { assert_out "^at $1: $2\$"; }

test_two_ranks_of_a_node_have_a_cpu_each_in_every_life() {
    needs_two_cpus
    supervise --pm-supervise --pm-bind=memory=bind -N2 -n4 sh -c "$look; : >$case_dir/up.\$SLURM_PROCID
        [ \$PM_EPOCH = 0 ] || exit 0; for r in 0 1 2 3; do until [ -e $case_dir/up.\$r ]; do sleep 0.05; done; done; [ \$SLURM_PROCID != 3 ] || exit 7; exec sleep 20"
    assert_status 0
    local rank epoch
    for epoch in 0 1; do
        for rank in 0 1 2 3; do is_at "$rank $epoch" "$((rank % 2)) bind:0 gpus= omp=1"; done
    done
}
# Slurm gives each task of two a CPU; with `numa` both have both, and PMIx says so in every life.
test_pmix_is_told_where_ranks_run() {
    needs_two_cpus
    supervise --pm-supervise --pm-bind=numa -N1 -n2 sh -c "$look; exec $programs/pmix_probe init keys:0,1 fence @1~1/exit:3 fence finalize"
    assert_status 0
    is_at '1 1' '0-1 default gpus= omp=[12]'
    assert_out_count 8 'name=pmix.cpuset rc=0 .*value=hwloc:0-1$'
    local rank
    for rank in 0 1; do
        assert_out "key rank=$rank of=$rank name=pmix.locstr rc=0 "
        assert_out "key rank=$rank of=$rank name=pmix.pkgrank rc=0 .*value=$rank\$"
    done
}
test_a_rank_alone_has_what_its_step_has() {
    run srun -N1 -n1 --exclusive sh -c "$look"
    local plain
    plain=$(sed -n 's/^at 0 : \([0-9,-]*\) .*/\1/p' out)
    [[ $plain ]] || fail "plain srun shows no CPUs"
    supervise --pm-supervise -N1 -n1 --exclusive sh -c "$look"
    is_at '0 0' "$plain default gpus= omp=[12]"
}
# As with plain srun, and so many OpenMP threads; a job's own number that the step has not got is no matter.
test_cpus_per_task_is_what_a_rank_has() {
    needs_two_cpus
    local options
    for options in '-n1 -c1' '-n1 -c2' '-n2 -c1'; do
        # shellcheck disable=SC2086
        run srun -N1 $options sh -c 'nproc'
        sed 's/.*/& omp=&/' out | sort >plain
        # shellcheck disable=SC2086
        supervise --pm-supervise -N1 $options sh -c 'echo "$(nproc) omp=$OMP_NUM_THREADS"'
        assert_status 0
        sort out | diff plain - || fail "$options: not as with plain srun"
    done
    supervise --pm-supervise --pm-bind=cpus=1 -N1 -n1 -c2 sh -c "$look"
    is_at '0 0' '0 default gpus= omp=1'
    SLURM_CPUS_PER_TASK=9 supervise --pm-supervise -N1 -n2 sh -c "$look"
    is_at '1 0' '1 default gpus= omp=1'
    refute_err 'pm-supervise'
}
# What the user has said to Slurm, or set for himself, is left alone.
test_cpu_bind_stays() {
    needs_two_cpus
    supervise --pm-supervise --cpu-bind=map_cpu:1,0 -N1 -n2 sh -c "$look; [ \$PM_EPOCH = 1 ] || exit 7"
    assert_status 0
    is_at '0 1' '1 default gpus= omp='
    is_at '1 1' '0 default gpus= omp='
    supervise --pm-supervise --cpu-bind=none -N1 -n2 sh -c "$look"
    is_at '0 0' '0-1 default gpus= omp='
    is_at '1 0' '0-1 default gpus= omp='
    rm -rf nodes log.*
    SLURM_CPU_BIND=none supervise --pm-supervise -N1 -n2 sh -c "$look"
    is_at '1 0' '0-1 default gpus= omp='
}
test_mem_bind_stays_and_memory_is_bound_without_it() {
    supervise --pm-supervise --mem-bind=local --pm-bind=memory=interleave -N1 -n1 sh -c "$look; [ \$PM_EPOCH = 1 ] || exit 7"
    assert_out_count 2 '^at 0 [01]: [0-9-]+ bind:0 '
    supervise --pm-supervise --pm-bind=memory=interleave -N1 -n1 sh -c "$look"
    assert_out '^at 0 0: [0-9-]+ interleave:0 '
}
test_variables_of_the_users_own_stay() {
    OMP_PLACES=sockets supervise --pm-supervise -N1 -n2 sh -c "$look; echo places \$OMP_PLACES"
    assert_out_count 2 '^at .* omp=$'
    assert_out_count 2 '^places sockets$'
    local plain
    CUDA_VISIBLE_DEVICES=mine run srun -N1 -n1 sh -c "$look"
    plain=$(sed -n 's/^at .* \(gpus=[^ ]*\) .*/\1/p' out)
    CUDA_VISIBLE_DEVICES=mine supervise --pm-supervise -N1 -n2 sh -c "$look"
    assert_out_count 2 "^at .* $plain omp=1$"
    refute_err 'pm-supervise'
}
test_none_leaves_everything() {
    supervise --pm-supervise --pm-bind=none --gres=gpu:2 -N1 -n2 sh -c "$look"
    assert_out_count 2 '^at . 0: . default gpus=0,1 omp=$'
}
test_gpus_are_dealt_out_by_the_tokens_that_slurm_gave() {
    supervise --pm-supervise --gres=gpu:4 -N2 -n4 sh -c "$look; [ \$PM_EPOCH = 1 ] || exit 7; echo step \$SLURM_STEP_GPUS"
    assert_status 0
    local rank
    for rank in 0 1 2 3; do is_at "$rank [01]" "[01] default gpus=$((rank % 2 ? 2 : 0)),$((rank % 2 ? 3 : 1)) omp=1"; done
    assert_out_count 4 '^step 0,1,2,3$'
    # Half of them: with a device cgroup the step's are numbered from 0.
    supervise --pm-supervise --gres=gpu:2 -N1 -n2 sh -c "$look"
    is_at '0 0' '[01] default gpus=0 omp=1'
    is_at '1 0' '[01] default gpus=1 omp=1'
}
# Each rank has the CPUs and GPUs that plain srun gives it, after a restart, too.
test_what_is_said_to_slurm_of_threads_and_gpus_stays() {
    needs_two_cpus
    local options files='for i in 40 41 42 43; do (exec 3</dev/tty$i) 2>/dev/null && printf ",$i"; done'
    local seen="echo at \$SLURM_PROCID: \$(awk '/^Cpus_allowed_list/ {print \$2}' /proc/\$\$/status) \$CUDA_VISIBLE_DEVICES \$($files)"
    for options in --hint=nomultithread --gpus-per-task=1 '--gres=gpu:4 --gpu-bind=map_gpu:3,1' \
        '--gres=gpu:4 --gpu-bind=mask_gpu:3,3' '--gres=gpu:4 --gpu-bind=none' '--gpus=2 --ntasks-per-gpu=1'; do
        # shellcheck disable=SC2086
        run srun -N1 -n2 $options sh -c "$seen"
        sort out >plain
        # shellcheck disable=SC2086
        supervise --pm-supervise -N1 -n2 $options sh -c "[ \$PM_EPOCH = 1 ] || exit 7; $seen"
        assert_status 0
        sort out | diff plain - || fail "$options: not as with plain srun"
    done
}
test_ranks_that_move_to_a_spare_are_bound_there() {
    needs_two_cpus
    supervise_bg --pm-supervise --pm-spares=1 --pm-node-timeout=2s --pm-bind-report -N3 --ntasks-per-node=2 --gres=gpu:2 \
        sh -c "$look; [ \$PM_EPOCH = 1 ] || exec sleep 60; exec $programs/pmix_probe init keys:2,3 fence finalize"
    wait_until 15 "4 ranks" sh -c "[ \$(grep -c '^at' '$case_dir/out') = 4 ]"
    wait_running
    wait_err 'bind: node\[1-2\]: 2 ranks, '
    # shellcheck disable=SC2046  # pids are words
    cluster exec node2 kill -KILL $(node_pids node2 pm-agent)
    wait_step
    assert_status 0
    assert_err 'bind: node3: 2 ranks, 1 core each'
    assert_err 'bind: rank 3: cpus 1 .* gpu 1@'
    is_at '2 1' '0 default gpus=0 omp=1'
    is_at '3 1' '1 default gpus=1 omp=1'
    local rank
    for rank in 2 3; do
        assert_out_count 2 "key rank=[23] of=$rank name=pmix.cpuset rc=0 .*value=hwloc:$((rank % 2))\$"
        assert_out_count 2 "key rank=[23] of=$rank name=pmix.locstr rc=0 .*value=.*:CR$((rank % 2)):HT$((rank % 2)):"
        assert_out_count 2 "key rank=[23] of=$rank name=pmix.pkgrank rc=0 .*value=$((rank % 2))\$"
    done
}
# Every rank beside its own GPU and NIC, by PCI address. The host has no memory node 1, and says so.
test_a_machine_with_gpus_is_told_by_their_addresses() {
    needs_two_cpus
    looks_like two-gpus
    supervise --pm-supervise --pm-bind-report -w node1 -N1 -n2 --gres=gpu:2 \
        sh -c "$look; echo nic \$SLURM_PROCID \$UCX_NET_DEVICES \$NCCL_IB_HCA; [ \$PM_EPOCH = 1 ] || exit 7"
    assert_status 0
    is_at '0 1' '1 default gpus=0 omp=1'
    is_at '1 1' '0 prefer:0 gpus=1 omp=1'
    assert_out '^nic 0 mlx5_0:1 mlx5_0$'
    assert_out '^nic 1 mlx5_1:1 mlx5_1$'
    assert_err 'bind: node1: 2 ranks, 1 core each \(2 of 2 used\), 1 GPU each \(2 of 2 used\); 2 near$'
    assert_err 'bind: rank 0: cpus 1 \(1 core\), numa 1, gpu 0@11:00.0, nic mlx5_0/PIX, memory prefer 1; near$'
    assert_err 'bind: rank 1: cpus 0 \(1 core\), numa 0, gpu 1@21:00.0, nic mlx5_1/PIX, memory prefer 0; near$'
    assert_err 'node1: rank 0 cannot have prefer 1: Invalid argument$'
    [[ $(jq -s '[.[] | select(.kind == "bind-mismatch" and .rank == 0) | .epoch] | unique | length' nodes/*) == 2 ]] ||
        fail "no bind-mismatch for each start of rank 0"
    [[ $(jq -s '[.[] | select(.kind == "bind-mismatch" and .rank != 0)] | length' nodes/*) == 0 ]] || fail "rank 1 has what it should"
    UCX_NET_DEVICES=mine NCCL_IB_HCA=mine supervise --pm-supervise -w node1 -N1 -n2 --gres=gpu:2 \
        sh -c 'echo nic $SLURM_PROCID $UCX_NET_DEVICES $NCCL_IB_HCA'
    assert_out '^nic 0 mine mine$'
}
# With a device cgroup for each task, Slurm calls the GPU of each 0. Which one it is, the files say that a task may open; here
# /dev/nvidia0 and 1 are further names of the terminals that stand for GPUs, on node1 alone.
test_row29_gpus_of_tasks_that_are_all_called_0_are_told_apart() {
    needs_two_cpus
    looks_like two-gpus
    trap 'cluster exec node1 umount "$pm_prefix/libexec/pm-supervise/pm-discover"; cluster exec node1 umount -l /dev' EXIT
    cluster exec node1 sh -e -c "mkdir -p /run/dev/upper /run/dev/work
        mount -t overlay overlay -o lowerdir=/dev,upperdir=/run/dev/upper,workdir=/run/dev/work /dev
        for i in 0 1; do rm -f /dev/nvidia\$i; mknod -m 666 /dev/nvidia\$i c 4 4\$i; done"
    supervise --pm-supervise --pm-bind-report -w node1 -N1 -n2 --gpus-per-task=1 sh -c "[ \$PM_EPOCH = 1 ] || exit 7; $look"
    assert_status 0
    assert_err 'bind: rank 0: cpus 1 .* gpu 0@11:00.0, nic mlx5_0/PIX, .*; near,given$'
    assert_err 'bind: rank 1: cpus 0 .* gpu 0@21:00.0, nic mlx5_1/PIX, .*; near,given$'
    is_at '0 1' '1 default gpus=0 omp=1'
    is_at '1 1' '0 prefer:0 gpus=0 omp=1'
}
# A core of two threads, of which the user wants one.
test_hints_limit_the_threads_of_a_core() {
    needs_two_cpus
    looks_like two-threads
    local step='--pm-supervise -w node1 -N1 -n1 -c2'
    # shellcheck disable=SC2086
    {
        supervise $step sh -c "$look"
        is_at '0 0' '0-1 default gpus= omp=2'
        supervise $step --hint=nomultithread sh -c "$look"
        is_at '0 0' '0 default gpus= omp=1'
        SLURM_HINT=nomultithread supervise $step --hint=multithread sh -c "$look"
        is_at '0 0' '0-1 default gpus= omp=2'
        SLURM_THREADS_PER_CORE=1 supervise $step sh -c "$look"
        is_at '0 0' '0 default gpus= omp=1'
        SLURM_HINT=nomultithread supervise $step --pm-bind=smt=2 sh -c "$look"
        is_at '0 0' '0-1 default gpus= omp=2'
    }
}
test_the_report_tells_equal_nodes_once() {
    needs_two_cpus
    supervise --pm-supervise --pm-bind-report="$case_dir/where.%j" -N3 -n6 true
    assert_status 0
    [[ $(wc -l <"$(echo "$case_dir"/where.*)") == 3 ]] || fail "the report: $(cat "$case_dir"/where.*)"
    grep -qx 'bind: node\[1-3\]: 2 ranks, 1 core each (2 of 2 used); 2 equal' "$case_dir"/where.* || fail "$(cat "$case_dir"/where.*)"
    grep -q '^bind: ranks 1,3,5: cpus 1 ' "$case_dir"/where.* || fail "$(cat "$case_dir"/where.*)"
    refute_err 'bind'
    supervise --pm-supervise --pm-bind-report=/nowhere/at/all -N1 -n1 true
    assert_status 125
    assert_err '^pm-supervise: --pm-bind-report=/nowhere/at/all: cannot write there: No such file'
}
test_words_that_are_none_are_refused_before_the_step() {
    supervise --pm-supervise --pm-bind=auto,nmua -N1 -n1 "$programs/fault"
    assert_status 125
    assert_err "^pm-supervise: --pm-bind=auto,nmua: 'nmua' is none of auto, cores, "
    assert_out_count 0 .
}
# The kernel has the last word: a rank whose CPU was taken from the step meanwhile says so and runs where it may.
test_a_place_that_is_gone_is_a_mismatch_in_the_log() {
    needs_two_cpus
    supervise_bg --pm-supervise -N1 -n2 sh -c "$look; [ \$PM_EPOCH = 1 ] && exit; until [ -e $case_dir/die ]; do sleep 0.1; done; exit 7"
    wait_until 15 "2 ranks" sh -c "[ \$(grep -c '^at' '$case_dir/out') = 2 ]"
    wait_running
    local pid
    pid=$(rank_pid 1)
    cluster exec node1 sh -c "p=/sys/fs/cgroup/cpuset\$(awk -F: '\$2 == \"cpuset\" {print \$3}' /proc/$pid/cgroup); echo 0 >\$p/cpuset.cpus"
    touch die
    wait_step
    assert_status 0
    is_at '1 1' '0 default gpus= omp=1'
    assert_err 'node1: rank 1 cannot have CPUs 1: Invalid argument'
    jq -es 'any(.[]; .kind == "bind-mismatch" and .rank == 1 and .epoch == 1)' nodes/* >/dev/null || fail "no bind-mismatch in the node's log"
}
# A discovery that hangs or fails costs its time limit, and the ranks run as Slurm has bound them.
test_row38_a_node_that_cannot_be_looked_at_is_left_as_it_is() {
    printf '#!/bin/sh\necho $$ >%s/hangs\nexec sleep 100\n' "$case_dir" >discover
    in_discovers_place "$case_dir/discover"
    supervise --pm-supervise -w node1 -N1 -n1 sh -c "$look"
    assert_status 0
    assert_err '^pm-supervise: node1: ranks are not bound: reading the topology of this host takes longer than 5 s$'
    assert_out '^at 0 0: [0-9-]+ default gpus= omp=$'
    ! cluster exec node1 kill -0 "$(<hangs)" 2>/dev/null || fail "pm-discover still runs"
}
