# SPDX-License-Identifier: Apache-2.0
# cluster: site 4
#
# What failed and what it leads to: every kind of failure under world, rank and notify.
#
# shellcheck shell=bash disable=SC2154

fault() { supervise "$1" -N4 -n8 "$programs/fault" "${@:2}"; }
probe() { supervise "$1" -N4 -n8 "$programs/pmix_probe" "${@:2}"; }

# expect_world STATUS CAUSE RANK: the world was restarted once because of RANK.
expect_world() {
    assert_status "$1"
    assert_err "^pm-supervise: rank $3 \(node[1-4], pid [0-9]+\) .*; restarting 8 ranks on 4 nodes \(restart 1 of 3\)"
    assert_err '^pm-supervise: epoch 1 running after [0-9.]+ m?s'
    assert_log ".kind == \"failure\" and .cause == \"$2\" and .rank == $3"
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
}
expect_rank() {
    assert_status "$1"
    assert_err "^pm-supervise: rank $3 \(node[1-4], pid [0-9]+\) .*; restarting this rank \(restart 1 of 3\)"
    assert_err "^pm-supervise: rank $3 running again after [0-9.]+ m?s\$"
    assert_log ".kind == \"running-again\" and .rank == $3 and .incarnation == 1"
    assert_log ".kind == \"failure\" and .cause == \"$2\" and .rank == $3"
    assert_log_count 1 '.kind == "decision" and .action == "restart-rank"'
    assert_log_count 0 '.kind == "decision" and .action == "restart-world"'
}
expect_notify() {
    assert_status "$1"
    assert_decided notify "$2" "rank $3 \(node[1-4], pid [0-9]+\) .*; the other ranks are told and go on"
    assert_log ".kind == \"failure\" and .cause == \"$2\" and .rank == $3"
    assert_log_count 0 '.kind == "decision" and (.action | startswith("restart"))'
}
expect_stop() {
    assert_status "$1"
    assert_decided stop "$2" "rank [0-7] .*; stopping: $3\$"
    assert_log_count 0 '.kind == "decision" and (.action | startswith("restart"))'
}

test_clean_run() {
    fault --pm-supervise --run 100
    assert_status 0
    assert_out_count 8 '^fault: done'
    assert_log_count 0 '.kind == "failure"'
    refute_err 'pm-supervise'
}

test_exit_code_world() { fault --pm-supervise --rank 3 --after 100 --exit 7 --run 400; expect_world 0 exit 3; assert_out_count 16 '^fault: start'; }
test_exit_code_rank() { fault --pm-supervise=rank --rank 3 --after 100 --exit 7 --run 600; expect_rank 0 exit 3; assert_out_count 9 '^fault: start'; }
test_exit_code_notify() { fault --pm-supervise=notify --rank 3 --after 100 --exit 7 --run 400; expect_notify 7 exit 3; assert_out_count 7 '^fault: done'; }

test_sigkill_world() { fault --pm-supervise --rank 5 --after 100 --signal KILL --run 400; expect_world 0 signal 5; }
test_sigkill_rank() { fault --pm-supervise=rank --rank 5 --after 100 --signal KILL --run 600; expect_rank 0 signal 5; }
test_sigkill_notify() { fault --pm-supervise=notify --rank 5 --after 100 --signal KILL --run 400; expect_notify 137 signal 5; }

test_sigsegv_world() { fault --pm-supervise --rank 0 --after 100 --segv --run 400; expect_world 0 signal 0; }
test_sigsegv_rank() { fault --pm-supervise=rank --rank 0 --after 100 --segv --run 600; expect_rank 0 signal 0; }
test_sigsegv_notify() { fault --pm-supervise=notify --rank 0 --after 100 --segv --run 400; expect_notify 139 signal 0; }

# The kernel kills the rank, not the shim or the agent; Slurm still says OUT_OF_MEMORY and our line says so.
oom() { supervise "$1" -N4 -n8 --mem=100M "$programs/fault" --rank 2 --after 100 --oom --run 1000; }
test_oom_world() { oom --pm-supervise; expect_world 0 oom 2; assert_err 'OUT_OF_MEMORY'; }
test_oom_rank() { oom --pm-supervise=rank; expect_rank 0 oom 2; assert_err 'OUT_OF_MEMORY'; }
test_oom_notify() { oom --pm-supervise=notify; expect_notify 1 oom 2; }
# To srun it is no SIGKILL.
test_oom_has_sruns_own_status() {
    local how wanted
    run srun -N2 -n2 --mem=100M "$programs/fault" --rank 1 --after 100 --oom --run 300
    wanted=$status
    for how in '--pm-supervise=notify' '--pm-supervise --pm-max-restarts=0'; do
        # shellcheck disable=SC2086  # options
        supervise $how -N2 -n2 --mem=100M "$programs/fault" --rank 1 --after 100 --oom --run 300
        assert_status "$wanted"
        assert_log '.kind == "failure" and .cause == "oom" and .rank == 1'
        assert_invariants
        rm -rf log.* nodes
    done
}

test_exec_failure_world() { supervise --pm-supervise -N4 -n8 /no/such/program; expect_stop 2 exec 'a program that cannot be started is not tried again'; }
test_exec_failure_rank() { supervise --pm-supervise=rank -N4 -n8 /no/such/program; expect_stop 2 exec 'a program that cannot be started is not tried again'; }
test_exec_failure_notify() { supervise --pm-supervise=notify -N4 -n8 /no/such/program; expect_stop 2 exec 'a program that cannot be started is not tried again'; }
# The codes that a shell or slurmstepd gives for it mean nothing by themselves: this program was started.
test_exit_codes_of_a_failed_exec_are_ordinary_ones_of_a_program_that_ran() {
    local code
    for code in 2 126 127; do
        fault --pm-supervise --rank 3 --after 50 --exit "$code" --run 200
        expect_world 0 exit 3
        assert_invariants
        rm -rf log.* nodes
    done
}
# Whatever plain srun makes of it.
test_exec_failure_has_sruns_own_status() {
    local wanted
    touch "$case_dir/not-executable"
    for program in /no/such/program "$case_dir/not-executable" /; do
        run srun -N2 -n2 "$program"
        wanted=$status
        supervise --pm-supervise -N2 -n2 "$program"
        assert_status "$wanted"
        assert_decided stop exec 'rank [01] .*; stopping: a program that cannot be started is not tried again$'
        assert_invariants
        rm -rf log.* nodes
    done
}
