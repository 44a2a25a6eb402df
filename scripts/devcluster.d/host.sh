# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Boots and kills hosts. A host is its process 1 (devcluster.d/init) with the namespaces that this holds;
# daemons are sent into them. Functions return nonzero after they have said one sentence.

readonly HOST_NAMESPACES=(--net --uts --mount --pid --ipc --cgroup)

# Runs a program as a daemon of the host: clean environment, default signals, in the host's cgroups.
as_daemon() {
    local host=$1 pid
    shift
    pid=$(host_pid "$host") || { say "$host went away while it was booting"; return 1; }
    (
        close_fds
        cgroup_enter "$host" || exit 1
        # What Debian's units give the daemons; a container may not allow it.
        ulimit -n 131072 2>/dev/null
        ulimit -l unlimited 2>/dev/null
        exec nsenter --target "$pid" "${HOST_NAMESPACES[@]}" -- \
            env -i --default-signal PATH="$DAEMON_PATH" LANG=C.UTF-8 "$@"
    ) </dev/null >>"$DIR/hosts/$host/boot.log" 2>&1 && return
    say "$host: cannot start ${1##*/}: $(tail -n 1 "$DIR/hosts/$host/boot.log")"
    return 1
}

# Starts process 1 in new namespaces and waits for its word. A host that comes back has its /tmp, which is on disk, and a
# new /run.
start_init() {
    local host=$1 role=$2 fd word='no answer within 15 s'
    is_stopping && { say "$host: not booted, the cluster is being taken down"; return 1; }
    rm -rf --one-file-system "$DIR/hosts/$host"/{init,root/run} && mkdir -p "$DIR/hosts/$host"
    [[ $role != node || $WIDE ]] || cgroup_create "$host" || { say "$host: cannot make its cgroups"; return 1; }
    exec {fd}< <(
        close_fds
        cgroup_enter "$host" || exit 1
        exec setsid env -i --default-signal PATH="$DAEMON_PATH" LANG=C.UTF-8 \
            unshare --fork --propagation private "${HOST_NAMESPACES[@]}" "$LIB/init" "$DIR" "$host" "$role" \
            </dev/null 2>>"$DIR/hosts/$host/boot.log"
    )
    read -r -t 15 word <&"$fd" || [[ $word ]] ||
        word="its process 1 ended at once: $(tail -n 1 "$DIR/hosts/$host/boot.log")"
    exec {fd}<&-
    [[ $word == ready ]] && return
    say "$host: cannot boot: $word"
    return 1
}

start_munged() {
    as_daemon "$1" munged --key-file="$DIR/etc/munge/munge.key" --log-file="$DIR/log/munged.$1.log" \
        --pid-file=/run/munge/munged.pid --seed-file=/run/munge/munged.seed
}

# Everything but the Slurm daemon: namespaces, network, authentication.
boot_base() {
    local host=$1 role=node pid
    [[ $host != login ]] || role=login
    start_init "$host" "$role" || return 1
    pid=$(host_pid "$host") || { say "$host went away while it was booting"; return 1; }
    plug "$host" "$pid" || { say "$host: cannot connect it to the switch"; return 1; }
    start_munged "$host"
}

start_slurm() {
    if [[ $1 == login ]]; then
        as_daemon login slurmctld && wait_for_controller
    else
        as_daemon "$1" slurmd "${@:2}"
    fi
}

# Slurm's own commands, run on the login host without a /proc of their own (see run.sh for users' commands).
slurm() {
    local pid
    pid=$(host_pid login) || return 1
    SLURM_CONF=$SLURM_CONF_IN_HOST SLURM_TIME_FORMAT=%s \
        nsenter --target "$pid" --net --uts --mount -- timeout 10 "$@" 2>/dev/null
}

wait_for_controller() {
    local pid try
    pid=$(live_pid login) || return 1
    for ((try = 0; try < 200; try++)); do
        nsenter --net="/proc/$pid/ns/net" bash -c ': </dev/tcp/10.99.0.1/6817' 2>/dev/null && return
        sleep 0.05
    done
    say "slurmctld does not answer after 10 s: see $DIR/log/slurmctld.log"
    return 1
}

# Ends a host: its process 1, and with it every process of its PID namespace.
kill_host() {
    local host=$1 pid try
    if pid=$(host_pid "$host"); then
        kill -KILL "$pid" 2>/dev/null
        for ((try = 0; try < 200; try++)); do
            host_pid "$host" >/dev/null || break
            cgroup_thaw "$host"
            sleep 0.05
        done
        host_pid "$host" >/dev/null && { say "$host: pid $pid does not die"; return 1; }
    fi
    rm -f "$DIR/hosts/$host/init"
    cgroup_remove "$host"
}

hosts_on_disk() { local d; for d in "$DIR"/hosts/*/; do [[ -d $d ]] && basename "$d"; done; }
