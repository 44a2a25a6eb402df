# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Writes a cluster's configuration. Two flavours: "site" is what production runs (cgroup tracking and
# constraints, the machine's real CPUs), "wide" pretends to have $WIDE cores per node and constrains nothing.

readonly SITE_MEMORY_MB=2048

config_common() {
    cat <<-CONF
	ClusterName=pm$CLUSTER_ID
	SlurmctldHost=login
	SlurmUser=root
	AuthType=auth/munge
	CredType=cred/munge
	StateSaveLocation=$DIR/state
	SlurmdSpoolDir=/run/slurmd
	SlurmctldPidFile=/run/slurmctld.pid
	SlurmdPidFile=/run/slurmd.pid
	SlurmctldLogFile=$DIR/log/slurmctld.log
	SlurmdLogFile=$DIR/log/%n.log
	SlurmctldDebug=info
	SlurmdDebug=info
	LogTimeFormat=iso8601_ms
	PlugStackConfig=/etc/slurm/plugstack.conf
	MailProg=/bin/true
	MpiDefault=none
	SwitchType=switch/none
	AccountingStorageType=accounting_storage/none
	JobCompType=jobcomp/none
	SchedulerType=sched/backfill
	SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
	SelectType=select/cons_tres
	ReturnToService=2
	SlurmctldTimeout=120
	SlurmdTimeout=300
	InactiveLimit=0
	MessageTimeout=10
	KillWait=5
	CONF
}

config_site() {
    local memory hardware
    memory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
    ((memory = memory < SITE_MEMORY_MB ? memory : SITE_MEMORY_MB))
    hardware=$(SLURM_CONF=/dev/null slurmd -C 2>/dev/null | grep -o 'CPUs=.* RealMemory' | sed 's/ RealMemory//')
    [[ $hardware ]] || die "cannot find out the machine's CPUs: 'slurmd -C' printed none"
    cat <<-CONF
	ProctrackType=proctrack/cgroup
	TaskPlugin=task/cgroup,task/affinity
	JobAcctGatherType=jobacct_gather/cgroup
	SelectTypeParameters=CR_Core_Memory
	DefMemPerNode=$((memory / 2))
	NodeName=node[1-$NODES] $hardware RealMemory=$memory State=UNKNOWN${GPUS:+ Gres=gpu:$GPUS}
	CONF
}

config_wide() {
    cat <<-CONF
	ProctrackType=proctrack/linuxproc
	TaskPlugin=task/affinity
	TaskPluginParam=None
	JobAcctGatherType=jobacct_gather/none
	SelectTypeParameters=CR_Core
	SlurmdParameters=config_overrides
	NodeName=node[1-$NODES] CPUs=$WIDE Sockets=1 CoresPerSocket=$WIDE ThreadsPerCore=1 RealMemory=4096 State=UNKNOWN${GPUS:+ Gres=gpu:$GPUS}
	CONF
}

# The user's own lines replace ours of the same name: Slurm complains on every command about one given twice.
config_extra() {
    local line file=$1
    for line in "${EXTRA_CONF[@]}"; do
        case ${line%%=*} in NodeName | PartitionName | DownNodes) ;; *) sed -i "/^${line%%=*}=/Id" "$file" ;; esac
        echo "$line" >>"$file"
    done
}

write_slurm_conf() {
    local file=$DIR/etc/slurm/slurm.conf
    { config_common && if [[ $WIDE ]]; then config_wide; else config_site; fi; } >"$file" || exit 1
    echo "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO" >>"$file"
    config_extra "$file"
}

write_cgroup_conf() {
    [[ ! $WIDE ]] || { echo "CgroupPlugin=cgroup/v1" >"$DIR/etc/slurm/cgroup.conf"; return; }
    cat >"$DIR/etc/slurm/cgroup.conf" <<-CONF
	CgroupPlugin=cgroup/v1
	CgroupMountpoint=/sys/fs/cgroup
	CgroupAutomount=no
	ConstrainCores=yes
	ConstrainDevices=yes
	ConstrainRAMSpace=yes
	CONF
    # With swap a task over its memory would crawl instead of being killed.
    [[ -z $(swapon --show 2>/dev/null) ]] ||
        printf 'ConstrainSwapSpace=yes\nAllowedSwapSpace=0\n' >>"$DIR/etc/slurm/cgroup.conf"
}

write_topology_conf() {
    local first last=0 rack=0
    [[ $RACKS ]] || return 0
    for ((first = 1; first <= NODES; first += RACKS)); do
        rack=$((rack + 1)) last=$((first + RACKS - 1))
        echo "SwitchName=rack$rack Nodes=node[$first-$((last < NODES ? last : NODES))]"
    done >"$DIR/etc/slurm/topology.conf"
    echo "SwitchName=top Switches=rack[1-$rack]" >>"$DIR/etc/slurm/topology.conf"
}

# Any device file will do for Slurm: it hands out numbers, and with cgroups who may open the files.
write_gres_conf() {
    [[ $GPUS ]] || return 0
    echo "GresTypes=gpu" >>"$DIR/etc/slurm/slurm.conf"
    echo "Name=gpu File=/dev/tty[40-$((39 + GPUS))]" >"$DIR/etc/slurm/gres.conf"
}

write_plugstack() {
    echo "# this node runs without the plugin" >"$DIR/etc/plugstack-none.conf"
    { echo "# written by devcluster"; [[ ! $PLUGIN ]] || echo "optional $PLUGIN $PLUGIN_ARGS"; } \
        >"$DIR/etc/slurm/plugstack.conf"
}

write_hosts() {
    local host
    echo "127.0.0.1 localhost"
    for host in login $(node_names); do
        echo "$(host_address "$host") $host"
    done
}

# Two unprivileged users that exist only inside the cluster; the machine's user database is not touched.
write_users() {
    local user uid=61001
    cp /etc/passwd /etc/group "$DIR/etc/" && chmod 644 "$DIR/etc/passwd" "$DIR/etc/group" || return 1
    for user in alice bob; do
        if ! grep -q "^$user:" "$DIR/etc/passwd"; then
            echo "$user:x:$uid:$uid::$DIR/home/$user:/bin/bash" >>"$DIR/etc/passwd"
            echo "$user:x:$uid:" >>"$DIR/etc/group"
            mkdir -p "$DIR/home/$user" && chown "$uid:$uid" "$DIR/home/$user" || return 1
        fi
        uid=$((uid + 1))
    done
}

write_munge_key() {
    (umask 077 && mkdir -p "$DIR/etc/munge" && head -c 128 /dev/urandom >"$DIR/etc/munge/munge.key")
}

write_config() {
    mkdir -p "$DIR"/{etc/slurm,log,state,home,share} && chmod 1777 "$DIR/share" &&
        write_munge_key && write_users && write_hosts >"$DIR/etc/hosts" && write_plugstack && write_cgroup_conf && write_topology_conf &&
        write_slurm_conf && write_gres_conf
}
