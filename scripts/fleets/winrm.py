"""The WinRM services of tests/lab/winrm."""

import os
import secrets
import signal
import subprocess
from pathlib import Path

from .common import CLEAN, HERE, TARGET, stop, wait


class WinrmService:
    """The one WinRM service of a fleet, which has a sandbox for each instrument behind it; or that of one Wine instrument."""

    USER = "deploy"

    def __init__(self, fleet, name=None):
        self.folder = fleet.dir / "winrm"
        self.password = self.folder / "password"
        self.options = []
        self.label = name or "WinRM service"
        if name:
            self.folder = self.folder / name
            self.options = ["--wine", fleet.machine(name).prefix]
        self.log = self.folder / "log"
        self.port_file = self.folder / "port"

    def pid(self):
        """Its process, if it is alive and still this service."""
        try:
            pid = int((self.folder / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ValueError):
            return None
        return pid if str(self.port_file) in command else None

    def port(self):
        return int(self.port_file.read_text())

    def start(self):
        """Starts it, unless it runs. True when it was started now."""
        if self.pid() is not None:
            return False
        python = TARGET / "lab/bin/python"
        if not python.exists():
            stop(f"{python} is missing", "scripts/test makes it")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.password.exists():
            self.password.touch(mode=0o600)
            self.password.write_text(secrets.token_urlsafe(16))
        # Settings are migrated by git, which wants to know who does it.
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        (home / ".gitconfig").write_text("[user]\n\tname = scripts/fleet\n\temail = fleet@example.org\n")
        wanted = self.port() if self.port_file.exists() else 0
        users = self.folder / "users"
        users.touch(mode=0o600)
        users.write_text(f":{self.USER}:{self.password.read_text()}\n")
        for port in (wanted, 0):
            self.port_file.unlink(missing_ok=True)
            with open(self.log, "a") as log:
                process = subprocess.Popen(
                    [python, "-B", HERE / "tests/lab/winrm", "--port", str(port), "--port-file", self.port_file, "--user-file", users,
                     "--auth", "negotiate", "--spn-host", "localhost", "--log", "-", *self.options],
                    env={**CLEAN, "HOME": str(home)}, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
                )
            wait("the WinRM service", lambda: process.poll() is not None or self.port_file.exists())
            if process.poll() is None:
                (self.folder / "pid").write_text(str(process.pid))
                return True
        stop("the WinRM service does not start", f"see {self.log}")

    def end(self):
        """Ends it and what its shells run. True when it was there."""
        pid = self.pid()
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        wait(f"the end of the WinRM service, process {pid}", lambda: self.pid() != pid)
        return True
