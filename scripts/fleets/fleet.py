"""A fleet: instruments of the shipped inventory, what leads to them, and the files for a controller."""

import fcntl
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .common import HERE, PATIENCE, TARGET, end_all_of, names_in, need, replace, run, say, stop
from .ssh import Server, WindowsServer, greets
from .winrm import WinrmService

sys.path.insert(0, str(HERE / "tests/lab/wine"))
import instrument as wine  # noqa: E402  what a Wine instrument is
import kit as wine_kit  # noqa: E402

ALWAYS = ["NDXLARMOR", "NDXZOOM"]
# The longest path of a local socket, and what is added to DIR/sandboxes/NAME for the agent's.
SOCKET_LIMIT = 107
SOCKET = ".ibexdeploy/worker.sock"


class Fleet:
    def __init__(self, folder):
        # One name for it, whatever links lead there: processes are known by it.
        self.dir = Path(os.path.realpath(folder))
        self.key = self.dir / "id_ed25519"
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.sshd = None
        self.winrm = WinrmService(self)

    def servers(self):
        """Of those instruments that have ever had one here."""
        return [Server(self, name) for name in names_in(self.dir / "sshd")]

    def machine(self, name):
        """The Wine prefix of an instrument, whether it is there or not."""
        return wine.Instrument(self.dir / "wine" / name)

    def machines(self):
        """The Wine prefixes that are there."""
        return [self.machine(name) for name in names_in(self.dir / "wine")]

    def services(self):
        """The WinRM services that were ever started here."""
        services = [WinrmService(self, name) for name in names_in(self.dir / "winrm") if name in names_in(self.dir / "wine")]
        return [s for s in [self.winrm, *services] if (s.folder / "pid").exists()]

    def lock(self):
        """Nobody else starts or ends servers here meanwhile."""
        held = open(self.dir / ".lock", "w")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stop(f"another scripts/fleet is at work in {self.dir}", "wait for its end")
        return held

    def up(self, count, binary, kits):
        self.need_ssh()
        instruments = self.choose(count, binary)
        self.check_length(instruments)
        self.dir.mkdir(parents=True, exist_ok=True)
        with self.lock():
            self.make_sandboxes(instruments, binary, kits)
            self.up_servers(instruments, [Server(self, i["name"]) for i in instruments])
        self.say_next(binary)

    def need_ssh(self):
        self.sshd = need("sshd", "openssh-server")
        for program in ("ssh", "ssh-keygen"):
            need(program, "openssh-client")
        if re.search(r"\s|[\"'#{}\\]", str(self.dir)):
            stop(f"sshd cannot read the path {self.dir}", "choose a folder without spaces, quotes and signs")

    def up_servers(self, instruments, servers):
        if os.geteuid() == 0:
            # The folder that sshd locks itself into, which a running system's own sshd would have made.
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        if not self.key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "scripts/fleet", "-f", self.key], "make a key")
        names = {s.name for s in servers}
        for other in self.servers():
            if other.name not in names and other.end():
                say(f"{other.name} is no part of the fleet any more: ended")
        fresh = [s for s in servers if s.pid() is None]
        for server in fresh:
            server.start()
        self.write_files(instruments, servers)
        self.log_in(servers[0])
        say(f"{len(servers)} SSH servers are up, {len(fresh)} of them started now; instruments are reached as {self.user}")
        if os.geteuid() != 0:
            say(f"not run by root: other accounts than {self.user}, and passwords, cannot be tried with these servers")

    def up_winrm(self, count, binary, kits):
        instruments = self.choose(count, binary)
        self.check_length(instruments)
        self.dir.mkdir(parents=True, exist_ok=True)
        with self.lock():
            self.make_sandboxes(instruments, binary, kits)
            fresh = self.winrm.start()
            ways = [("winrm", {
                "user": self.winrm.USER, "auth": "ntlm", "password": "fleet", "address": "127.0.0.1", "port": self.winrm.port(),
                "root": str(self.dir / "sandboxes" / i["name"]), "timeout": "20s",
            }) for i in instruments]
            self.write_winrm(instruments, ways, "as sandboxes behind a WinRM service")
        say(f"the WinRM service is up on port {self.winrm.port()}{', started now' if fresh else ''}, with {len(instruments)} instruments behind it")
        self.say_next(binary)

    def write_winrm(self, instruments, ways, where):
        text = self.inventory(instruments, ways, where)
        secret = f"\n  secrets:\n    fleet: {{file: {self.winrm.password}}}\n"
        replace(self.dir / "inventory.yaml", text.replace("\n  secrets:\n", secret, 1) if "\n  secrets:\n" in text
                else text.replace("\ndefaults:\n", f"\ndefaults:{secret}", 1))

    def up_wine(self, count, binary, kits, transport, also_linux):
        if transport == "wine-ssh":
            self.need_ssh()
        instruments = self.choose(count, binary)
        template = wine.Template(TARGET)
        template.prepare()
        self.dir.mkdir(parents=True, exist_ok=True)
        with self.lock():
            self.make_machines(instruments, binary, kits, template, also_linux)
            names = [i["name"] for i in instruments]
            if transport == "wine-ssh":
                self.up_servers(instruments, [WindowsServer(self, name) for name in names])
            else:
                (self.dir / "ssh_config").unlink(missing_ok=True)
                services = [WinrmService(self, name) for name in names]
                fresh = sum([service.start() for service in services])
                ways = [("winrm", {
                    "user": service.USER, "auth": "ntlm", "password": "fleet", "address": "127.0.0.1", "port": service.port(), "timeout": "60s",
                }) for service in services]
                self.write_winrm(instruments, ways, "as Wine instruments behind WinRM services")
                say(f"{len(services)} WinRM services are up, {fresh} of them started now")
        self.say_next(binary, f" --agent-dir {os.path.relpath(TARGET)}/windows")

    def make_machines(self, instruments, binary, kits, template, also_linux):
        """Wine prefixes with what the sandboxes of a rehearsal have on drive C, and Windows programs for the site's scripts."""
        missing = [i for i in instruments if not self.machine(i["name"]).prefix.exists()]
        if missing or not (self.dir / "kits").exists():
            self.make_sandboxes(instruments, binary, kits)
            rehearsed, own = (self.dir / "kits").resolve(), self.dir / "windows-kits"
            own.mkdir(exist_ok=True)
            wine_kit.make_kits(rehearsed, own, template.program("site"), also_linux)
            (self.dir / "kits").unlink()
            (self.dir / "kits").symlink_to(own)
        domain = "isis.cclrc.ac.uk"

        def make(instrument):
            machine, sandbox = self.machine(instrument["name"]), self.dir / "sandboxes" / instrument["name"]
            if not machine.prefix.exists():
                server = sandbox / "c/Instrument/Apps/EPICS"
                # The machines have no git program, and the rehearsal's database server is Linux' own.
                for folder in ("Apps/EPICS/.git", "Settings", "Scripts", "Apps/MySQL", "Var/mysql"):
                    shutil.rmtree(sandbox / "c/Instrument" / folder, ignore_errors=True)
                if server.exists():
                    wine_kit.put_programs(server, template.program("site"), also_linux)
                machine.make(template)
                machine.install(sandbox / "c")
                shutil.rmtree(sandbox)
            machine.start(instrument["name"], domain)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(make, instruments))

    def say_next(self, binary, more=""):
        program = os.path.relpath(binary) if Path(binary).is_relative_to(Path.cwd()) else binary
        given = f"--inventory {self.dir}/inventory.yaml --kits {self.dir}/kits{more}"
        # Releases of the caller's own may bring a database server, which no instrument of a fleet has.
        skip = " --skip-tags mysql" if any((self.dir / "kits").glob("*/MySQL")) else ""
        print(f"""\
next (IBEX does not run in a new fleet: the release starts it, and until then `check` fails):
  {program} {given} status
  {program} {given} release --all --yes{skip}
  {program} {given} check --all
  scripts/fleet down --dir {self.dir}""")

    def choose(self, count, binary):
        """The first instruments of the shipped inventory, in its order, always with those that every fleet has."""
        out = run([binary, "--inventory", HERE / "inventory/ndx.yaml", "inventory", "list", "--output", "json"], "read the inventory")
        every = json.loads(out)
        if not 1 <= count <= len(every):
            stop(f"a fleet has 1 to {len(every)} instruments (as inventory/ndx.yaml), not {count}")
        names = ALWAYS + [i["name"] for i in every if i["name"] not in ALWAYS]
        return [i for i in every if i["name"] in names[:count]]

    def check_length(self, instruments):
        sockets = [self.dir / "sandboxes" / i["name"] / SOCKET for i in instruments]
        over = max(len(os.fsencode(s)) for s in sockets) - SOCKET_LIMIT
        if over > 0:
            stop(f"the path {self.dir} is {over} bytes too long",
                 f"the agent's socket lies below it, and the system allows {SOCKET_LIMIT} bytes for its path; try --dir /tmp/fleet")

    def make_sandboxes(self, instruments, binary, kits):
        """By a rehearsal that plans and contacts nobody: it makes a kit and the sandboxes that are not there yet."""
        folder, link = self.dir / "sandboxes", self.dir / "kits"
        command = [binary, "--inventory", HERE / "inventory/ndx.yaml", "--playbooks", HERE / "playbooks", "--state", self.dir / "state"]
        command += [f"--rehearse={folder}", "plan", "check", ",".join(i["name"] for i in instruments)]
        command += ["--kits", Path(kits).resolve()] if kits else []
        run(command, "make the sandboxes")
        if not kits:
            # Only the commands of a rehearsal give sandboxes a database server; here none runs that could be upgraded.
            for release in (folder / "kits").iterdir():
                shutil.rmtree(release / "MySQL", ignore_errors=True)
        if link.is_symlink():
            link.unlink()
        elif link.exists():
            stop(f"{link} is there and was not made by scripts/fleet", "remove it, or choose another --dir")
        link.symlink_to(Path(kits).resolve() if kits else folder / "kits")

    def write_files(self, instruments, servers):
        hosts = [(f"[127.0.0.1]:{s.port()}", s) for s in servers]
        replace(self.dir / "known_hosts", "".join(f"{host} {s.public_key()}\n" for host, s in hosts))
        config = "".join(f"Host {s.name}\n  Port {s.port()}\n" for s in servers)
        replace(self.dir / "ssh_config", config + f"""\
Host *
  HostName 127.0.0.1
  User {self.user}
  IdentityFile {self.key}
  IdentitiesOnly yes
  UserKnownHostsFile {self.dir}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
""")
        windows = isinstance(servers[0], WindowsServer)
        ways = [("ssh", {
            "user": self.user, "address": "127.0.0.1", "port": s.port(), "key": str(self.key), "known_hosts": f"{self.dir}/known_hosts",
            **({"timeout": "60s"} if windows else {"root": str(s.root), "timeout": "20s"}),
        }) for s in servers]
        where = "as Wine instruments behind SSH servers" if windows else "as sandboxes behind SSH servers"
        replace(self.dir / "inventory.yaml", self.inventory(instruments, ways, where))

    def inventory(self, instruments, ways, where):
        """The shipped inventory's defaults and groups, with other ways to reach the instruments."""
        shipped = (HERE / "inventory/ndx.yaml").read_text()
        head = shipped[shipped.index("\ndefaults:"):shipped.index("\ninstruments:")]
        lines = [f"# Written by scripts/fleet: instruments of inventory/ndx.yaml {where}.{head}\ninstruments:"]
        for instrument, (transport, settings) in zip(instruments, ways):
            lines.append(f"  {instrument['name']}:")
            lines.append(f"    groups: [{', '.join(instrument['groups'])}]")
            if instrument.get("seci"):
                # JSON is YAML as well.
                lines.append(f"    seci: {json.dumps(instrument['seci'])}")
            lines.append(f"    transport:\n      {transport}:")
            lines += [f"        {key}: {value}" for key, value in settings.items()]
            if self.machine(instrument["name"]).prefix.exists():
                # Wine knows one user: whoever runs it.
                lines.append(f"    accounts:\n      instrument: {{user: {self.user}}}")
        return "\n".join(lines) + "\n"

    def log_in(self, server):
        """A server can answer and still let nobody in: the account may be locked, its shell may refuse."""
        command = ["ssh", "-F", self.dir / "ssh_config", "-o", f"ConnectTimeout={PATIENCE}", server.name, "echo", "hello"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0 or done.stdout.strip() != "hello":
            stop(f"{self.user} cannot log in to {server.name}: {(done.stdout + done.stderr).strip()}", f"see {server.log}")

    def down(self):
        if not self.servers() and not self.winrm.folder.exists() and not self.machines():
            say(f"nothing was ever up in {self.dir}")
            return
        with self.lock():
            ended = sum([s.end() for s in self.servers()])
            services = sum([s.end() for s in self.services()])
            also = "" if services == 0 else ", and the WinRM service" if services == 1 else f", and {services} WinRM services"
            machines = self.machines()
            for machine in machines:
                machine.remove()
            also += f", and {len(machines)} Wine instruments" if machines else ""
            # Workers and IBEX outlive the servers that they were started through.
            left = end_all_of(self.dir)
            also += f", and {left} process{'' if left == 1 else 'es'} of the instruments" if left else ""
        say(f"{ended} SSH servers ended{also}; `rm -r {self.dir}` removes the rest")

    def status(self):
        """True when all of the last `up` are up."""
        config = self.dir / "ssh_config"
        names = re.findall(r"^Host (\w\S*)$", config.read_text(), re.M) if config.exists() else []
        servers = [Server(self, name) for name in names]
        for server in servers:
            pid = server.pid()
            state = "down" if pid is None else f"process {pid}" if greets(server.port()) else f"process {pid}, which does not answer"
            print(f"{server.name:<12} 127.0.0.1:{server.port()}  {state}")
        services = self.services()
        for service in services:
            pid = service.pid()
            print(f"{service.label:<12} 127.0.0.1:{service.port()}  {'down' if pid is None else f'process {pid}'}")
        down = [m.prefix.name for m in self.machines() if not m.is_up()]
        for name in down:
            print(f"{name:<12} its Wine is down")
        if services and not servers:
            return not down and all(s.pid() is not None for s in services)
        alive = sum(s.pid() is not None for s in servers)
        print(f"{alive} of {len(servers)} up")
        return bool(servers) and alive == len(servers) and not down
