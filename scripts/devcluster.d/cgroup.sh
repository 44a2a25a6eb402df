# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The site flavour's cgroups (v1): for every mounted hierarchy that Slurm uses, a folder per node below
# pm-devcluster-ID. The node's init binds its folder over the hierarchy's mount point, so that its slurmd
# believes it owns the machine's whole hierarchy. All of it is empty and removable once the node is dead.

readonly CGROUP_NEEDED=(cpuset memory devices freezer cpuacct)

# Prints the mount points of the v1 hierarchies that Slurm needs; fails, naming one, if one is missing.
cgroup_mounts() {
    local controller mount
    for controller in "${CGROUP_NEEDED[@]}"; do
        mount=$(awk -v c="$controller" '$3 == "cgroup" && ("," $4 ",") ~ ("," c ",") { print $2; exit }' \
            /proc/self/mounts)
        [[ $mount ]] || { echo "$controller"; return 1; }
        echo "$mount"
    done | sort -u
    return "${PIPESTATUS[0]}"
}

cgroup_of() { echo "$1/pm-devcluster-$CLUSTER_ID"; }

# Makes a host's folders. A cpuset takes no process before it has CPUs and memory nodes.
cgroup_create() {
    local mount top folder
    while read -r mount; do
        top=$(cgroup_of "$mount")
        mkdir -p "$top/$1" || return 1
        [[ -e $top/cpuset.cpus ]] || continue
        for folder in "$top" "$top/$1"; do
            cat "${folder%/*}/cpuset.cpus" >"$folder/cpuset.cpus" || return 1
            cat "${folder%/*}/cpuset.mems" >"$folder/cpuset.mems" || return 1
        done
    done <"$DIR/cluster/cgroups"
}

# Moves the calling shell into a host's folders; no-op for hosts without (wide flavour, login, switch).
cgroup_enter() {
    local mount
    while read -r mount; do
        [[ -d $(cgroup_of "$mount")/$1 ]] || continue
        echo "$BASHPID" >"$(cgroup_of "$mount")/$1/cgroup.procs" || return 1
    done <"$DIR/cluster/cgroups"
}

# Every process of a host at once stops, or goes on (THAWED). The state that Slurm gives a job below is kept.
cgroup_freeze() {
    local host=$1 state=$2 mount folder try
    while read -r mount; do
        folder=$(cgroup_of "$mount")/$host
        [[ -e $folder/freezer.state ]] || continue
        for ((try = 0; try < 100; try++)); do
            echo "$state" >"$folder/freezer.state" || return 1
            [[ $(<"$folder/freezer.state") != "$state" ]] || return 0
            sleep 0.02
        done
    done <"$DIR/cluster/cgroups"
    return 1
}

# A frozen process does not die by SIGKILL before it is thawed (suspended jobs).
cgroup_thaw() {
    local mount
    while read -r mount; do
        find "$(cgroup_of "$mount")/$1" -name freezer.state \
            -exec sh -c 'for f; do echo THAWED >"$f"; done' sh {} + 2>/dev/null
    done <"$DIR/cluster/cgroups"
    return 0
}

# Removes a host's folders (of all hosts with '.'). The kernel needs a moment after the last process.
cgroup_remove() {
    local mount folder try
    while read -r mount; do
        folder=$(realpath -m "$(cgroup_of "$mount")/$1")
        for ((try = 0; try < 100; try++)); do
            [[ -d $folder ]] || continue 2
            find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null
            [[ -d $folder ]] && sleep 0.05
        done
        say "cannot remove $folder: processes of this cluster are still in it"
        return 1
    done <"$DIR/cluster/cgroups"
}
