# SPDX-License-Identifier: Apache-2.0
# cluster: wide:8 16
#
# A deep tree: 16 nodes below a fan-out of 2 are four levels.
#
# shellcheck shell=bash disable=SC2154

deep() { supervise "$1" --pm-fanout=2 --cpu-bind=none -N16 -n64 "${@:2}"; }

test_form_fail_restart_and_end_on_a_deep_tree() {
    deep --pm-supervise "$programs/fault" --rank 37,63 --after 300 --exit 7 --run 600
    assert_status 0
    assert_out_count 128 '^fault: start'
    assert_decided restart-world exit 'rank (37|63) .* exited with code 7.*; restarting 64 ranks on 16 nodes \(restart 1 of 3\)$'
    assert_log_count 1 '.kind == "decision" and .action == "restart-world"'
}
test_rank_restarts_alone_on_a_deep_tree() {
    deep --pm-supervise=rank "$programs/fault" --rank 62 --after 300 --exit 7 --run 900
    assert_status 0
    assert_out_count 65 '^fault: start'
    assert_decided restart-rank exit 'rank 62 .* exited with code 7.*; restarting this rank \(restart 1 of 3\)$'
}
test_fences_on_a_deep_tree() {
    deep --pm-supervise "$programs/pmix_probe" init fence:rounds=5 fence:collect:bytes=1024 fence:late=63:late-ms=300 \
        fence:ranks=0,31,62:collect:bytes=100:late=62:late-ms=300 fence:ranks=5-9,33:rounds=4 \
        fence finalize
    assert_status 0
    "$pm_root/tests/integration/probe_lines" fences 13 <out >verdict || fail "$(cat verdict)"
}
# An inner node of the tree: its children find another parent; the step stops for the lost agent, not for them.
test_loss_of_an_inner_agent_is_that_agents_alone() {
    supervise_bg --pm-supervise --pm-fanout=2 --pm-node-timeout=4s --cpu-bind=none -N16 -n16 "$programs/fault" --run 60000
    wait_until 20 "16 ranks" sh -c "[ \$(grep -c '^fault: start' '$case_dir/out') = 16 ]"
    cluster exec node1 kill -KILL "$(node_pids node1 pm-agent)"
    wait_step
    assert_status 1
    assert_decided stop agent-lost 'node1 lost its agent \(agent-lost\).*; stopping: its place in the step cannot come back$'
    assert_log_count 0 '.kind == "failure" and .cause == "node-lost"'
    [[ $(log_select '.kind == "failure" and .cause == "agent-lost"' | wc -l) == 1 ]] || fail "more than one agent was lost"
}
