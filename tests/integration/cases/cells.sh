# SPDX-License-Identifier: Apache-2.0
# cluster: wide:4 8
#
# Cells of scripts/node-loss-matrix, which takes an hour for all of them, that no other case here tries. doc/node-loss.md
# says which cases stand for the others.
#
# shellcheck shell=bash disable=SC1091,SC2154

source "$pm_root/scripts/node-loss-matrix.d/cell.sh"

test_coordinator_killed_in_finishing() { cell_run kill coordinator-FINISHING; }
test_crash_of_an_inner_node() { cell_run crash inner; }
