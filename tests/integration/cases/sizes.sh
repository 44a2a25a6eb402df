# SPDX-License-Identifier: Apache-2.0
# cluster: site 3 --gpus 4
#
# Spares with fewer GPUs than nodes that they may have to replace. --gpus=6 on three nodes gives 4, 1 and 1 of them.
#
# shellcheck shell=bash disable=SC2154

ranks_started() { [[ $(grep -c '^fault: start' out) == "$1" ]]; }
starts_unlike() {
    supervise_bg --pm-supervise --pm-spares=1 --pm-node-timeout=2s --pm-grace=1s -N3 -n6 --gpus=6 "$programs/fault" --run 4000
    wait_until 15 "4 ranks" ranks_started 4
    wait_running
    # shellcheck disable=SC2046  # pids are words
    cluster exec "$1" kill -KILL $(node_pids "$1" pm-agent)
    wait_step
}

test_a_node_with_as_few_gpus_moves_to_the_spare() {
    starts_unlike node2
    assert_status 0
    assert_log '.kind == "move" and .node == 1 and .spare == 2'
}

test_a_node_with_more_gpus_stops_the_step() {
    starts_unlike node1
    assert_status 1
    assert_err '^pm-supervise: node1 lost its agent .*; stopping: no spare that is left has as many GPUs and as much memory$'
    assert_log_count 0 '.kind == "move"'
}

test_a_spare_that_can_replace_nobody_is_refused_with_what_it_lacks() {
    supervise --pm-supervise --pm-spares=1 -N2 -n4 --gpus=5 --mem=200 "$programs/fault" --run 100
    assert_status 125
    assert_err '^pm-supervise: spare node2 can take nobody.s place: it offers 1 GPU and 200 MiB, and the smallest of the other nodes, node1, has 4 GPUs and 200 MiB: '
    assert_out_count 0 .
}
