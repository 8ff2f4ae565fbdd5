"""What all parts use: the builds, a measured run, the results."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent.parent
OLDER, NEWER = "26.8.0", "26.9.0"
# Component, the folder inside it that is installed, where a sandbox has it.
COMPONENTS = [
    ("EPICS", "", "c/Instrument/Apps/EPICS"),
    ("Client", "Client", "c/Instrument/Apps/Client_E4"),
    ("genie_python_3", "", "c/Instrument/Apps/Python3"),
]


def say(text):
    print(text, file=sys.stderr, flush=True)


def build():
    """The binary and the benches, by name."""
    say("building with the bench profile ...")
    command = ["cargo", "build", "--locked", "--profile", "bench", "--bins", "--benches", "--message-format", "json-render-diagnostics"]
    out = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, check=True).stdout
    found = {}
    for line in out.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message.get("executable"):
            kind = message["target"]["kind"][0]
            # Of a binary, its unit tests come as well.
            if kind == "bench" or (kind == "bin" and not message["profile"]["test"]):
                found[message["target"]["name"]] = message["executable"]
    return found


class Run:
    """A program that was run: wall time, its own CPU time (with that of programs it waited for) and memory, its events."""

    def __init__(self, command, env=None):
        # Nothing that an earlier piece of work left to be written may fall into this one's time.
        os.sync()
        command = [str(word) for word in command]
        begun = time.monotonic()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, cwd=HERE, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
            out = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            self.seconds = time.monotonic() - begun
            said.seek(0)
            errors = said.read()
        process.returncode = os.waitstatus_to_exitcode(status)
        self.cpu = usage.ru_utime + usage.ru_stime
        self.peak_mib = usage.ru_maxrss / 1024
        self.events = [json.loads(line) for line in out.splitlines() if line.startswith(b'{"v"')]
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}\n{(out + errors).decode()[-3000:]}")

    def flush(self):
        """Seconds until all that it wrote is on disk as well, when it is asked right after the run."""
        begun = time.monotonic()
        os.sync()
        return self.seconds + time.monotonic() - begun

    def of(self, kind):
        return [e for e in self.events if e["event"] == kind]

    def staged(self):
        return sum(e["fetched_bytes"] for e in self.of("staged"))

    def sent(self):
        last = {}
        for event in self.of("sent"):
            last[event["instrument"]] = event["bytes"]
        return sum(last.values())

    def outages(self):
        """Of each instrument, in ms: the outage, the part without the site's programs, the part in `sync` steps."""
        outages = []
        for end in self.of("instrument_finished"):
            steps = [e for e in self.of("step_finished") if e["instrument"] == end["instrument"] and e["step"]["phase"] == "apply"]
            # Steps that run programs of the site: their time is not ours.
            site = sum(e["ms"] for e in steps if e["step"]["action"] in ("command", "check"))
            sync = sum(e["ms"] for e in steps if e["step"]["action"] == "sync")
            outages.append((end["outage_ms"], end["outage_ms"] - site, sync))
        return outages


class Results:
    """Results by name, in the order in which they came."""

    def __init__(self):
        self.all = {}

    def note(self, name, values, unit, **more):
        """A result: the values of all rounds, shown by their median."""
        self.all[name] = {"median": statistics.median(values), "values": values, "unit": unit, **more}

    def median(self, name):
        return self.all[name]["median"]

    def ratio(self, name, of, to, **more):
        self.note(name, [self.median(of) / self.median(to)], "x", **more)

    def table(self):
        width = max(map(len, self.all), default=0)
        for name, result in self.all.items():
            values, unit = result["values"], result["unit"]
            spread = f"{min(values):10.2f} .. {max(values):.2f}" if len(values) > 1 else ""
            print(f"{name:<{width}}  {result['median']:10.2f} {unit:<4} {spread}")


def same_trees(pairs, besides=()):
    """A fast installation of something else would be no result. Folders in `besides` may differ; empty ones do not count."""
    for wanted, installed in pairs:
        # rsync compares as well, and here by content.
        left_out = [f"--exclude={name}" for name in ("ICP_Binaries", *besides)]
        command = ["rsync", "-rlcni", "--delete", "--prune-empty-dirs", *left_out, f"{wanted}/", f"{installed}/"]
        differing = subprocess.run([str(w) for w in command], check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        # A line that begins with a dot is about times or rights, "cd" is a folder, and so is what ends in a slash.
        if wrong := [line for line in differing if not line.startswith((".", "cd")) and not line.endswith("/")]:
            sys.exit(f"{installed} is not as {wanted}: {wrong[:5]} and {len(wrong)} in all")
