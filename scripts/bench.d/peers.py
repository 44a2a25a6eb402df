# SPDX-License-Identifier: Apache-2.0
"""What others do when a node is lost, for comparison: Slurm itself, and torchrun with two agents.

peers(boot, folder, runs) prints a table. boot(folder, nodes, *options) gives a cluster of scripts/bench. What is waited for
in vain is given up after LIMIT_S, and the table says so. Without torchrun (python3-torch of Debian) its rows are left
out, and that is said.
"""
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

SLURMD_TIMEOUT_S = 30
LIMIT_S = 120
POLL_S = 0.05

# torchrun 1.13 under Python 3.11 does not know its own default, no redirection.
REDIRECTS = ["-r", "1", "-t", "1"]

# One rank on each node; each says in a file of its own when it was last past an all_reduce.
WORKER = """
import os, sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
mine = os.path.join(sys.argv[1], "rank%d.%s" % (dist.get_rank(), os.environ["TORCHELASTIC_RESTART_COUNT"]))
while True:
    dist.all_reduce(torch.ones(1))
    with open(mine, "w") as f:
        f.write(str(time.time()))
    time.sleep(0.1)
"""


def wait_for(what, seconds):
    """Seconds until what() is true; None if it is not within that time."""
    begin = time.time()
    while time.time() - begin < seconds:
        if what():
            return time.time() - begin
        time.sleep(POLL_S)
    return None


def start(cluster, host, command, log):
    where = ["run"] if host == "login" else ["exec", host]
    with open(log, "w") as out:
        return subprocess.Popen([*map(str, cluster.command), *where, *map(str, command)], stdout=out, stderr=out, stdin=subprocess.DEVNULL)


def power_off(cluster, host):
    """The moment of it."""
    subprocess.run([*cluster.command, "kill-node", host], check=True, stdout=subprocess.DEVNULL)
    return float((cluster.folder / "hosts" / host / "killed").read_text())


def plain_srun(boot, folder, options):
    """From the power-off of a node until srun's first word of it, and until srun has ended: None if it has not, 15 s later."""
    with boot(folder, 3, "--conf", f"SlurmdTimeout={SLURMD_TIMEOUT_S}") as cluster:
        log = cluster.folder / "share/srun"
        run = start(cluster, "login", ["srun", *options, "--mpi=none", "-N3", "--ntasks-per-node=1", "sh", "-c", "echo up; sleep 600"], log)
        if wait_for(lambda: log.read_text().count("up") == 3, 60) is None:
            raise SystemExit(f"bench: plain srun did not start: {log.read_text()}")
        size = log.stat().st_size
        off_s = power_off(cluster, "node2")
        told = wait_for(lambda: log.stat().st_size > size or run.poll() is not None, LIMIT_S)
        told_s = time.time() - off_s if told is not None else None
        ended = wait_for(lambda: run.poll() is not None, 15)
        ended_s = time.time() - off_s if ended is not None else None
        run.kill()
        print(f"bench: srun said: {log.read_text()[size:].strip()}", file=sys.stderr)
        return told_s, ended_s


def torchrun(boot, folder, lose):
    """From the loss of one of two agents until the other one has started its rank again, or has ended."""
    with boot(folder, 2) as cluster:
        share = cluster.folder / "share"
        worker = share / "worker.py"
        worker.write_text(WORKER)
        agents = [start(cluster, f"node{i}", ["torchrun", "--nnodes=1:2", "--nproc_per_node=1", "--max_restarts=3", "--rdzv_backend=c10d",
                                              "--rdzv_endpoint=node1:29500", "--rdzv_id=1", *REDIRECTS, f"--log_dir={share}", worker, share], share / f"agent{i}")
                  for i in (1, 2)]
        if wait_for(lambda: len(list(share.glob("rank*"))) == 2, LIMIT_S) is None:
            raise SystemExit(f"bench: torchrun did not start: {(share / 'agent1').read_text()[-2000:]}")
        time.sleep(3)
        lost_s = lose(cluster)
        before = set(share.glob("rank*"))
        noticed = wait_for(lambda: set(share.glob("rank*")) != before or agents[0].poll() is not None, LIMIT_S)
        noticed_s = time.time() - lost_s if noticed is not None else None
        how = "the rank was started again" if agents[0].poll() is None else f"the agent ended with {agents[0].returncode}"
        for agent in agents:
            agent.kill()
        print(f"bench: torchrun said: {(share / 'agent1').read_text().strip()[-1500:]}", file=sys.stderr)
        return noticed_s, how if noticed is not None else "nothing"


def kill_agent(cluster):
    """The agent alone: its rank is left behind."""
    cluster.shell("node2", "kill -KILL $(ps -eo pid=,args= | awk '/[t]orchrun --nnodes/ { print $1; exit }')")
    return time.time()


def row(what, samples):
    seen = [s for s in samples if s is not None]
    if not seen:
        print(f"| {what} | not within {LIMIT_S} s | | {len(samples)} |", flush=True)
    else:
        vain = f", {len(samples) - len(seen)} not within {LIMIT_S} s" if len(seen) < len(samples) else ""
        print(f"| {what} | {statistics.median(seen):.1f} s | {max(seen):.1f} s{vain} | {len(samples)} |", flush=True)


def peers(boot, folder, runs):
    print("\n## A node is lost: what others do\n")
    print("| from the loss | median | worst | of |\n|---|---|---|---|")
    for name, options in (("plain srun", []), ("plain srun --no-kill", ["--no-kill"])):
        taken = [plain_srun(boot, folder, options) for _ in range(runs)]
        row(f"{name}, power-off, SlurmdTimeout={SLURMD_TIMEOUT_S}: until srun says a word", [told for told, _ in taken])
        if any(ended is not None for _, ended in taken):
            row(f"{name}, power-off, SlurmdTimeout={SLURMD_TIMEOUT_S}: until srun has ended", [ended for _, ended in taken])
        else:
            print(f"| {name}: until srun has ended | it goes on | | {runs} |", flush=True)
    if not shutil.which("torchrun") or not pathlib.Path("/usr/lib/python3/dist-packages/torch").exists():
        print("\nbench: skipped: torchrun (needs Debian's python3-torch)")
        return
    for name, lose in (("agent killed", kill_agent), ("power-off", lambda cluster: power_off(cluster, "node2"))):
        taken = [torchrun(boot, folder, lose) for _ in range(runs)]
        row(f"torchrun, 2 agents, {name}: until the other notices ({', '.join(sorted({how for _, how in taken}))})", [s for s, _ in taken])
