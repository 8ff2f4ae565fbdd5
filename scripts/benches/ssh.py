"""What is measured over real SSH servers, in turn with what others do over the same ones."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .measure import COMPONENTS, HERE, NEWER, OLDER, Run, same_trees, say
from .peers import Peers, missing

PARTS = ["ssh-exec", "ssh-steps", "ssh-push", "ssh-update"]
BOOKS = HERE / "scripts" / "benches" / "playbooks"
OURS = "ibexdeploy"
# Bytes of files that the update changes: what a new release of the real thing changes in a tree of this size.
CHANGED = 47_000_000
# An agent without work ends by itself after some seconds; a cold run must not meet one.
COLD_WITHIN = 30


class OverSsh:
    def __init__(self, programs, folder, results, quick):
        if lacking := missing():
            sys.exit(f"the comparison needs {' and '.join(lacking)}: install them, or name other parts")
        self.programs = programs
        self.folder = folder
        self.results = results
        self.rounds = 2 if quick else 4
        self.count = 6 if quick else 30
        self.pushed = False
        self.fleet = folder / "f"
        self.kits = folder / "releases"
        self.fresh = 0
        # As it is given to people: without what only debuggers read.
        self.binary = folder / "ibexdeploy"
        subprocess.run(["strip", "-o", self.binary, programs["ibexdeploy"]], check=True)

    def __enter__(self):
        try:
            return self.begin()
        except BaseException:
            self.__exit__()
            raise

    def begin(self):
        self.kits.mkdir()
        # No release is installed in sandboxes that are made while there is none.
        self.script("up", self.count, "--bin", self.binary, "--kits", self.kits)
        lines = (self.fleet / "ssh_config").read_text().splitlines()
        self.names = [line.split()[1] for line in lines if line.startswith("Host N")]
        self.peers = Peers(self.fleet, self.names, self.folder)
        run = self.ours("status", "--all")
        name = f"ssh: {self.count} hosts' first contact, the agent brought to each"
        self.results.note(name, [run.seconds], "s", agent_bytes=self.binary.stat().st_size)
        return self

    def __exit__(self, *_):
        self.script("down")
        self.wait_until_cold()

    def script(self, what, *words):
        command = [HERE / "scripts" / "fleet", what, *words, "--dir", self.fleet]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)

    def ours(self, *words):
        """With a state folder of its own: nothing that an earlier run packed or hashed is there."""
        self.fresh += 1
        state = self.folder / f"state-{self.fresh}"
        options = ["--inventory", self.fleet / "inventory.yaml", "--playbooks", BOOKS, "--kits", self.kits, "--state", state]
        self.wait_until_cold()
        return Run([self.binary, *options, *words, "--output", "json"])

    def playbook(self, name, *words):
        return self.ours("run", name, "--all", "--yes", "--jobs", self.count, *words)

    def theirs(self, command):
        self.wait_until_cold()
        return Run(command, env=self.peers.env())

    def wait_until_cold(self):
        """Until no agent, and no connection that a program keeps for its next run, is there."""
        deadline = time.monotonic() + COLD_WITHIN
        while any(self.left_over(entry) for entry in Path("/proc").iterdir()):
            if time.monotonic() > deadline:
                sys.exit("agents or connections of an earlier run do not end")
            time.sleep(0.1)

    def left_over(self, entry):
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            return False
        # Of Ansible, the processes that hold connections open name the folder of their sockets.
        return (b"worker" in line and bytes(self.fleet) in line) or bytes(self.folder / "peers/cp") in line

    def compare(self, part, contenders, before=lambda who: None, after=lambda who: None, rounds=None, all_rounds=False):
        """Each once a round, ours first; ratios are ours to each of theirs."""
        took = {who: [] for who in contenders}
        flushed = {who: [] for who in contenders}
        cpu = {who: [] for who in contenders}
        for number in range(rounds or self.rounds):
            for who, run in contenders.items():
                # The slow ones are not worth more minutes.
                if number and min(took[who]) > 20 and not all_rounds:
                    continue
                before(who)
                done = run()
                after(who)
                took[who].append(done.seconds)
                cpu[who].append(done.cpu)
                if hasattr(done, "on_disk"):
                    flushed[who].append(done.on_disk)
        for who in contenders:
            self.results.note(f"{part}: {who}", took[who], "s", cpu_seconds=cpu[who])
            if flushed[who]:
                self.results.note(f"{part}: {who}, until it is on disk", flushed[who], "s")
        for who in contenders:
            if not who.startswith(OURS):
                first = next(iter(contenders))
                self.results.ratio(f"{part}: ours / {who}", f"{part}: {first}", f"{part}: {who}")
                if flushed[who] and flushed[first]:
                    to_disk = (f"{part}: {first}, until it is on disk", f"{part}: {who}, until it is on disk")
                    self.results.ratio(f"{part}: ours / {who}, until it is on disk", *to_disk)

    # -- a command everywhere --

    def exec(self):
        contenders = {f"{OURS}, a step": lambda: self.playbook("exec"), f"{OURS} status": lambda: self.ours("status", "--all")}
        contenders |= {who: (lambda c=command: self.theirs(c)) for who, command in self.peers.exec().items()}
        self.compare(f"ssh-exec, {self.count} hosts", contenders)

    # -- twelve small steps --

    def steps(self):
        contenders = {OURS: lambda: self.playbook("steps")}
        folders = {OURS: "bench"}
        for folder, command in self.peers.steps().items():
            contenders[folder.removeprefix("bench-")] = lambda c=command: self.theirs(c)
            folders[folder.removeprefix("bench-")] = folder
        self.compare(
            f"ssh-steps, 12 on {self.count} hosts", contenders,
            before=lambda who: self.lay_out(folders[who]), after=lambda who: self.check_steps(folders[who]),
        )

    def lay_out(self, folder):
        """What the steps begin with."""
        for name in self.names:
            at = self.peers.area(name) / folder
            shutil.rmtree(at, ignore_errors=True)
            at.mkdir()
            (at / "old.log").write_text("old\n")
            (at / "site.ini").write_text("[site]\n" + "".join(f"K{i}={i * 7}\n" for i in range(20)) + "LEVEL=info\nNAME=unset\n")

    def check_steps(self, folder):
        """All do the same, or there is nothing to compare."""
        for name in self.names:
            at = self.peers.area(name) / folder
            configuration = (BOOKS / "app.conf").read_text().replace("{{ who }}", name)
            settings = (at / "site.ini").read_text()
            right = {
                "configuration": (at / "app/conf/app.conf").read_text().rstrip("\n") == configuration.rstrip("\n"),
                "copy": "\nNAME=unset\n" in (at / "site.bak").read_text(),
                "script": (at / "app/start.sh").read_text().rstrip("\n") == (BOOKS / "start.sh").read_text().rstrip("\n"),
                "rights": os.access(at / "app/start.sh", os.X_OK),
                "settings": "\nLEVEL=debug\n" in settings and f"\nNAME={name}\n" in settings and "info" not in settings,
                "link": (at / "app/current").resolve() == (at / "app/conf").resolve(),
                "removed": not (at / "old.log").exists(),
                "version": (at / "app/VERSION.txt").read_text() == "12.3.0\n",
            }
            if wrong := [what for what, is_right in right.items() if not is_right]:
                sys.exit(f"{folder} on {name}: wrong are {', '.join(wrong)}")

    # -- trees --

    def trees(self):
        """The two releases, and the same files as others take them, in one folder each."""
        if not (self.kits / OLDER).exists():
            say("making the large kit ...")
            subprocess.run([self.programs["files"], "kit", self.kits, "plain"], check=True)
            self.changed = rebuild(self.kits / OLDER, self.kits / NEWER)
            for version in (OLDER, NEWER):
                for component, inner, installed in COMPONENTS:
                    to = self.folder / "trees" / version / Path(installed).name
                    to.parent.mkdir(parents=True, exist_ok=True)
                    subprocess.run(["cp", "-al", self.kits / version / component / inner, to], check=True)
            needed = 3.5 * self.count * 250_000_000
            if shutil.disk_usage(self.folder).free < needed:
                sys.exit(f"the trees of {self.count} hosts need {needed / 1e9:.0f} GB in {self.folder.parent}")
        return self.folder / "trees"

    def clear(self):
        """An empty folder for others, everywhere."""
        peer = f"{self.peers.area('%')}/peer"
        self.theirs(self.peers.each(f"rm -rf {peer}; mkdir {peer}", os.cpu_count()))

    def moved(self, run):
        """A run, with the time until its files are on disk."""
        run.on_disk = run.flush()
        return run

    def check(self, who, version):
        """All files of three of the instruments."""
        for name in (self.names[0], self.names[len(self.names) // 2], self.names[-1]):
            at = self.peers.area(name)
            to = at / "Instrument" / "Apps" if who == OURS else at / "peer"
            names = [Path(installed).name for _, _, installed in COMPONENTS]
            same_trees((self.folder / "trees" / version / n, to / n) for n in names)

    def push(self):
        tree = self.trees() / OLDER
        others = {"cp -a, no network": self.peers.copy, "tar, zstd, ssh": self.peers.tar, "rsync, all at once": self.peers.rsync}
        contenders = {OURS: lambda: self.moved(self.playbook("push", "--kit", OLDER))}
        contenders |= {who: (lambda f=function: self.moved(self.theirs(f(tree)))) for who, function in others.items()}
        part = f"ssh-push, {self.count} x 250 MB, 6,000 files"
        self.compare(
            part, contenders, rounds=1,
            before=lambda who: None if who == OURS else self.clear(), after=lambda who: self.check(who, OLDER),
        )
        self.pushed = True

    def update(self):
        trees = self.trees()
        if not self.pushed:
            say("pushing what is to be updated ...")
            self.playbook("push", "--kit", OLDER)
            self.clear()
            self.theirs(self.peers.copy(trees / OLDER))
        was, to = OLDER, NEWER
        held = {"was": was, "to": to, "runs": 0}

        def ours():
            run = self.playbook("push", "--kit", held["to"])
            held.setdefault("sent", run.sent())
            return self.moved(run)

        contenders = {
            OURS: ours,
            "rsync, all at once": lambda: self.moved(self.theirs(self.peers.rsync(trees / held["to"]))),
            "tar, zstd, ssh": lambda: self.moved(self.theirs(self.peers.tar(trees / held["to"]))),
        }

        def before(who):
            if who.startswith("tar"):
                # Others share a tree: back to what it was.
                area = self.peers.area("%")
                back = f"rsync -a --delete {trees / held['was']}/ {area}/peer/"
                self.theirs(self.peers.each(back, os.cpu_count()))

        def after(who):
            self.check(who, held["to"])
            if who.startswith("tar"):
                # The next round goes back.
                held["was"], held["to"] = held["to"], held["was"]

        part = f"ssh-update, {self.changed / 1e6:.0f} MB changed, {self.count} hosts"
        self.compare(part, contenders, before=before, after=after, rounds=2 if self.rounds < 4 else 3, all_rounds=True)
        self.results.note(f"{part}: sent by {OURS}", [held["sent"] / 1e6], "MB")


def rebuild(older, newer):
    """Builds binaries of the newer release anew, in a third of their blocks, until enough bytes are in changed files."""
    changed, block = 0, 65536
    for file in sorted(newer.rglob("*")):
        if not file.is_file() or file.name == ".rehearsal-kit":
            continue
        before = older / file.relative_to(newer)
        content = file.read_bytes()
        if before.is_file() and before.read_bytes() == content:
            if not file.name.startswith("bin") or changed > CHANGED:
                continue
            fresh = bytearray(content)
            for start in range(0, len(fresh), 3 * block):
                part = fresh[start:start + block]
                fresh[start:start + block] = part[len(part) // 2:] + part[:len(part) // 2]
            file.write_bytes(fresh)
        if before.is_file():
            # Releases are months apart: rsync goes by whole seconds and sizes.
            os.utime(before, (file.stat().st_mtime - 86_400,) * 2)
        changed += file.stat().st_size
    return changed
