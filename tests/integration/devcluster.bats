# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What scripts/devcluster promises to every other integration test. Each case has a time limit, each cluster a
# folder of its own below $BATS_FILE_TMPDIR, and the last case's teardown ends them all. Root only.
#
#   bats tests/integration/devcluster.bats

setup_file() {
    bats_require_minimum_version 1.5.0
    DC=$(realpath "$BATS_TEST_DIRNAME/../../scripts/devcluster")
    # Below /tmp and not below bats' own folder, which is closed to other users.
    DIR=$(mktemp -d /tmp/devcluster-test.XXXXXX)/main
    chmod 755 "${DIR%/*}"
    export DC DIR
    unset PM_DEVCLUSTER_DIR PM_PREFIX PM_DEVCLUSTER_SHARE
    timeout 30 "$DC" --dir "$DIR" up 3
}

teardown_file() {
    local dir
    for dir in "${DIR%/*}"/*/; do timeout 60 "$DC" --dir "${dir%/}" down; done
    rmdir "${DIR%/*}"
}

dc() { timeout 30 "$DC" --dir "$DIR" "$@"; }

# The traces a cluster could leave: processes with its folder in their arguments, cgroups, the folder.
traces_of() {
    local id
    id=$(sha256sum <<<"$1" | head -c 8)
    ps -eo pid=,args= | awk -v dir="$1" 'index($0, dir) && !/awk -v dir/'
    find /sys/fs/cgroup -name "*$id*" 2>/dev/null || true
    ls -d "$1" 2>/dev/null || true
}

assert_no_traces() {
    local traces try
    for ((try = 0; try < 50; try++)); do
        traces=$(traces_of "$1")
        [[ $traces ]] || return 0
        sleep 0.1
    done
    echo "left behind: $traces"
    return 1
}

all_idle() { [[ $(dc run sinfo -h -t idle -o %D) == 3 ]]; }

wait_idle() {
    local try
    for ((try = 0; try < 150; try++)); do
        all_idle && return
        sleep 0.1
    done
    return 1
}

# A TCP connection from node1 to node2; prints what node1 saw within 2 s: data, end or silence.
listen_on_node2() {
    dc exec node2 python3 -c '
import socket, time
server = socket.create_server(("", 7777))
peer, _ = server.accept()
time.sleep(20)' 3>&- &
    LISTENER=$!
}

watch_from_node1() {
    timeout 20 "$DC" --dir "$DIR" exec node1 python3 -c '
import socket, sys, time
for _ in range(100):
    try:
        peer = socket.create_connection(("node2", 7777), 2)
        break
    except OSError:
        time.sleep(0.05)
open(sys.argv[1], "w").close()
peer.settimeout(2)
try:
    peer.recv(1)
    print("end")
except TimeoutError:
    print("silence")
except OSError:
    print("end")' "$1" 3>&-
}

# What node1 sees of a connection to node2 when COMMAND happens.
what_a_peer_sees() {
    local connected=$DIR/share/connected.$RANDOM watcher try
    listen_on_node2
    watch_from_node1 "$connected" >"$BATS_TEST_TMPDIR/seen" &
    watcher=$!
    for ((try = 0; try < 100; try++)); do [[ ! -e $connected ]] || break; sleep 0.05; done
    dc "$@"
    wait "$watcher"
    kill "$LISTENER" 2>/dev/null || true
    cat "$BATS_TEST_TMPDIR/seen"
}

@test "a step runs on every node, each with its own host name, PID 1 and /tmp" {
    local stranger
    stranger=$(mktemp /tmp/pm-stranger.XXXXXX)
    touch "$DIR/share/here"
    run -0 dc run srun -N3 sh -c 'hostname; [ "$(cat /proc/1/comm)" = init ] && [ ! -e '"$stranger"' ] && echo private; ls '"$DIR/share/here"
    rm -f "$stranger"
    [[ $(grep -c '^node[123]$' <<<"$output") == 3 && $(grep -c "^$DIR/share/here$" <<<"$output") == 3 ]]
    [[ $(grep -cx private <<<"$output") == 3 ]]
}

@test "users other than root submit jobs, and exist only in the cluster" {
    run -0 dc run --user alice srun -N2 id -un
    [[ $output == $'alice\nalice' ]]
    run -0 dc run --user bob sbatch -W -N1 -o "$DIR/home/bob/out" --wrap 'id -un'
    [[ $(cat "$DIR/home/bob/out") == bob ]]
    run ! grep -q "$DIR" /etc/passwd
}

@test "mpi/pmix starts tasks, and is not the default" {
    run -0 dc run srun --mpi=pmix -N3 sh -c 'echo rank $PMIX_RANK'
    [[ $(sort <<<"$output") == $'rank 0\nrank 1\nrank 2' ]]
    run -0 dc run srun -N1 sh -c 'echo "rank ${PMIX_RANK-none}"'
    [[ $output == 'rank none' ]]
}

@test "site flavour: a task over its memory is killed and Slurm says OUT_OF_MEMORY" {
    run dc run srun -J oom -N1 --mem=64M sh -c 'head -c 300M /dev/zero | tail >/dev/null'
    ((status != 0))
    dc run scontrol show job | grep -A5 JobName=oom | grep -q JobState=OUT_OF_MEMORY
}

@test "site flavour: tasks are confined to their cores, and overcommit takes more of them" {
    run -0 dc run srun -N1 -n1 --cpus-per-task=1 nproc
    [[ $output == 1 ]]
    run -0 dc run srun -N3 -n12 -O true
}

@test "signals and exit status pass through run" {
    run -7 dc run sh -c 'exit 7'
    run -5 dc exec node1 sh -c 'exit 5'
    local ready=$DIR/share/ready pid code=0 try
    env --default-signal=INT "$DC" --dir "$DIR" run \
        sh -c 'trap "exit 42" INT; sleep 20 & touch "$1"; wait' sh "$ready" 3>&- &
    pid=$!
    for ((try = 0; try < 100; try++)); do [[ ! -e $ready ]] || break; sleep 0.05; done
    kill -INT "$pid"
    wait "$pid" || code=$?
    echo "exit status $code"
    [[ $code == 42 ]]
    run -0 dc run cat <<<"from stdin"
    [[ $output == "from stdin" ]]
}

@test "logs prints what a host's own Slurm daemon says, and follows it" {
    local job followed=$BATS_TEST_TMPDIR/followed follower try
    timeout 20 "$DC" --dir "$DIR" logs node2 -f >"$followed" 3>&- &
    follower=$!
    job=$(dc run srun -N1 -w node2 sh -c 'echo $SLURM_JOB_ID')
    for ((try = 0; try < 100; try++)); do
        ! grep -qF "[$job.0] done with job" "$followed" || break
        sleep 0.1
    done
    kill "$follower" || true
    ((try < 100))
    run -0 dc logs node2
    [[ $output == *'slurmd version'*"[$job.0] done with job"* ]]
    run -0 dc logs node1
    [[ $output == *'slurmd version'* && $output != *"[$job.0]"* ]]
    run -0 dc logs login
    [[ $output == *"sched: _slurm_rpc_allocate_resources JobId=$job NodeList=node2"* ]]
}

@test "power-off: peers hear nothing; revive brings the node back" {
    run -0 what_a_peer_sees kill-node node2
    [[ $output == silence ]]
    run ! dc exec node2 true
    run -0 dc revive node2
    run -0 wait_idle
    run -0 dc run srun -N3 true
}

@test "crash: peers see connections end" {
    run -0 what_a_peer_sees kill-node node2 --reset
    [[ $output == end ]]
    run -0 dc revive node2
    run -0 wait_idle
}

@test "cut: packets vanish, nothing else happens; heal: they flow again" {
    run -0 dc cut node2
    dc status | grep -q '^node2 .* cut '
    run ! dc exec node1 timeout 1 bash -c ': </dev/tcp/node2/6818'
    run -0 dc exec node2 true
    run -0 dc heal node2
    sleep 1
    run -0 dc exec node1 timeout 3 bash -c ': </dev/tcp/node2/6818'
    run -0 wait_idle
}

# hears HOST FROM: does HOST get a datagram that FROM sends?
hears() {
    local listener heard=$BATS_TEST_TMPDIR/heard.$RANDOM try
    timeout 10 "$DC" --dir "$DIR" exec "$1" python3 -c '
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 7778))
s.settimeout(2)
print("ready", flush=True)
s.recv(1)
print("heard", flush=True)' >"$heard" 2>/dev/null 3>&- &
    listener=$!
    for ((try = 0; try < 100; try++)); do ! grep -q ready "$heard" || break; sleep 0.05; done
    for ((try = 0; try < 5; try++)); do dc exec "$2" bash -c ": >/dev/udp/$1/7778; echo x >/dev/udp/$1/7778"; sleep 0.1; done
    wait "$listener"
}

@test "cut --in and --out: packets vanish one way only, until heal" {
    hears node2 node1
    hears node1 node2
    run -0 dc cut node2 --in
    dc status | grep -q '^node2 .* one-way '
    run ! hears node2 node1
    hears node1 node2
    run -0 dc cut node2 --out
    run ! hears node1 node2
    hears node2 node1
    run -0 dc heal node2
    dc status | grep -q '^node2 .* up '
    hears node1 node2
    run -0 wait_idle
}

@test "pause: the whole host stands still and hears nothing; resume: it goes on" {
    local before after
    dc exec node2 sh -c 'while :; do echo >>'"$DIR/share/ticks"'; sleep 0.05; done' 3>&- &
    sleep 0.5
    run -0 dc pause node2
    before=$(wc -l <"$DIR/share/ticks")
    ((before > 0))
    run ! dc exec node1 timeout 1 bash -c ': </dev/tcp/node2/6818'
    after=$(wc -l <"$DIR/share/ticks")
    ((after == before))
    run -0 dc resume node2
    sleep 0.5
    (($(wc -l <"$DIR/share/ticks") > after))
    kill %1
    run -0 wait_idle
}

@test "reboot: peers hear nothing at first, and the node is another one with the same address" {
    local boot
    boot=$(dc status | awk '$1 == "node2" { print $3 }')
    run -0 dc reboot node2
    [[ $(dc status | awk '$1 == "node2" { print $3 }') != "$boot" ]]
    run -0 wait_idle
    run -0 dc run srun -N3 true
}

@test "a second cluster lives and ends without disturbing the first" {
    local other=${DIR%/*}/other before
    before=$(dc status)
    run -0 timeout 30 "$DC" --dir "$other" up 2
    run -0 timeout 30 "$DC" --dir "$other" run srun -N2 hostname
    run -0 dc run srun -N3 hostname
    run -0 timeout 30 "$DC" --dir "$other" down
    assert_no_traces "$other"
    [[ $(dc status) == "$before" ]]
}

@test "a plugin is loaded everywhere but on the node that is to lack it; slurm.conf lines are taken over" {
    local other=${DIR%/*}/plugin
    printf '%s\n' '#include <slurm/spank.h>' 'SPANK_PLUGIN(dctest, 1)' \
        'int slurm_spank_task_init(spank_t sp, int ac, char **av)' \
        '{ return spank_setenv(sp, "SEEN", ac ? av[0] : "none", 1); }' >"$BATS_TEST_TMPDIR/p.c"
    gcc -shared -fPIC -o "$BATS_TEST_TMPDIR/p.so" "$BATS_TEST_TMPDIR/p.c"
    run -0 timeout 30 "$DC" --dir "$other" up 2 --plugin "$BATS_TEST_TMPDIR/p.so" --plugin-args "arg=1 b" \
        --no-plugin-on node2 --conf SrunPortRange=60001-61000
    run -0 timeout 30 "$DC" --dir "$other" run srun -N2 sh -c 'echo $(hostname) $SEEN'
    [[ $(sort <<<"$output") == $'node1 arg=1\nnode2' ]]
    run -0 timeout 30 "$DC" --dir "$other" run scontrol show config
    [[ $output == *'SrunPortRange           = 60001-61000'* ]]
    run -0 timeout 30 "$DC" --dir "$other" down
    assert_no_traces "$other"
}

@test "down cleans up after an up that was interrupted or killed at any time" {
    local other=${DIR%/*}/half delay signal
    for signal in KILL TERM; do
        for delay in 0.02 0.1 0.25 0.4; do
            timeout -s "$signal" "$delay" "$DC" --dir "$other" up 4 >/dev/null 2>&1 || true
            run -0 timeout 30 "$DC" --dir "$other" down
            assert_no_traces "$other"
        done
    done
}

@test "down ends running, suspended and root's jobs alike, and may be repeated" {
    local other=${DIR%/*}/busy job
    run -0 timeout 30 "$DC" --dir "$other" up 2
    timeout 30 "$DC" --dir "$other" run srun -N2 -J steady sleep 60 3>&- &
    sleep 0.7
    job=$(timeout 30 "$DC" --dir "$other" run squeue -h -n steady -o %A)
    run -0 timeout 30 "$DC" --dir "$other" run scontrol suspend "$job"
    run -0 timeout 30 "$DC" --dir "$other" down
    assert_no_traces "$other"
    run -0 timeout 30 "$DC" --dir "$other" down
}

@test "wide flavour: 16 nodes of 4 cores are up in under 15 s and run 64 tasks" {
    local other=${DIR%/*}/wide
    run -0 timeout 15 "$DC" --dir "$other" up 16 --wide 4
    run -0 timeout 30 "$DC" --dir "$other" run srun -n64 --cpu-bind=none hostname
    [[ $(sort -u <<<"$output" | wc -l) == 16 ]]
    run -0 timeout 30 "$DC" --dir "$other" down
    assert_no_traces "$other"
}

@test "wrong use is refused in one sentence" {
    local command
    for command in "up 2" "up" "up 0" "up 2 --wide x" "up 2 --bogus 1" "cut node9" "cut node1 --up" "pause node9" "resume" "reboot node9" "kill-node" "kill-node node1 -x" \
        "revive node1" "run" "exec" "logs node9" "bogus" ""; do
        # shellcheck disable=SC2086
        run dc $command
        ((status != 0)) && [[ $output == "devcluster: "* && ${#lines[@]} == 1 ]] || { echo "$command: $output"; return 1; }
    done
}
