# SPDX-License-Identifier: Apache-2.0
# cluster: site 4
#
# Strangers at the ports and sockets of a live step, and what our processes show, hold and may.
#
# shellcheck shell=bash disable=SC2154,SC2016

readonly stranger=$pm_root/tests/integration/port_probe

ranks_up() { wait_until 15 "$1 ranks" sh -c "[ \$(grep -c '^fault: start' '$case_dir/out') = $1 ]"; }
start_long() { supervise_bg --pm-supervise -N4 -n8 "$programs/fault" --run 60000 --wait-file "$case_dir/end" --all-ranks --exit 0; ranks_up 8; }
end_undisturbed() {
    touch end
    wait_step
    assert_status 0
    assert_out_count 8 '^fault: start'
    assert_log_count 0 '.kind == "failure" or .kind == "decision"'
    refute_err 'pm-supervise'
}
port_of() { cluster exec "$1" "$stranger" listeners "$2" | head -n 1; }
visit() { cluster exec "$1" "$stranger" "${@:2}" >visit 2>&1 || fail "$(cat visit)"; }
# Strangers of every kind at one door, from a node that is part of the step.
every_kind() {
    local kind
    for kind in garbage wrong-key http flood; do visit node4 "$kind" "$1" "$2" 3; done
    visit node4 half "$1" "$2" 20
    visit node4 silent "$1" "$2" 70 12
}
test_strangers_at_the_coordinators_port_change_nothing() {
    start_long
    local port
    port=$(port_of login pm-coordinator)
    [[ $port ]] || fail "the coordinator listens on no port"
    every_kind login "$port"
    end_undisturbed
}
test_strangers_at_the_agents_ports_change_nothing() {
    start_long
    local port
    port=$(port_of node2 pm-agent)
    [[ $port ]] || fail "the agent of node2 listens on no port"
    every_kind node2 "$port"
    end_undisturbed
}
# A restart has to go over the same links while strangers sit at the doors.
test_restart_while_strangers_hold_connections() {
    supervise_bg --pm-supervise -N4 -n8 "$programs/fault" --rank 3 --wait-file "$case_dir/now" --exit 7 --run 2000
    ranks_up 8
    local port visitors
    port=$(port_of login pm-coordinator)
    cluster exec node4 "$stranger" silent login "$port" 60 12 >visit 2>&1 &
    visitors=$!
    touch now
    wait_step
    assert_status 0
    assert_out_count 16 '^fault: start'
    assert_decided restart-world exit 'rank 3 .* exited with code 7.*; restarting 8 ranks on 4 nodes \(restart 1 of 3\)$'
    wait "$visitors" || fail "$(cat visit)"
}
# The steps' keys differ, so an agent is a stranger to the other step's coordinator.
test_two_steps_with_different_keys_do_not_mix() {
    cat >job <<JOB
#!/bin/bash
for i in 1 2; do
    srun --overlap -N4 -n4 --pm-supervise --pm-log=$case_dir/log.%j.%s.json --pm-port-range=41000-41007 \
        $programs/fault --rank \$i --after 300 --exit 7 --run 600 >$case_dir/out.\$i 2>$case_dir/err.\$i &
done
wait -n; a=\$?; wait -n; b=\$?
echo "\$a \$b" >$case_dir/statuses
JOB
    run sbatch --wait -N4 -n4 --overcommit -o "$case_dir/batch" job
    [[ $(cat statuses) == "0 0" ]] || fail "the steps ended with $(cat statuses): $(cat err.1 err.2 batch)"
    local i
    for i in 1 2; do
        [[ $(grep -c '^fault: start' out.$i) == 8 ]] || fail "step $i did not start 4 ranks twice"
        grep -q "rank $i (node" err.$i || fail "step $i says nothing of its own rank $i"
        ! grep -q "rank $((3 - i)) (node" err.$i || fail "step $i heard of the other's failure"
    done
    assert_log_count 1 '.kind == "decision" and .action == "restart-world" and .cause == "exit" and .rank == 1'
    assert_log_count 1 '.kind == "decision" and .action == "restart-world" and .cause == "exit" and .rank == 2'
}

# --- what our processes show -------------------------------------------------------------------------

as_alice_start() {
    mkdir -p nodes && chmod 1777 nodes "$case_dir"
    timeout -k 5 "$step_timeout" "$dc" --dir "$pm_cluster" run --user alice srun "${log_options[@]}" --pm-supervise -N4 -n8 \
        "$programs/pmix_probe" init fence say:up "wait-file:$case_dir/end" finalize >out 2>err </dev/null &
    step_pid=$! step_began=$SECONDS
    wait_until 15 "8 ranks" sh -c "[ \$(grep -c '^pmix_probe: say' '$case_dir/out') = 8 ]"
}
end_alice() { touch end && wait_step && assert_status 0; }

test_key_of_the_step_is_nowhere_to_be_seen() {
    as_alice_start
    local host pid
    # The child srun on the login host is the one process whose environment must hold it.
    for host in login $(nodes); do
        cluster exec "$host" sh -c 'for f in /proc/[0-9]*/cmdline; do tr "\0" "\n" <$f; done 2>/dev/null' >cmdlines
        ! grep -E 'SLURM_PM_STEP_KEY|PM_AGENT_KEY|^[0-9a-fA-F]{64}$' cmdlines || fail "the key is in an argv on $host"
    done
    for host in $(nodes); do
        cluster exec "$host" sh -c 'for f in /proc/[0-9]*/environ; do tr "\0" "\n" <$f; done 2>/dev/null' >environs
        ! grep -E 'SLURM_PM_STEP_' environs || fail "internals are in an environment on $host"
        ! grep -E '=[0-9a-fA-F]{64}$' environs || fail "something like a key is in an environment on $host"
    done
    end_alice
}
# Ours is a part of the user's step, not a daemon of root's.
test_agent_and_server_run_as_the_user_in_a_clean_process() {
    as_alice_start
    local node pid step_cpus
    for node in node1 node3; do
        cluster exec "$node" sh -c 'for p in $(ps -eo pid=,comm= | awk "\$2 ~ /^(slurmstepd|slurmd|pmix_probe)/ {print \$1}"); do
            for fd in /proc/$p/fd/*; do readlink $fd; done; done' | sort -u >foreign
        step_cpus=$(cluster exec "$node" sh -c 'grep Cpus_allowed_list /proc/self/status | cut -f2')
        for pid in $(node_pids "$node" pm-agent) $(node_pids "$node" pm-pmix-server); do
            cluster exec "$node" sh -c "
                cd /proc/$pid || exit
                echo \"comm \$(cat comm)\"
                grep -E '^(Uid|Gid|Cpus_allowed_list|CapEff):' status
                for fd in 0 1 2; do echo \"fd \$fd \$(readlink fd/\$fd)\"; done
                for fd in fd/*; do readlink \$fd; done" >process
            grep -qE $'^Uid:\t61001\t61001\t61001\t61001$' process || fail "not alice's: $(cat process)"
            grep -qE $'^Gid:\t61001\t61001\t61001\t61001$' process || fail "not alice's group: $(cat process)"
            grep -qE $'^CapEff:\t0000000000000000$' process || fail "it has capabilities: $(cat process)"
            [[ $(grep -cE '^fd [012] /dev/null$' process) == 3 ]] || fail "its stdio is not /dev/null: $(cat process)"
            grep -E '^(pipe|socket):|/slurm' process | sort -u | comm -12 - foreign >shared
            [[ ! -s shared ]] || fail "it shares fds with slurmstepd or ranks: $(cat shared process)"
            grep -qF "Cpus_allowed_list:	$step_cpus" process || fail "not on all CPUs of the step ($step_cpus): $(cat process)"
        done
    done
    end_alice
}
# What the user set for the program, and what slurmstepd set for itself, is not for the agent.
test_agent_has_limits_signals_and_cgroup_of_a_fresh_process_in_the_step() {
    mkdir -p nodes && chmod 1777 nodes
    timeout -k 5 "$step_timeout" "$dc" --dir "$pm_cluster" run sh -c "ulimit -c 12345; ulimit -n 777; ulimit -s 4096; ulimit -S -t 999; ulimit -S -f 999999
        exec srun ${log_options[*]} --pm-supervise --propagate=ALL --cpu-bind=none -N2 -n2 sh -c 'ulimit -n; trap \"\" HUP; exec $programs/fault --run 60000 --wait-file $case_dir/end --all-ranks --exit 0'" >out 2>err </dev/null &
    step_pid=$! step_began=$SECONDS
    ranks_up 2
    assert_out_count 2 '^777$'  # that is what a rank has
    local agent rank
    agent=$(node_pids node2 pm-agent) rank=$(rank_pid 1)
    cluster exec node2 cat "/proc/$agent/limits" >limits
    local line
    for line in 'Max cpu time +unlimited ' 'Max file size +unlimited ' 'Max stack size +8388608 ' 'Max core file size +0 ' \
        'Max open files +(65536|([0-9]+) +\2) '; do
        grep -qE "^$line" limits || fail "no line like $line in $(<limits)"
    done
    cluster exec node2 sh -c "grep -E '^(SigBlk|SigIgn|SigCgt|NSsid|NSpgid):' /proc/$agent/status; cut -d' ' -f19 /proc/$agent/stat" >status.agent
    # CHLD is read from a signalfd; HUP INT QUIT USR1 USR2 PIPE ALRM TERM TSTP TTIN TTOU XCPU are ignored; nothing is caught.
    printf 'SigBlk:\t%016x\nSigIgn:\t%016x\nSigCgt:\t%016x\n' $((1 << 16)) \
        $((1 | 1 << 1 | 1 << 2 | 1 << 9 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 19 | 1 << 20 | 1 << 21 | 1 << 23)) 0 >wanted
    grep ^Sig status.agent | diff wanted - >difference || fail "signals of the agent: $(<difference)"
    [[ $(tail -n 1 status.agent) == $(cluster exec node2 cut -d' ' -f19 "/proc/$rank/stat") ]] || fail "the agent is niced: $(<status.agent)"
    # In the task's cgroup, like the rank; in no session of anybody's.
    diff <(cluster exec node2 cat "/proc/$agent/cgroup") <(cluster exec node2 cat "/proc/$rank/cgroup") >difference || fail "cgroups: $(<difference)"
    [[ $(cluster exec node2 ps -o sid= -p "$agent") != $(cluster exec node2 ps -o sid= -p "$rank") ]] || fail "the agent is in the rank's session"
    touch end
    wait_step
    assert_status 0
}
# Slurm and users signal whole steps; what is for the ranks must not end those that look after them.
ours_on() { cluster exec "$1" ps -eo pid=,comm= | awk '$2 ~ /^pm-(janitor|agent|pmix-server)$/ {print $1, $2}'; }
test_agents_and_servers_ignore_signals() {
    supervise_bg --pm-supervise -N2 -n2 "$programs/pmix_probe" init fence say:up "wait-file:$case_dir/go" fence:collect:bytes=100 say:on \
        "@1~1/wait-file:$case_dir/die" @1~1/signal:KILL "wait-file:$case_dir/end" finalize
    local node pid name
    wait_until 15 "2 ranks" sh -c "[ \$(grep -c ' text=up' '$case_dir/out') = 2 ]"
    for node in node1 node2; do
        # The second server of each node is the next epoch's.
        wait_until 15 "both servers of $node" sh -c "[ \$('$dc' --dir '$pm_cluster' exec $node ps -eo comm= | grep -cx pm-pmix-server) = 2 ]"
        ours_on "$node" >"ours.$node"
        while read -r pid name; do
            cluster exec "$node" sh -c "for s in INT TERM HUP USR1 USR2 QUIT ALRM; do kill -\$s $pid; done; grep -E '^Sig(Ign|Cgt)' /proc/$pid/status" >signals </dev/null ||
                fail "$name of $node is gone"
            # HUP INT QUIT USR1 USR2 ALRM TERM
            (((0x$(awk '/^SigIgn/ {print $2}' signals) & 0x6a07) == 0x6a07)) || fail "$name of $node: $(<signals)"
            (((0x$(awk '/^SigCgt/ {print $2}' signals) & 0x6a07) == 0)) || fail "$name of $node: $(<signals)"
        done <"ours.$node"
        [[ $(wc -l <"ours.$node") == 4 ]] || fail "not janitor, agent and two servers: $(<"ours.$node")"
    done
    touch go
    wait_until 15 "a fence after the signals" sh -c "[ \$(grep -c ' text=on' '$case_dir/out') = 2 ]"
    for node in node1 node2; do
        ours_on "$node" | diff "ours.$node" - >difference || fail "not the same processes on $node: $(<difference)"
    done
    # The next epoch's servers are of use, too.
    touch die
    wait_err '^pm-supervise: epoch 1 running'
    touch end
    wait_step
    assert_status 0
    assert_log_count 1 '.kind == "failure"'
    assert_out_count 4 ' text=on'
}
# The folder of the servers is the user's alone, and is gone with the step (the runner looks for that).
test_servers_folder_is_the_users_alone() {
    as_alice_start
    cluster exec node2 sh -c 'stat -c "%a %u %n" $(find /tmp /run -maxdepth 2 -name "pm-supervise.*" 2>/dev/null)' >folders || true
    [[ -s folders ]] || fail "there is no folder of the step on node2"
    ! grep -vE '^700 61001 ' folders || fail "a folder of the step is open to others: $(cat folders)"
    end_alice
}
# slurmd that starts has root remove nothing: each user does, what is their own and belongs to no live step.
test_slurmd_that_starts_sweeps_only_what_is_a_users_own_and_stale() {
    as_alice_start
    cluster exec node2 sh -c 'cd /tmp && ls -d pm-supervise.61001.* >live.0
        mkdir -m 700 pm-supervise.61001.9.0.stale pm-supervise.61001.9.0.bobs kept
        touch pm-supervise.61001.9.0.stale/file kept/file
        ln -s kept pm-supervise.0.9.0.link
        chown -h 61001 pm-supervise.61001.9.0.stale pm-supervise.61001.9.0.stale/file && chown 61002 pm-supervise.61001.9.0.bobs
        p=$(cat /run/slurmd.pid); kill $p; while kill -0 $p 2>/dev/null; do sleep 0.05; done; slurmd'
    wait_until 10 "alice's stale folder to go" sh -c "! '$dc' --dir '$pm_cluster' exec node2 test -e /tmp/pm-supervise.61001.9.0.stale"
    cluster exec node2 sh -c 'cd /tmp && ls -d $(cat live.0) pm-supervise.61001.9.0.bobs kept/file pm-supervise.0.9.0.link
        rm -r live.0 kept pm-supervise.61001.9.0.bobs pm-supervise.0.9.0.link' >kept 2>&1 || fail "too much is gone: $(<kept)"
    [[ $(wc -l <kept) == 4 ]] || fail "what stayed: $(<kept)"
    end_alice
}
# Root's part of the plugin: slurmstepd must be as plain Slurm leaves it. Every user of the node could connect to the socket of
# the shims, and one that connects after the agent's death would wait for an answer: with all shims in, nobody holds it.
test_nobody_holds_the_listener_and_nobody_shows_the_key() {
    start_long
    local node names
    for node in $(nodes); do
        names=$(cluster exec "$node" "$stranger" abstract)
        [[ -z $names ]] || fail "somebody on $node listens on @$names"
    done
    cluster exec node2 sh -c 'for p in $(ps -eo pid=,comm= | awk "\$2 ~ /^slurmstepd/ {print \$1}"); do tr "\0" "\n" </proc/$p/environ; done' >environ
    ! grep -q SLURM_PM_STEP environ || fail "internals in slurmstepd's environment"
    end_undisturbed
}
# Logs, and what --pm-health writes, are as open as the user's other files.
test_logs_and_health_programs_have_the_umask_of_the_job() {
    mkdir -p nodes && chmod 1777 nodes
    printf '#!/bin/sh\numask >%s/umask.$$\n' "$case_dir" >health && chmod 755 health
    local mask
    for mask in 077 027; do
        run sh -c "umask $mask; exec srun ${log_options[*]} --pm-supervise --pm-health=$case_dir/health -N2 -n2 sh -c 'umask; [ \$PM_EPOCH.\$SLURM_PROCID != 0.1 ] || exit 7'"
        assert_status 0
        [[ $(sort -u out) == "0$mask" ]] || fail "ranks have $(<out)"
        [[ $(cat umask.* | sort -u) == "0$mask" ]] || fail "programs of --pm-health have $(cat umask.*)"
        [[ $(stat -c %a log.*.json nodes/* | sort -u) == $(printf %o $((0666 & ~mask))) ]] || fail "modes: $(stat -c '%a %n' log.*.json nodes/*)"
        assert_invariants
        rm -rf log.* nodes/* umask.*
    done
}
