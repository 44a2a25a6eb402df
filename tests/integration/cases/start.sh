# SPDX-License-Identifier: Apache-2.0
# cluster: site 4 --no-plugin-on node4
#
# Supervision that cannot start says why, in one line, with status 125, in bounded time, and drains nothing. node4 has
# no plugin, so steps that are to start name the other three.
#
# What is wrong with a node is done in that node's own mount or network namespace and undone at the end of the case.
#
# shellcheck shell=bash disable=SC2154,SC2016

readonly stranger=$pm_root/tests/integration/port_probe
readonly three=(-w 'node[1-3]' -N3)
plugin_file() { find "$pm_prefix" -name pm_supervise.so | head -n 1; }
libexec_dir() { find "$pm_prefix" -type d -path '*libexec/pm-supervise' | head -n 1; }

cannot_start() {
    assert_status 125
    ! grep -q '^fault: start' out || fail "a rank was started"
    assert_log_count 0 '.kind == "decision" and (.action | startswith("restart"))'
}
ended_within() { ((SECONDS - began <= $1)) || fail "it took $((SECONDS - began)) s to say so"; }
began=0

# --- a node without the plugin ---------------------------------------------------------------------------------

# Slurm starts the program there without us and says nothing.
test_node_without_the_plugin_is_named_and_the_step_killed() {
    supervise --pm-supervise --pm-join-window=7s -N4 -n8 "$programs/fault" --run 60000
    assert_status 125
    assert_err '^pm-supervise: node4 has not joined: is pm_supervise in its plugstack.conf, and can it reach (login|10\.[0-9.]+):[0-9]+\?'
    assert_err '^pm-supervise: .*node4.*unsupervised'
    refute_err 'node[123] has not joined'
    ended_within 25
}

# --- a node whose programs are missing or of another build -------------------------------------------------------

# The folder of our programs is empty on node3.
test_missing_libexec_folder_is_one_clear_line() {
    trap 'cluster exec node3 umount "$(libexec_dir)"' EXIT
    cluster exec node3 mount -t tmpfs none "$(libexec_dir)"
    supervise --pm-supervise "${three[@]}" -n6 "$programs/fault" --run 60000
    cannot_start
    assert_err '^pm-supervise: node3: cannot start the agent: .*libexec/pm-supervise/pm-agent'
    [[ $(grep -c 'cannot start the agent' err) == 1 ]] || fail "said more than once"
    ended_within 25
}

# The folder is empty where srun runs: nobody else notices.
test_missing_coordinator_is_said_before_anything_is_allocated() {
    trap 'cluster exec login umount "$(libexec_dir)"' EXIT
    cluster exec login mount -t tmpfs none "$(libexec_dir)"
    supervise --pm-supervise "${three[@]}" -n6 "$programs/fault" --run 60000
    cannot_start
    assert_err '^pm-supervise: cannot start .*/libexec/pm-supervise/pm-coordinator: No such file or directory; is pm-supervise installed on this host, or libexec= missing in plugstack.conf\?$'
    [[ $(wc -l <err) == 1 ]] || fail "said in more than one line"
    [[ -z $(cluster run squeue -h) ]] || fail "something was allocated"
    run srun "${three[@]}" -n3 echo ran
    assert_status 0
    assert_out_count 3 '^ran$'
    [[ ! -s err ]] || fail "plain srun is told of it"
}

readonly version=$(sed -n 's/^#define PM_VERSION "\(.*\)"$/\1/p' "$pm_build/pm_config.h")
readonly other_version=$(tr 0-9 9876543210 <<<"$version")
# A copy of a file of ours that says it is of another version.
other_build() {
    /usr/bin/python3 - "$1" "$2" "$version" "$other_version" <<'PYTHON'
import re, sys
source, target, ours, other = sys.argv[1:]
data = open(source, "rb").read()
changed = re.sub(rb"(?<![0-9.])" + re.escape(ours.encode()) + rb"\x00", other.encode() + b"\0", data)
assert changed != data, "no version in " + source
open(target, "wb").write(changed)
PYTHON
    chmod 755 "$2"
}
# replaced_on NODE FILE: this file is of another build there; until the case ends.
replaced_on() {
    other_build "$2" "$case_dir/${2##*/}.other"
    cluster exec "$1" mount --bind "$case_dir/${2##*/}.other" "$2"
    replaced+=("$1 $2")
}
replaced=()
put_back() {
    local entry
    for entry in "${replaced[@]}"; do cluster exec "${entry%% *}" umount "${entry#* }"; done
    replaced=()
}
refused_by_version() {
    cannot_start
    assert_err "^pm-supervise: .*(${version//./\\.}.*${other_version//./\\.}|${other_version//./\\.}.*${version//./\\.})"
    put_back
    rm -rf log.* nodes
}
# Steps of the one node: with others that do nothing wrong, srun waits ten seconds before it ends them.
test_other_builds_refuse_each_other_with_both_versions_named() {
    trap put_back EXIT
    local step=(--pm-supervise -w node1 -N1 -n2 "$programs/fault" --run 60000)
    # The plugin, and with it the shim: against the coordinator.
    replaced_on node1 "$(plugin_file)"
    supervise "${step[@]}"
    refused_by_version
    replaced_on node1 "$(libexec_dir)/pm-agent"
    supervise "${step[@]}"
    refused_by_version
    # The coordinator: against the plugin in srun.
    replaced_on login "$(libexec_dir)/pm-coordinator"
    supervise "${step[@]}"
    refused_by_version
    # pm-shim as a program, which Slurm >= 23.11 runs: against its agent.
    replaced_on node1 "$(libexec_dir)/pm-shim"
    status=0
    timeout -k 5 "$step_timeout" "$dc" --dir "$pm_cluster" exec node1 "$pm_root/tests/integration/direct_step" start "$(libexec_dir)" \
        supervise=world -n 2 "$programs/fault" --run 60000 >out 2>err </dev/null || status=$?
    refused_by_version
    ended_within 25
}

# --- ports -------------------------------------------------------------------------------------------------------

# hold HOST RANGE: somebody else has these ports until the case ends.
holders=()
hold() {
    "$dc" --dir "$pm_cluster" exec "$1" "$stranger" hold "$2" >"holding.$1" 2>&1 &
    holders+=($!)
    wait_until 10 "ports $2 of $1 to be taken" grep -q holding "holding.$1"
}
let_go() { ((${#holders[@]} == 0)) || kill "${holders[@]}" 2>/dev/null; wait "${holders[@]}" 2>/dev/null || true; holders=(); }

test_one_port_is_enough_if_it_is_free() {
    supervise --pm-supervise --pm-port-range=42100-42100 "${three[@]}" -n6 "$programs/fault" --rank 3 --after 100 --exit 7 --run 300
    assert_status 0
    assert_out_count 12 '^fault: start'
    assert_decided restart-world exit 'rank 3 .*; restarting 6 ranks on 3 nodes \(restart 1 of 3\)$'
}
# listeners LOW HIGH: all ports on which the coordinator and the agents listen are from there.
listeners() {
    local host program port
    for host in login node1 node2 node3; do
        program=pm-agent
        [[ $host != login ]] || program=pm-coordinator
        port=$(cluster exec "$host" "$stranger" listeners "$program")
        [[ $port ]] || fail "$program of $host listens on no port"
        while read -r port; do
            (($1 <= port && port <= $2)) || fail "$program of $host listens on $port, not between $1 and $2"
        done <<<"$port"
    done
}
listening_step() {
    supervise_bg --pm-supervise "$@" "${three[@]}" -n6 "$programs/fault" --run 60000 --wait-file "$case_dir/end" --all-ranks --exit 0
    wait_until 15 "6 ranks" sh -c "[ \$(grep -c '^fault: start' '$case_dir/out') = 6 ]"
}
step_ends() {
    touch end
    wait_step
    assert_status 0
    assert_log_count 0 '.kind == "failure" or .kind == "decision"'
    assert_invariants
    rm -rf log.* nodes end out
}
# Sites set SrunPortRange where packets between login hosts and nodes are filtered; plugstack.conf and users may say otherwise.
test_ports_are_those_of_the_site_unless_somebody_says_otherwise() {
    cluster exec login cat /etc/slurm/slurm.conf >slurm.conf
    echo 'SrunPortRange=42800-42899' >>slurm.conf
    trap 'cluster exec login umount /etc/slurm/slurm.conf; cluster exec login umount /etc/slurm/plugstack.conf' EXIT
    cluster exec login mount --bind "$case_dir/slurm.conf" /etc/slurm/slurm.conf
    listening_step
    listeners 42800 42899
    step_ends
    listening_step --pm-port-range=42900-42909
    listeners 42900 42909
    step_ends
    cluster exec login cat /etc/slurm/plugstack.conf | sed "s|pm_supervise.so.*|& port-range=42910-42919|" >plugstack
    cluster exec login mount --bind "$case_dir/plugstack" /etc/slurm/plugstack.conf
    listening_step
    listeners 42910 42919
    step_ends
}
test_no_free_port_for_the_coordinator_is_said_before_anything_is_allocated() {
    trap let_go EXIT
    hold login 42200-42203
    supervise --pm-supervise --pm-port-range=42200-42203 "${three[@]}" -n6 "$programs/fault" --run 60000
    assert_status 125
    assert_err '^pm-supervise: .*port.*42200-42203'
    ! compgen -G 'log.*.json' || fail "a step was made"
    ended_within 10
}
test_no_free_port_for_an_agent_names_node_and_range() {
    trap let_go EXIT
    hold node2 42300-42303
    supervise --pm-supervise --pm-port-range=42300-42303 "${three[@]}" -n6 "$programs/fault" --run 60000
    cannot_start
    assert_err '^pm-supervise: node2.*port.*42300-42303'
    ended_within 25
}

# --- the network ---------------------------------------------------------------------------------------------------

# firewall RANGE NODE...: packets of these nodes to login's ports vanish; Slurm's own are let through.
firewalled=()
firewall() {
    local node
    for node in "${@:2}"; do
        cluster exec "$node" nft "add table inet pm_case; add chain inet pm_case out { type filter hook output priority 0; };
            add rule inet pm_case out ip daddr 10.99.0.1 tcp dport $1 drop"
        firewalled+=("$node")
    done
}
open_up() {
    local node
    for node in "${firewalled[@]}"; do cluster exec "$node" nft delete table inet pm_case; done
    firewalled=()
}
test_join_error_names_address_and_port() {
    trap open_up EXIT
    firewall 42400-42401 node2
    supervise --pm-supervise --pm-join-window=7s --pm-port-range=42400-42401 "${three[@]}" -n6 "$programs/fault" --run 60000
    cannot_start
    assert_err '^pm-supervise: node2 has not joined: .*(login|10\.99\.0\.1):4240[01]'
    refute_err 'node[13] has not joined'
    ended_within 25
}
test_start_timeout_ends_a_step_that_nobody_joins() {
    trap open_up EXIT
    firewall 42500-42501 node1 node2 node3
    supervise --pm-supervise --pm-start-timeout=4s --pm-port-range=42500-42501 "${three[@]}" -n6 "$programs/fault" --run 60000
    cannot_start
    assert_err '^pm-supervise: no node has joined within 4 s of the launch: .*(login|10\.99\.0\.1):4250[01]'
    ended_within 25
}
# The nodes get no answer from the address that Slurm's own names lead to, but from another one.
test_every_address_of_the_coordinators_host_is_tried() {
    local node
    trap 'open_up; cluster exec login ip addr del 198.51.100.7/32 dev eth0' EXIT
    cluster exec login ip addr add 198.51.100.7/32 dev eth0
    for node in node1 node2 node3; do
        cluster exec "$node" ip route replace 198.51.100.7/32 via 10.99.0.1
    done
    firewall 42700-42701 node1 node2 node3
    supervise --pm-supervise --pm-port-range=42700-42701 "${three[@]}" -n6 "$programs/fault" --rank 3 --after 100 --exit 7 --run 300
    for node in node1 node2 node3; do cluster exec "$node" ip route del 198.51.100.7/32; done
    assert_status 0
    assert_out_count 12 '^fault: start'
    assert_decided restart-world exit 'rank 3 .*; restarting 6 ranks on 3 nodes \(restart 1 of 3\)$'
}
# The other nodes' ports are closed to node2, so it cannot dial its parent and asks the coordinator.
test_agent_that_cannot_reach_its_parent_joins_by_another_way() {
    trap open_up EXIT
    cluster exec node3 nft "add table inet pm_case; add chain inet pm_case out { type filter hook output priority 0; };
        add rule inet pm_case out ip daddr != 10.99.0.1 tcp dport 42600-42607 drop"
    firewalled+=(node3)
    supervise --pm-supervise --pm-fanout=2 --pm-port-range=42600-42607 "${three[@]}" -n6 "$programs/fault" --rank 5 --after 100 --exit 7 --run 300
    assert_status 0
    assert_out_count 12 '^fault: start'
    assert_decided restart-world exit 'rank 5 .*; restarting 6 ranks on 3 nodes \(restart 1 of 3\)$'
}
