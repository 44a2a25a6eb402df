# SPDX-License-Identifier: Apache-2.0
#
# What integration cases are written with. A case is a shell function test_NAME in a file of
# tests/integration/cases/; it runs in a bash of its own with -e, in an empty folder $case_dir that
# every host of the cluster sees, on a cluster that is already up. Every case ends with a look at
# all nodes (nothing left), at the cluster (nothing drained) and, if it made event logs, at the
# invariants.
#
# shellcheck shell=bash disable=SC2034  # variables are for the cases

readonly dc=$pm_root/scripts/devcluster
readonly programs=$pm_build/tests/programs
step_timeout=${step_timeout:-40}

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    local file
    for file in err out; do
        [[ -s $case_dir/$file ]] && { echo "--- $file:"; tail -n 25 "$case_dir/$file"; } >&2
    done
    exit 1
}

cluster() { "$dc" --dir "$pm_cluster" "$@"; }

# Runs a command on the login host to its end: files out and err, variable status.
run() {
    local began=$SECONDS
    status=0
    timeout -k 5 "$step_timeout" "$dc" --dir "$pm_cluster" run "$@" \
        >"$case_dir/out" 2>"$case_dir/err" </dev/null || status=$?
    # 137 is also what a rank that was killed gives.
    ((SECONDS - began < step_timeout)) || fail "did not end within $step_timeout s: $*"
}

# The options every supervised run of a case has: its logs.
log_options=(--pm-log="$case_dir/log.%j.%s.json" --pm-log-nodes="$case_dir/nodes")

supervise() {
    mkdir -p "$case_dir/nodes" && chmod 1777 "$case_dir/nodes"
    run srun "${log_options[@]}" "$@"
}

# The same in the background; then wait_err / wait_file for something to happen, then wait_step.
supervise_bg() {
    mkdir -p "$case_dir/nodes" && chmod 1777 "$case_dir/nodes"
    timeout -k 5 "$step_timeout" "$dc" --dir "$pm_cluster" run srun "${log_options[@]}" "$@" \
        >"$case_dir/out" 2>"$case_dir/err" </dev/null &
    step_pid=$! step_began=$SECONDS
}

wait_step() {
    status=0
    wait "$step_pid" || status=$?
    ((SECONDS - step_began < step_timeout)) || fail "the step did not end within $step_timeout s"
}

# wait_until SECONDS WHAT COMMAND...: polls, since what it waits for happens in another process.
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "waited in vain for $what"
        sleep 0.05
    done
}

wait_err() { wait_until "${2:-15}" "/$1/ on stderr" grep -qE "$1" "$case_dir/err"; }
wait_out() { wait_until "${2:-15}" "/$1/ on stdout" grep -qE "$1" "$case_dir/out"; }
wait_file() { wait_until "${2:-15}" "file $1" test -e "$1"; }
wait_running() { wait_until 20 "the step to run" log_has '.to == "RUNNING"'; }

assert_status() { [[ $status == "$1" ]] || fail "exit status is $status, not $1"; }
assert_err() { grep -qE -- "$1" "$case_dir/err" || fail "stderr has no line like /$1/"; }
refute_err() { ! grep -qE -- "$1" "$case_dir/err" || fail "stderr has a line like /$1/"; }
assert_out() { grep -qE -- "$1" "$case_dir/out" || fail "stdout has no line like /$1/"; }
assert_out_count() {
    local n
    n=$(grep -cE -- "$2" "$case_dir/out") || true
    [[ $n == "$1" ]] || fail "stdout has $n lines like /$2/, not $1"
}

# Records of the coordinator's log that a jq filter selects.
log_select() { ! compgen -G "$case_dir/log.*.json" >/dev/null || jq -c "select($1)" "$case_dir"/log.*.json; }
log_has() { [[ -n $(log_select "$1" 2>/dev/null) ]]; }
assert_log() { log_has "$1" || fail "the event log has no record with $1"; }
assert_log_count() {
    local n
    n=$(log_select "$2" | wc -l)
    [[ $n == "$1" ]] || fail "the event log has $n records with $2, not $1"
}

# assert_decided ACTION CAUSE LINE: a failure of that cause is in the log, a decision about it, and a line says so.
assert_decided() {
    assert_log ".kind == \"failure\" and .cause == \"$2\""
    assert_log ".kind == \"decision\" and .action == \"$1\" and .cause == \"$2\""
    assert_err "^pm-supervise: .*$3"
}
# The user's stop: one line, one decision, and never a restart.
assert_stopped_by_user() {
    assert_err "^pm-supervise: the step is being stopped \\(signal $1\\); no more restarts"
    assert_log ".kind == \"decision\" and .action == \"stop\" and .reason == \"user's stop, signal $1\""
    assert_log_count 0 '.kind == "decision" and (.action | startswith("restart"))'
    assert_log_count 0 '.kind == "failure"'
}

# with_site_defaults NAME=VALUE...: the login host's plugstack.conf has them until the case ends.
with_site_defaults() {
    cluster exec login cat /etc/slurm/plugstack.conf | sed "s|pm_supervise.so.*|& $*|" >plugstack
    trap 'cluster exec login umount /etc/slurm/plugstack.conf' EXIT
    cluster exec login mount --bind "$case_dir/plugstack" /etc/slurm/plugstack.conf
}

# pid, on its node, of the current incarnation of a rank: from the nodes' logs.
rank_pid() {
    cat "$case_dir"/nodes/* | jq -rs --argjson r "$1" \
        '[.[] | select(.kind == "start" and .rank == $r)] | sort_by(.t_ns) | last | .pid'
}
rank_host() {
    cat "$case_dir"/nodes/* | jq -rs --argjson r "$1" \
        '[.[] | select(.kind == "start" and .rank == $r)] | last | .writer'
}
signal_rank() { cluster exec "$(rank_host "$1")" kill "-$2" "$(rank_pid "$1")"; }

# pids of a program of ours on a node, by the name of its process.
node_pids() { cluster exec "$1" ps -eo pid=,comm= | awk -v name="$2" '$2 == name {print $1}'; }
nodes() { local i; for ((i = 1; i <= pm_nodes; i++)); do echo "node$i"; done; }

# What a step may leave on a host is nothing at all: no process, no socket for shims, no folder.
leftovers() {
    cluster exec "$1" sh -c '
        # "sleep 30" below process 1 is how the host itself waits.
        ps -eo pid=,ppid=,comm=,args= | awk "\$3 ~ /^(pm-|srun|fault|heat|pmix_|mpi_|slurmstepd|sleep|cat|sh\$|bash\$)/ &&
            !(\$2 <= 1 && (\$4 == \"sleep\" || \$5 ~ /devcluster.d/)) && \$2 != $$ && \$1 != $$"
        awk "\$5 == \"0005\" && \$8 ~ /^@/" /proc/net/unix
        # No rank runs on the login host, and its /dev/shm is that of the machine.
        shm=/dev/shm/; [ "$(hostname)" != login ] || shm=/dev/shm/none
        ls -d /tmp/pm-supervise.* /tmp/ompi.* $shm*vader* $shm*pmix* 2>/dev/null' || true
}
assert_clean() {
    local node left deadline
    for node in login $(nodes); do
        [[ " ${skip_clean:-} " != *" $node "* ]] || continue
        deadline=$((SECONDS + 8))
        while left=$(leftovers "$node"); [[ -n $left ]]; do
            ((SECONDS < deadline)) || fail "left on $node: $left"
            sleep 0.2
        done
    done
    left=$(cluster run sinfo -h -R -o '%n %E' 2>/dev/null | grep -v '^ *$' || true)
    [[ -z $left || -n ${skip_drain:-} ]] || fail "nodes are drained or down: $left"
}

# Names of check_log's checks that what the case does makes meaningless.
except=
assert_invariants() {
    compgen -G "$case_dir/log.*.json" >/dev/null || return 0
    local log
    for log in "$case_dir"/log.*.json; do
        "$pm_root/tests/integration/check_log" "--except=$except" "$log" "$case_dir/nodes" >"$case_dir/invariants" 2>&1 ||
            fail "invariants: $(tail -n 5 "$case_dir/invariants")"
    done
}
