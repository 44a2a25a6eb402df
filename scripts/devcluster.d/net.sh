# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# The cluster's network: one bridge in a network namespace of its own (the "switch"), one veth pair per host,
# named after the host on the switch's side and eth0 on the host's. Nothing appears in the machine's own
# network namespace, so clusters cannot collide and the kernel removes everything with the namespaces.

in_switch() {
    local pid
    pid=$(host_pid switch) || { say "the switch of this cluster is gone: run devcluster down"; return 1; }
    nsenter --net="/proc/$pid/ns/net" "$@"
}

# Always the same for a host, as with a real card: after a reboot the peers' ARP caches are still right.
host_mac() {
    local bytes
    IFS=. read -ra bytes <<<"$(host_address "$1")"
    printf '02:00:%02x:%02x:%02x:%02x' "${bytes[@]}"
}

# A port of the same name can still be there for a moment after a host was killed.
plug() {
    local host=$1 pid=$2
    in_switch ip link del "$host" 2>/dev/null
    heal_one_way "$host"
    in_switch ip -batch - <<-BATCH || return 1
	link add $host type veth peer name eth0 address $(host_mac "$host") netns $pid
	link set $host master br0 up
	BATCH
    nsenter --net="/proc/$pid/ns/net" ip -batch - <<-BATCH
	link set lo up
	address add $(host_address "$host")/16 dev eth0
	link set eth0 up
	BATCH
}

# The port stops forwarding but keeps its carrier: nobody is told anything, packets just vanish.
cut_link() { in_switch bridge link set dev "$1" state 0; }
heal_link() { in_switch bridge link set dev "$1" state 3 && heal_one_way "$1"; }

# cut_one_way HOST in|out: only what the host is sent vanishes, or only what it sends. A table of its own for each
# host, so that healing it is one command.
cut_one_way() {
    local port=iifname
    [[ $2 == out ]] || port=oifname
    in_switch nft -f - <<-RULES
	table bridge cut-$1 {
	    chain forward {
	        type filter hook forward priority 0
	        $port "$1" drop
	    }
	}
	RULES
}

is_cut_one_way() { in_switch nft list table bridge "cut-$1" >/dev/null 2>&1; }
heal_one_way() { ! is_cut_one_way "$1" || in_switch nft delete table bridge "cut-$1"; }

link_state() {
    case $(in_switch bridge link show dev "$1" 2>/dev/null) in
        *state\ forwarding*) if is_cut_one_way "$1"; then echo one-way; else echo up; fi ;;
        *state\ *) echo cut ;;
        *) echo - ;;
    esac
}
