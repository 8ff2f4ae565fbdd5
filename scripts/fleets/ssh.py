"""SSH servers, one for each instrument: of this system, and as Windows' own."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

from .common import CLEAN, HERE, children, free_port, run, started, stop, wait

SFTP_SERVERS = ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"]


class Server:
    """The SSH server of one instrument, and its folder."""

    def __init__(self, fleet, name):
        self.fleet, self.name = fleet, name
        self.folder = fleet.dir / "sshd" / name
        self.config = self.folder / "sshd_config"
        self.key = self.folder / "host_ed25519"
        self.log = self.folder / "log"
        self.root = fleet.dir / "sandboxes" / name

    def pid(self):
        """Its process, if it is alive and still this server: a process number alone may be somebody else's by now."""
        try:
            pid = int((self.folder / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except (OSError, ValueError):
            return None
        mine = "sshd" in command.split(f" {self.config}")[0] and f" {self.config} " in command + " "
        return pid if mine else None

    def port(self):
        """The port it was given last."""
        found = re.search(r"^Port (\d+)$", self.config.read_text(), re.M) if self.config.exists() else None
        return int(found[1]) if found else None

    def public_key(self):
        return " ".join(self.key.with_suffix(".pub").read_text().split()[:2])

    def configure(self, port):
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        if not self.key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", self.key], "make a host key")
        self.config.write_text(f"""\
# Written by scripts/fleet.
Port {port}
ListenAddress 127.0.0.1
HostKey {self.key}
PidFile {self.folder}/pid
AuthorizedKeysFile {self.fleet.key}.pub
# The folders above the key file may be open to others, as /tmp is.
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
PrintMotd no
PrintLastLog no
# Controllers open all their links at once.
MaxStartups 200:30:400
LogLevel VERBOSE
# The settings of the user's own shell are no part of an instrument.
{self.session(home)}
Subsystem sftp {next((p for p in SFTP_SERVERS if os.path.exists(p)), "internal-sftp")}
""")

    def session(self, home):
        """What the server's sessions are like."""
        return f"SetEnv HOME={home}"

    def start(self):
        """Starts it, on its last port if that is still free."""
        wanted = [self.port()] if self.port() else []
        for port in wanted + [free_port() for _ in range(5)]:
            self.configure(port)
            self.log.touch()
            begin = self.log.stat().st_size
            process = subprocess.Popen(
                [self.fleet.sshd, "-D", "-f", self.config, "-E", self.log, *self.lenient()],
                env=CLEAN, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )
            # Its own pid file is the record: it is there before the port answers, and no other program writes it.
            wait(f"{self.name}: the SSH server on port {port}", lambda: process.poll() is not None or (self.pid() and greets(port)))
            if process.poll() is None:
                return
            said = self.log.read_text(errors="replace")[begin:]
            if "Address already in use" not in said:
                stop(f"{self.name}: sshd ended with {process.returncode}", said.strip() or f"see {self.log}")
        stop(f"{self.name}: five free ports were taken by others, one after the other")

    def lenient(self):
        """Newer servers turn away who failed to log in a few times, which is what one tries here."""
        option = ["-o", "PerSourcePenalties=no"]
        known = subprocess.run([self.fleet.sshd, "-t", "-f", self.config, *option], stdin=subprocess.DEVNULL, capture_output=True)
        return option if known.returncode == 0 else []

    def end(self):
        """Ends it and the sessions it has open. True when it was there."""
        pid = self.pid()
        if pid is None:
            return False
        sessions = [(child, started(child)) for child in children(pid)]
        os.kill(pid, signal.SIGTERM)
        wait(f"{self.name}: the end of the SSH server, process {pid}", lambda: self.pid() != pid)
        for child, since in sessions:
            if since is not None and started(child) == since:
                try:
                    os.kill(child, signal.SIGTERM)
                except ProcessLookupError:
                    pass
        return True


class WindowsServer(Server):
    """An SSH server that behaves as Windows' own, with a Wine prefix behind it."""

    def session(self, home):
        program = f"{sys.executable} -B {HERE}/tests/lab/wine/winexec.py"
        prefix = self.fleet.machine(self.name).prefix
        return f"SetEnv HOME={prefix} WINEPREFIX={prefix} WINEDEBUG=-all LC_ALL=C.UTF-8 PATH=/usr/bin:/bin\nForceCommand {program}"


def greets(port):
    """True when an SSH server answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as link:
            link.settimeout(2)
            return link.recv(4) == b"SSH-"
    except OSError:
        return False
