"""A Wine prefix as an instrument: made from the template of scripts/build-windows, started, ended, removed.

    python3 instrument.py FROM TO     copies a prefix, and no more
"""
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Seconds after which a machine that nobody uses any more shuts down, should everybody have forgotten it.
FORGOTTEN = 3600
# Of these folders files are only read: a copy may have the same ones.
SHARED = ("system32", "syswow64", "Fonts", "Installer", "mono", "Microsoft.NET")
PROGRAMS = {"winsh": ["winsh.c"], "start": ["start.c"], "site": ["-municode", "site.c"]}
# Wine names a machine after the Linux one with every start. The override: see start.c.
SETTINGS = r"""REGEDIT4

[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Control\ComputerName\ActiveComputerName]
"ComputerName"="@NAME@"
[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Control\ComputerName\ComputerName]
"ComputerName"="@NAME@"
[HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\Tcpip\Parameters]
"Hostname"="@NAME@"
"NV Hostname"="@NAME@"
"Domain"="@DOMAIN@"
"NV Domain"="@DOMAIN@"
[HKEY_CURRENT_USER\Software\Wine\DllOverrides]
"start.exe"="native"
"""


class WineError(Exception):
    """What went wrong, and what to do about it."""


class Template:
    """What instruments are made of: the prefix of scripts/build-windows, and the bench's own programs."""

    def __init__(self, target):
        windows = Path(target) / "windows"
        tools = os.environ.get("IBEXDEPLOY_WINDOWS_TOOLCHAIN")
        self.prefix = (Path(tools) if tools else windows / "toolchain") / "prefix"
        self.programs = windows / "lab"

    def prepare(self):
        """Compiles the programs that are older than their source."""
        if not (self.prefix / "system.reg").exists():
            raise WineError(f"there is no Wine prefix in {self.prefix}: scripts/build-windows makes it")
        self.programs.mkdir(parents=True, exist_ok=True)
        for name, (*options, source) in PROGRAMS.items():
            source, made = HERE / source, self.program(name)
            if made.exists() and made.stat().st_mtime > source.stat().st_mtime:
                continue
            # Others may do the same at this moment.
            fresh = self.programs / f"{name}.{os.getpid()}"
            done = subprocess.run(["x86_64-w64-mingw32-gcc", "-O2", "-s", "-Wall", "-Wextra", "-Werror", *options, "-o", fresh, source],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True)
            if done.returncode != 0:
                raise WineError(f"{source} cannot be compiled: {done.stderr.strip()}")
            fresh.replace(made)

    def program(self, name):
        return self.programs / f"{name}.exe"


class Instrument:
    def __init__(self, prefix):
        self.prefix = Path(prefix)
        self.drive = self.prefix / "drive_c"

    def make(self, template):
        """Copies the template. What is there already stays."""
        if self.prefix.exists():
            return
        half = self.prefix.with_name(f".half-{self.prefix.name}")
        shutil.rmtree(half, ignore_errors=True)
        half.parent.mkdir(parents=True, exist_ok=True)
        copy_prefix(template.prefix, half)
        windows = half / "drive_c/windows"
        # No other drive: what is not on C: is no part of the machine.
        for link in (half / "dosdevices").iterdir():
            if link.name != "c:":
                link.unlink()
        shutil.copy(template.program("winsh"), windows / "winsh.exe")
        shutil.copy(template.program("site"), windows / "uv.exe")
        system = windows / "system32"
        shutil.copy(system / "start.exe", system / "start-wine.exe")
        (system / "start.exe").unlink()
        shutil.copy(template.program("start"), system / "start.exe")
        half.rename(self.prefix)

    def install(self, drive):
        """Moves the folders of a sandbox's drive C in, but for those that Windows has itself."""
        own = {entry.name.lower() for entry in self.drive.iterdir()}
        for entry in Path(drive).iterdir():
            if entry.name.lower() not in own:
                shutil.move(entry, self.drive / entry.name)

    def start(self, name, domain):
        """Starts the machine, with a name of its own. What runs already goes on."""
        if self.is_up():
            return False
        server = shutil.which("wineserver")
        if not server:
            raise WineError("wineserver is missing: scripts/build-windows installs Wine")
        self.call([server, f"-p{FORGOTTEN}"])
        script = self.drive / "windows/settings.reg"
        script.write_text(SETTINGS.replace("@NAME@", name).replace("@DOMAIN@", domain))
        self.call(["wine", "regedit", "/S", r"C:\windows\settings.reg"])
        script.unlink()
        return True

    def is_up(self):
        return bool(self.processes("wineserver"))

    def end(self):
        """Ends the machine with all of its programs. True when it was up."""
        if not self.is_up():
            return False
        self.call(["wineserver", "-k"])
        deadline = time.monotonic() + 30
        while self.processes():
            if time.monotonic() > deadline:
                raise WineError(f"{self.prefix}: processes {self.processes()} do not end")
            time.sleep(0.05)
        return True

    def remove(self):
        self.end()
        shutil.rmtree(self.prefix, ignore_errors=True)

    def call(self, command):
        """Runs a program of Wine's to its end; nothing that it starts keeps our own output open."""
        log = self.prefix / "log"
        with open(log, "ab") as said:
            done = subprocess.run(["timeout", "120", *map(str, command)], env=self.environment(), cwd=self.drive,
                                  stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        if done.returncode != 0:
            raise WineError(f"{' '.join(map(str, command))} ended with {done.returncode}; see {log}")

    def environment(self):
        return {"WINEPREFIX": str(self.prefix), "WINEDEBUG": "-all", "LC_ALL": "C.UTF-8", "HOME": str(self.prefix), "PATH": "/usr/local/bin:/usr/bin:/bin",
                "USER": os.environ.get("USER", "root")}

    def processes(self, program=""):
        """Linux' numbers of the machine's processes, or those of one program."""
        wanted = f"WINEPREFIX={self.prefix}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if wanted not in (entry / "environ").read_bytes().split(b"\0"):
                    continue
                name = os.path.basename(os.readlink(entry / "exe"))
                wine = "wine" in name
                if wine and program in name:
                    found.append(int(entry.name))
            except OSError:
                # It has ended, or is somebody else's.
                continue
        return found


def copy_prefix(source, target):
    """What is only read is not there twice: the whole has 700 MB."""
    windows = target / "drive_c/windows"
    windows.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name != "drive_c":
            copy(entry, target)
    for entry in (source / "drive_c").iterdir():
        if entry.name != "windows":
            copy(entry, windows.parent)
    for entry in (source / "drive_c/windows").iterdir():
        copy(entry, windows, link=entry.name in SHARED)


def copy(source, folder, link=False):
    """With `link` the files are the same ones, where both lie on one disk."""
    ways = [["cp", "-a", "--link"], ["cp", "-a"]] if link else [["cp", "-a"]]
    for way in ways:
        done = subprocess.run([*way, source, folder], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0:
            return
        shutil.rmtree(Path(folder) / source.name, ignore_errors=True)
    raise WineError(f"{source} cannot be copied: {done.stderr.strip()}")


if __name__ == "__main__":
    copy_prefix(Path(sys.argv[1]), Path(sys.argv[2]))
