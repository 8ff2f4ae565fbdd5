"""What all parts use: where things are, programs that must end well, waiting."""

import os
import shutil
import signal
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

# What a fleet's folder has of the machines and their servers.
PARTS = ("sandboxes", "wine", "sshd", "winrm")
# Variables that servers and agents of a fleet set for what they start: with a path in one of these they are nobody else's.
MARKS = ("IBEX_ROOT", "HOME", "WINEPREFIX")
SHELLS = ("sh", "dash", "bash")


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


def belongs(pid, folder):
    """Whether a process is one of a fleet's folder: by what it executes, or by a variable that whoever started it there has set.

    Not by the folder it works in, nor by files that it names: a person may stand in the folder, or read a log of it. Paths are
    compared as they stand: `/dev/fd/3` is another file in this process than in that one.
    """
    place = Path(f"/proc/{pid}")
    try:
        program = os.readlink(place / "exe")
        words = (place / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
        variables = (place / "environ").read_bytes().decode(errors="surrogateescape").split("\0")
    except OSError:
        # It has ended, or is somebody else's.
        return False
    paths = [program] + [value for name, _, value in (variable.partition("=") for variable in variables) if name in MARKS]
    if os.path.basename(program) in SHELLS:
        # A script, whose executable is its shell.
        paths += words[1:2]
    return any(path.startswith(f"{folder}/{part}/") for path in paths for part in PARTS)


def end_all_of(folder):
    """Ends the processes of a folder; those that do not go are killed. How many there were."""
    ended, limit = {}, time.monotonic() + PATIENCE
    while True:
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        left = [pid for pid in pids if pid != os.getpid() and belongs(pid, folder)]
        if not left:
            return len(ended)
        over = time.monotonic() - limit
        if over > PATIENCE:
            stop(f"processes {left} do not end")
        for pid in left:
            since = started(pid)
            wanted = signal.SIGKILL if over > 0 else signal.SIGTERM
            if ended.get((pid, since)) != wanted:
                ended[pid, since] = wanted
                try:
                    os.kill(pid, wanted)
                except ProcessLookupError:
                    pass
        time.sleep(0.05)


def wait(what, fits):
    deadline = time.monotonic() + PATIENCE
    while not fits():
        if time.monotonic() > deadline:
            stop(f"{what}: not within {PATIENCE} s")
        time.sleep(0.02)
