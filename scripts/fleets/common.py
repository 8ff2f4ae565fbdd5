"""What all parts use: where things are, programs that must end well, waiting."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
# Seconds that a server may take to answer, and to end.
PATIENCE = 20
# Servers see nothing of the environment they were started from.
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def stop(text, then=None):
    """Ends with an error and what to do about it."""
    sys.exit(f"scripts/fleet: {text}" + (f"\n  {then}" if then else ""))


def need(program, package):
    # sshd lies where the path of an ordinary user does not lead.
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    return found or stop(f"the program {program} is missing", f"on Debian: apt-get install {package}; scripts/test does it, too")


def run(command, what):
    """Standard output of a command that must end well."""
    done = subprocess.run([str(c) for c in command], cwd=HERE, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        stop(f"cannot {what}: {command[0]} ended with {done.returncode}", (done.stderr or done.stdout).strip())
    return done.stdout


def say(text):
    print(text, file=sys.stderr, flush=True)


def names_in(folder):
    """Of the instruments that have a folder in a folder."""
    return sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith(".")) if folder.is_dir() else []


def replace(file, text):
    """Never half a file for a controller that reads it now."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found.append(int(entry.name))
    return found


def started(pid):
    """When a process started, which tells it from a later one of the same number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def wait(what, fits):
    deadline = time.monotonic() + PATIENCE
    while not fits():
        if time.monotonic() > deadline:
            stop(f"{what}: not within {PATIENCE} s")
        time.sleep(0.02)
