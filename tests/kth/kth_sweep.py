# SPDX-License-Identifier: Apache-2.0
"""What kth_daemons and kth_servers share: a sweep runs something whole once for each call that fails in one of its
processes (kth_daemon.c), and asks after each run what of it is not allowed.

Exit status: 0 if nothing went wrong, 1 if something did, 77 without root.
"""
import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

UNREACHED = 3  # so many k in a row are beyond the last call; how many there are differs from run to run
SKIPPED = 77  # for meson
NEVER = 1 << 40  # a call that nobody makes
DAY_S = 86400
PR_SET_CHILD_SUBREAPER = 36
CRASHES = re.compile(r"(killed by|signal) (signal )?(4|6|7|8|11)\b|ended with status 0x(0?[4678b]|8[4678b])\b")


class Sweep:
    """Subclasses say in `processes` who can be meant, with about how many calls, and define command() and faults()."""
    processes = {}
    limit_s = 40
    gone_s = 12  # an agent that has lost all its shims tells the coordinator, for 10 s at most

    def __init__(self, build, folder):
        self.build, self.folder, self.bin, self.report = build, folder, f"{folder}/bin", f"{folder}/report"
        self.here = os.path.dirname(os.path.abspath(__file__))
        self.left = []  # processes that had to be ended after the last run
        os.mkdir(self.bin)
        for name in ("agent", "coordinator", "shim", "forked", "server"):  # copies: a build may go on meanwhile
            shutil.copy(f"{build}/tests/kth/kth-{name}", self.bin)
        for name, place in (("pm-pmix-server", "pmix_server/pmix"), ("pm-discover", "pmix_server/topology"),
                            ("pmix_probe", "tests/programs")):
            shutil.copy(f"{build}/{place}/{name}", self.bin)

    def command(self, process, k):
        """Makes everything ready for a run and gives its words and its environment's KTH_PROCESS."""
        raise NotImplementedError

    def faults(self, process, status, text, reached, left):
        """What is not allowed in this run."""
        raise NotImplementedError

    def program(self, process):
        """Which of self.bin `process` runs."""
        raise NotImplementedError

    def run(self, process, k):
        """Exit status (None: it did not end) and stdout and stderr together."""
        words, name = self.command(process, k)
        env = {**os.environ, **self.variables(name, k)}
        with open(f"{self.folder}/out", "w+") as out:
            child = subprocess.Popen(words, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            try:
                status = self.wait(child, process)
            except subprocess.TimeoutExpired:
                status = None
                child.kill()
                child.wait()
            self.left = self.await_all()
            out.seek(0)
            return status, out.read()

    def variables(self, name, k):
        return {"KTH_PROCESS": name, "KTH_K": str(k), "KTH_REPORT": self.report}

    def wait(self, child, _process):
        return child.wait(self.limit_s)

    def await_all(self):
        """Reaps what the run left to us, which are all of its processes; then ends and names those that stay."""
        until, left = time.monotonic() + self.gone_s, []
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return left
            if pid == 0 and time.monotonic() > until:
                names = end_children()
                left = left or names  # those that come to us afterwards were below them
            elif pid == 0:
                time.sleep(0.002)

    def read_report(self):
        """Where the call failed (None: it was not reached), and what was left."""
        where, left = None, "0 0"
        if os.path.exists(self.report):
            with open(self.report) as lines:
                for line in lines:
                    word, rest = line.split(" ", 1)
                    where, left = (rest.strip(), left) if word == "failed" else (where, rest.strip())
            os.unlink(self.report)
        return where, left

    def place(self, process, where):
        out = subprocess.run(["addr2line", "-fpe", f"{self.bin}/{self.program(process)}", hex(int(where, 16) - 1)],
                             capture_output=True, text=True)
        return out.stdout.strip()

    def attempt(self, process, k):
        """One run: its status and words, where the call failed, and what is not allowed."""
        status, text = self.run(process, k)
        where, left = self.read_report()
        faults = [what for what, is_so in self.faults(process, status, text, where is not None, left) if is_so]
        return status, text, where, faults

    def one(self, process, k, verbose):
        """True: the k-th call was reached. Second: whether all was well."""
        status, text, where, faults = self.attempt(process, k)
        if faults or verbose:
            print(f"{process} {k}: status {status}, {'; '.join(faults) or 'well'}; the failing call: "
                  f"{self.place(process, where) if where else '-'}")
            print("".join(f"    {line}\n" for line in text.splitlines() if not line.startswith("pmix_probe: ")), flush=True)
        return where is not None, not faults


def end_children():
    names = []
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        for pid in children.read().split():
            with open(f"/proc/{pid}/comm") as comm:
                names.append(f"{comm.read().strip()} {pid}")
            os.kill(int(pid), 9)
    return names


def sweep_all(sweep, options):
    bad = 0
    for process in options.process or sweep.processes:
        k, tried, unreached, wrong = options.first, 0, 0, 0
        while k <= options.last and unreached < (UNREACHED if options.every == 1 else 1):
            reached, well = sweep.one(process, k, options.verbose)
            unreached = 0 if reached else unreached + 1
            tried, wrong, k = tried + reached, wrong + (not well), k + options.every
        print(f"{process}: {tried} calls failed, up to {k}; {wrong} steps went wrong", flush=True)
        bad += wrong
    return bad


def sweep_sample(sweep, options):
    """So many calls, evenly over the processes as if they were one; every day of a year others."""
    processes = {name: calls for name, calls in sweep.processes.items() if name in (options.process or sweep.processes)}
    total, bad, tried = sum(processes.values()), 0, 0
    shift = options.day * 0.6180339887 % 1
    for i in range(options.sample):
        k = int((i + shift) * total / options.sample) + 1
        for process, calls in processes.items():
            if k <= calls:
                break
            k -= calls
        reached, well = sweep.one(process, k, options.verbose)
        tried, bad = tried + reached, bad + (not well)
    print(f"sample {options.sample} of day {options.day}: {tried} calls failed; {bad} steps went wrong", flush=True)
    return bad


def main(sweep_class, doc):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="meson's build folder")
    parser.add_argument("--process", choices=sweep_class.processes, action="append", help="default: each in turn")
    parser.add_argument("--first", type=int, default=1, metavar="K")
    parser.add_argument("--last", type=int, default=1 << 30, metavar="K")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th call")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="only N calls, others on other days")
    parser.add_argument("--day", type=int, default=int(time.time() // DAY_S), help="of the sample (today)")
    parser.add_argument("--forever", action="store_true", help="no allocation works from the k-th on; system calls do")
    parser.add_argument("--verbose", action="store_true", help="tell of runs that were well, too")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit(SKIPPED)
    if options.forever:
        os.environ["KTH_FOREVER"] = "1"
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="pm-kth.") as folder:
        sweep = sweep_class(os.path.abspath(options.build), folder)
        bad = sweep_sample(sweep, options) if options.sample else sweep_all(sweep, options)
    sys.exit(bad > 0)
