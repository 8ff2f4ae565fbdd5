"""What others do over the same SSH servers: command lines, and their installation."""

import os
import shutil
import subprocess
import sys

from .measure import HERE, say

VENV = HERE / "target" / "bench" / "venv"
VERSIONS = ["ansible-core==2.19.14", "pyinfra==3.10.0"]
# The key exchange that OpenSSH prefers costs its client much of a processor, and its cipher is the slowest.
CHEAP = "-c aes128-gcm@openssh.com -o KexAlgorithms=curve25519-sha256"
STEPS = HERE / "scripts" / "benches" / "peer_steps"


def install():
    """Ansible and pyinfra, for this folder only."""
    say(f"installing {' and '.join(VERSIONS)} below target/bench ...")
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    subprocess.run([VENV / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *VERSIONS], check=True)


def missing():
    """Programs that the comparison needs."""
    return [program for program in ("ssh", "rsync", "zstd", "tar", "xargs", "strip") if not shutil.which(program)]


class Peers:
    """Command lines for a fleet that scripts/fleet has started."""

    def __init__(self, fleet, names, folder):
        self.config = fleet / "ssh_config"
        self.fleet = fleet
        self.names = names
        self.folder = folder / "peers"
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        (self.folder / "names").write_text("".join(f"{n}\n" for n in names))
        self.has_ansible = any(VENV.glob("lib/python*/site-packages/ansible/__main__.py"))
        self.has_pyinfra = (VENV / "bin/pyinfra").exists()
        self.write_inventories()

    def area(self, name):
        """What stands for the drive C of an instrument."""
        return self.fleet / "sandboxes" / name / "c"

    def env(self):
        """Nothing of the user's own settings; a variable that switches Python's caches off would handicap some."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ANSIBLE"))}
        path = f"{VENV / 'bin'}:{kept['PATH']}"
        return {**kept, "PATH": path, "HOME": str(self.home), "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg")}

    def write_inventories(self):
        ports = {}
        for line in self.config.read_text().splitlines():
            words = line.split()
            if words[:1] == ["Host"]:
                name = words[1]
            elif words[:1] == ["Port"]:
                ports[name] = int(words[1])
        user = next(line.split()[1] for line in self.config.read_text().splitlines() if line.split()[:1] == ["User"])
        hosts = "".join(f"{n} area={self.area(n)}\n" for n in self.names)
        (self.folder / "hosts.ini").write_text(hosts)
        (self.folder / "ansible.cfg").write_text(f"""\
[defaults]
inventory = {self.folder}/hosts.ini
forks = {len(self.names)}
gathering = explicit
interpreter_python = /usr/bin/python3
local_tmp = {self.folder}/tmp
home = {self.folder}/ansible
remote_tmp = {self.folder}/remote
retry_files_enabled = False
[ssh_connection]
pipelining = True
ssh_args = -F {self.config} -o ControlMaster=auto -o ControlPersist=10s
control_path_dir = {self.folder}/cp
""")
        data = [
            (n, {
                "ssh_hostname": "127.0.0.1", "ssh_port": ports[n], "ssh_user": user, "ssh_key": str(self.fleet / "id_ed25519"),
                "ssh_known_hosts_file": str(self.fleet / "known_hosts"), "ssh_strict_host_key_checking": "yes",
                "ssh_allow_agent": False, "ssh_look_for_keys": False, "area": str(self.area(n)),
            })
            for n in self.names
        ]
        (self.folder / "pyinfra_hosts.py").write_text(f"hosts = {data!r}\n")

    def each(self, line, at_once=None):
        """A line of shell for every instrument, whose name stands for %."""
        at_once = at_once or len(self.names)
        return ["xargs", "-a", self.folder / "names", "-P", at_once, "-I%", "bash", "-c", line]

    def ssh(self, options=""):
        return f"ssh -F {self.config} {options}"

    def ansible(self, program, *words):
        # Its own commands are missing from some builds of the package.
        return [VENV / "bin/python", "-m", "ansible", program, *words]

    def pyinfra(self, *words):
        return [VENV / "bin/pyinfra", "-y", self.folder / "pyinfra_hosts.py", *words]

    # -- a command everywhere --

    def exec(self):
        found = {
            "ssh, all at once": self.each(f"{self.ssh()} % true"),
            "ssh, cheap ciphers": self.each(f"{self.ssh(CHEAP)} % true"),
        }
        if self.has_ansible:
            found["Ansible ping"] = self.ansible("adhoc", "all", "-m", "ping")
        if self.has_pyinfra:
            found["pyinfra exec"] = self.pyinfra("exec", "--", "true")
        return found

    # -- twelve small steps --

    def steps(self):
        """By the name of the folder, below an instrument's area, that they work in."""
        found = {"bench-by-hand": self.each(f"{STEPS / 'by_hand.sh'} {self.config} % {self.area('%')}/bench-by-hand")}
        if self.has_ansible:
            found["bench-ansible"] = self.ansible("playbook", STEPS / "ansible.yml")
        if self.has_pyinfra:
            found["bench-pyinfra"] = self.pyinfra(STEPS / "with_pyinfra.py")
        return found

    # -- trees: to the folder `peer` of an area --

    def rsync(self, tree):
        return self.each(f"rsync -a --delete -e '{self.ssh(CHEAP)}' {tree}/ %:{self.area('%')}/peer/")

    def tar(self, tree):
        """Packed once, sent whole, and swapped in."""
        packed, script = self.folder / "tree.tar.zst", self.folder / "tar.sh"
        script.write_text(f"""\
set -euo pipefail
tar -C {tree} -I 'zstd -1 -T0' -cf {packed} .
send() {{
  {self.ssh(CHEAP)} "$1" "cd {self.area('$1')} && rm -rf peer.new && mkdir peer.new && tar -C peer.new -I zstd -xf - \\
    && rm -rf peer && mv peer.new peer" < {packed}
}}
export -f send
xargs -a {self.folder}/names -P {len(self.names)} -I% bash -c 'send %'
""")
        return ["bash", script]

    def copy(self, tree):
        """No network: what the machine itself allows."""
        return self.each(f"cp -a {tree}/. {self.area('%')}/peer/", at_once=os.cpu_count())
