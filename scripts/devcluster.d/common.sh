# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034  # the other parts use what is set here
#
# What every part of devcluster shares: one-sentence errors, the layout of a cluster's folder, and records of
# processes. A process is only ever ended when its recorded pid *and* start time still match, so a pid that
# the kernel has given to somebody else is never touched.
#
# Layout of a cluster's folder $DIR (all of it is removed by `down`, and nothing else):
#   cluster/   what `up` decided: settings, shared paths, cgroup mounts; `stopping` while `down` works
#   etc/       slurm/, munge/, hosts, passwd, group: bound over the files of the same name on every host
#   hosts/H/   init (record of H's process 1), boot.log, root/ (H's own /tmp and /run), killed (when kill-node was)
#   log/       one file per daemon    state/  slurmctld's state    home/  the test users' homes
#   share/     the same folder on every host, writable for everyone

readonly ENTRIES=(cluster etc hosts log state home share)
readonly SLURM_CONF_IN_HOST=/etc/slurm/slurm.conf
readonly DAEMON_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() { printf 'devcluster: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Settings of the running cluster: NODES, WIDE ('' on the site flavour), CLUSTER_ID.
load_cluster() {
    [[ -e $DIR/cluster/settings ]] || die "no cluster in $DIR (start one with: devcluster up N)"
    # shellcheck source=/dev/null
    source "$DIR/cluster/settings"
}

is_stopping() { [[ -e $DIR/cluster/stopping ]]; }

flavour() { if [[ $WIDE ]]; then echo "wide, $WIDE cores"; else echo site; fi; }

node_names() { local i; for ((i = 1; i <= NODES; i++)); do echo "node$i"; done; }

require_host() {
    local host=$1 n
    [[ $host == login ]] && return
    if [[ $host =~ ^node([1-9][0-9]*)$ ]]; then
        n=${BASH_REMATCH[1]}
        ((n <= NODES)) && return
    fi
    die "there is no host '$host' here: hosts are login and node1 to node$NODES"
}

# login is .0.1, node i is the (i+1)th address; the network exists only inside the cluster's namespaces.
host_address() {
    local i=0
    [[ $1 == login ]] || i=${1#node}
    echo "10.99.$((i / 250)).$((i % 250 + 1))"
}

# Start time of a process in clock ticks since boot (field 22 of stat; the name may contain blanks).
start_time() {
    local stat fields
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
    read -ra fields <<<"${stat##*) }"
    echo "${fields[19]}"
}

# Pid of a host's process 1 as seen from here; fails if it does not run (any more).
host_pid() {
    local pid started
    read -r pid started 2>/dev/null <"$DIR/hosts/$1/init" || return 1
    [[ $(start_time "$pid") == "$started" ]] || return 1
    echo "$pid"
}

live_pid() { host_pid "$1" || die "$1 is not running (boot it with: devcluster revive $1)"; }

# Closes everything but 0-2, so that daemons hold none of the caller's pipes (bats waits for its fd 3).
close_fds() {
    local fd
    for fd in "/proc/$BASHPID/fd/"*; do
        fd=${fd##*/}
        ((fd > 2 && fd != 255)) && eval "exec $fd>&-"
    done
    return 0
}
