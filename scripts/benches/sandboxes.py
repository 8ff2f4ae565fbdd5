"""What is measured on sandboxes of this machine, without a network."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

from . import settings
from .measure import COMPONENTS, HERE, NEWER, OLDER, Run, same_trees, say

LARGE = ["NDXLARMOR", "NDXZOOM", "NDXLOQ"]
PARTS = ["hash", "install", "update", "fleet30", "steps", "controller", "backup", "migrate"]


class Sandboxes:
    def __init__(self, programs, folder, results):
        self.programs = programs
        self.folder = folder
        self.results = results

    def kit(self, shape):
        kits = self.folder / f"kits-{shape}"
        if not kits.exists():
            say(f"making the {shape} kit ...")
            subprocess.run([self.programs["files"], "kit", kits, shape], check=True)
        return kits

    def deploy(self, shape, arguments, fleet=None):
        fleet = self.folder / (fleet or shape)
        # A question to the instruments needs no consent.
        consent = [] if arguments[0] == "status" else ["--yes"]
        command = [self.programs["ibexdeploy"], *arguments, *consent, "--output", "json", f"--rehearse={fleet}"]
        return Run([*command, "--kits", self.kit(shape), "--state", fleet / "state"])

    # -- hashing --

    def hash(self):
        out = subprocess.run([self.programs["files"], "index", self.kit("large") / OLDER, "7"], check=True, stdout=subprocess.PIPE)
        rounds = [json.loads(line) for line in out.stdout.splitlines()]
        self.results.note("hash: index of the large tree, nothing cached", [r["index_ms"] for r in rounds], "ms", files=rounds[0]["files"])
        self.results.note("hash: `cat` of all its files", [r["read_ms"] for r in rounds], "ms", bytes=rounds[0]["bytes"])
        self.results.ratio("hash: index / cat", "hash: index of the large tree, nothing cached", "hash: `cat` of all its files")

    # -- large trees --

    def copies(self, version):
        """Seconds for as many full copies as there are large sandboxes, in parallel, and until they are on disk."""
        kit = self.kit("large") / version
        to = [self.folder / "copies" / name for name in LARGE]
        os.sync()
        begun = time.monotonic()

        def copy(folder):
            folder.mkdir(parents=True)
            for component, _, _ in COMPONENTS:
                subprocess.run(["cp", "-a", kit / component, folder / component], check=True)

        with ThreadPoolExecutor(len(to)) as pool:
            list(pool.map(copy, to))
        copied = time.monotonic() - begun
        os.sync()
        flushed = time.monotonic() - begun
        shutil.rmtree(self.folder / "copies")
        return copied, flushed

    def release_large(self, version):
        # Backups are a part of every release, and have a line of their own here.
        run = self.deploy("large", ["release", ",".join(LARGE), "--kit", version, "--skip-tags", "backup"])
        kit = self.kit("large") / version
        for name in LARGE:
            trees = ((kit / c / inner, self.folder / "large" / name / installed) for c, inner, installed in COMPONENTS)
            # The client writes there: a release removes nothing.
            same_trees(trees, besides=["configuration"])
        return run

    def changed_bytes(self, older, newer):
        """Bytes of files that the newer release has and the older one has nowhere at that path."""
        changed = 0
        for component, inner, _ in COMPONENTS:
            for file in (newer / component / inner).rglob("*"):
                if file.is_file():
                    was = older / file.relative_to(newer)
                    if not was.is_file() or was.stat().st_size != file.stat().st_size or was.read_bytes() != file.read_bytes():
                        changed += file.stat().st_size
        return changed

    def install(self):
        shutil.rmtree(self.folder / "large", ignore_errors=True)
        self.deploy("large", ["status", LARGE[0]])
        run = self.release_large(NEWER)
        self.results.note("install: large release, 3 sandboxes", [run.seconds], "s", sent=run.sent(), staged=run.staged())
        copied, flushed = self.copies(NEWER)
        self.results.note("install: 3 x `cp -a` of the kit, then sync", [flushed], "s", without_sync=copied)
        self.results.ratio("install: install / copy on disk", "install: large release, 3 sandboxes", "install: 3 x `cp -a` of the kit, then sync")
        self.results.note("install: most memory of the controller", [run.peak_mib], "MiB")

    def update(self):
        kits = self.kit("large")
        self.release_large(OLDER)
        changed = {NEWER: self.changed_bytes(kits / OLDER, kits / NEWER), OLDER: self.changed_bytes(kits / NEWER, kits / OLDER)}
        runs, copies = [], []
        for number in range(7):
            version = OLDER if number % 2 else NEWER
            run, copy = self.release_large(version), self.copies(version)
            if number:
                runs.append((version, run))
                copies.append(copy)
        updates = [run for _, run in runs]
        self.results.note("update: 2 % of the large release, 3 sandboxes", [r.seconds for r in updates], "s", sent=updates[0].sent())
        self.results.note("update: 3 x `cp -a` of the kit", [c[0] for c in copies], "s")
        self.results.note("update: 3 x `cp -a` of the kit, then sync", [c[1] for c in copies], "s")
        self.results.ratio("update: update / copy", "update: 2 % of the large release, 3 sandboxes", "update: 3 x `cp -a` of the kit")
        self.results.ratio("update: update / copy on disk", "update: 2 % of the large release, 3 sandboxes", "update: 3 x `cp -a` of the kit, then sync")
        staged = [r.staged() / len(LARGE) / changed[v] for v, r in runs]
        self.results.note("update: bytes staged / bytes changed", staged, "x", limit=1.1)
        outages = [o for r in updates for o in r.outages()]
        self.results.note("update: outage, 6,000 files", [o[0] for o in outages], "ms")
        self.results.note("update: outage apart from the site's programs", [o[1] for o in outages], "ms", limit=2000)
        self.results.note("update: outage, in `sync` steps", [o[2] for o in outages], "ms", limit=2000)
        self.results.note("update: controller's CPU for each sandbox", [r.cpu / len(LARGE) * 1e3 for r in updates], "ms")
        if max(staged) > 1.1:
            sys.exit(f"an update staged {max(staged):.2f} times the bytes that changed")

    # -- thirty small sandboxes --

    def fleet30(self):
        run = self.deploy("small", ["release", "--all", "--kit", OLDER, "--skip-tags", "backup"])
        self.results.note("fleet30: first installs", [run.seconds], "s", sent=run.sent(), staged=run.staged())
        updates = []
        for version in (NEWER, OLDER, NEWER):
            updates.append(self.deploy("small", ["release", "--all", "--kit", version, "--skip-tags", "backup"]))
        self.results.note("fleet30: updates", [r.seconds for r in updates], "s", sent=updates[0].sent(), staged=updates[0].staged())
        self.results.note("fleet30: controller's CPU for each sandbox", [r.cpu / 30 * 1e3 for r in updates], "ms")
        self.results.note("fleet30: most memory of the controller", [r.peak_mib for r in updates], "MiB")

    # -- steps --

    def steps(self):
        books = self.folder / "playbooks"
        books.mkdir(exist_ok=True)
        kinds = {"check": "check: {disk: {place: server, free: 1B}}", "command": "command: {at: server, run: 'true', read_only: true}"}
        for kind, step in kinds.items():
            for count in (1, 12):
                lines = [f"playbook: {kind}{count}", "description: a bench", "apply:"]
                lines += [f"  - name: step {n}\n    {step}" for n in range(count)]
                (books / f"{kind}{count}.yaml").write_text("\n".join(lines) + "\n")
        times = {(kind, count): [] for kind in kinds for count in (1, 12)}
        for number in range(8):
            for (kind, count), values in times.items():
                run = self.deploy("small", ["run", f"{kind}{count}", LARGE[0], "--playbooks", books], fleet="one")
                if number:
                    values.append(run.seconds * 1e3)
        for kind in kinds:
            self.results.note(f"steps: a run of 1 {kind} step", times[kind, 1], "ms")
            self.results.note(f"steps: a run of 12 {kind} steps", times[kind, 12], "ms")
            more = self.results.median(f"steps: a run of 12 {kind} steps") - self.results.median(f"steps: a run of 1 {kind} step")
            self.results.note(f"steps: each further {kind} step", [more / 11], "ms", limit=50)

    # -- the controller --

    def controller(self):
        found = {count: [] for count in (30, 300, 1000)}
        for number in range(4):
            for count, values in found.items():
                out = subprocess.run([self.programs["controller"], str(count)], check=True, stdout=subprocess.PIPE).stdout
                if number:
                    values.append(json.loads(out))
        for count, runs in found.items():
            self.results.note(f"controller: {count} instruments, wall", [r["seconds"] for r in runs], "s", events=runs[0]["events"])
            self.results.note(f"controller: {count} instruments, CPU for each", [r["cpu_seconds"] / count * 1e3 for r in runs], "ms")
            self.results.note(f"controller: {count} instruments, most memory", [r["peak_kib"] / 1024 for r in runs], "MiB")

    # -- backups --

    def backup(self):
        root = self.folder / "large" / LARGE[0]
        if not root.exists():
            self.release_large(NEWER)
        ours, theirs = [], []
        for number in range(4):
            run = self.deploy("large", ["backup", LARGE[0]])
            shutil.rmtree(root / "c/data/old")
            os.sync()
            begun = time.monotonic()
            self.zip(root)
            took = time.monotonic() - begun
            if number:
                ours.append(run.seconds)
                theirs.append(took)
        self.results.note("backup: the large release, verified by reading back", ours, "s")
        self.results.note("backup: Python's zipfile, level 1, not verified", theirs, "s")
        self.results.ratio("backup: ours / zipfile", "backup: the large release, verified by reading back", "backup: Python's zipfile, level 1, not verified", limit=0.4)

    def zip(self, root):
        archive = self.folder / "by-python.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
            for _, _, installed in COMPONENTS:
                for file in (root / installed).rglob("*"):
                    if file.is_file() and ".git" not in file.parts:
                        out.write(file, file.relative_to(root))
        archive.unlink()

    # -- migrations --

    def migrate(self):
        """The whole shipped chain on thirty settings trees: by themselves, and as a run on thirty sandboxes."""
        trees = self.folder / "settings"
        command = [self.programs["ibexdeploy"], "migrate", "--machine", "NDXLARMOR", "--dry-run", "--output", "json", "--dir"]
        folders = [trees / f"{n:02}" for n in range(30)]
        sizes = [settings.write(folder, seed) for seed, folder in enumerate(folders)]
        compute = lambda folder: subprocess.run([*command, str(folder)], check=True, cwd=HERE, stdout=subprocess.DEVNULL)
        alone, together = [], []
        for number in range(6):
            begun = time.monotonic()
            for folder in folders:
                compute(folder)
            between = time.monotonic()
            with ThreadPoolExecutor(os.cpu_count()) as each_core:
                list(each_core.map(compute, folders))
            if number:
                alone.append((between - begun) / len(folders) * 1e3)
                together.append(time.monotonic() - between)
        files, size = sizes[0]
        self.results.note("migrate: a settings tree, computed and shown", alone, "ms", files=files, bytes=size)
        self.results.note("migrate: 30 settings trees, one on each core", together, "s")

        runs, steps = [], []
        for number in range(3):
            fleet = self.folder / "migrate"
            shutil.rmtree(fleet, ignore_errors=True)
            self.deploy("small", ["status", "--all"], fleet="migrate")
            for seed, tree in enumerate(sorted(fleet.glob("NDX*/c/Instrument/Settings/config/NDX*"))):
                settings.write(tree, seed)
                settings.commit(tree)
            run = self.deploy("small", ["migrate", "--all"], fleet="migrate")
            done = [e for e in run.of("step_finished") if e["step"]["action"] == "migrate"]
            if len(done) != 30 or any("26.8.1" not in e["summary"] for e in done):
                sys.exit(f"not all settings were migrated: {[e['summary'] for e in done]}")
            if number:
                runs.append(run.seconds)
                steps += [e["ms"] for e in done]
        self.results.note("migrate: a run on 30 sandboxes, with a commit and a tag for each version", runs, "s")
        self.results.note("migrate: the step of one of the 30", steps, "ms")
