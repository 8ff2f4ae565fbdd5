"""The twelve steps of ../playbooks/steps.yaml."""

import io
from pathlib import Path

from pyinfra import host
from pyinfra.facts.files import Sha256File
from pyinfra.operations import files, server

at = host.data.area + "/bench-pyinfra"
ours = str(Path(__file__).resolve().parent.parent / "playbooks")

files.directory(name="1 folders", path=f"{at}/app/conf")
files.template(name="2 configuration", src=f"{ours}/app.conf", dest=f"{at}/app/conf/app.conf", who=host.name)
files.put(name="3, 4 start script that may be run", src=f"{ours}/start.sh", dest=f"{at}/app/start.sh", mode="755")
host.get_fact(Sha256File, path=f"{at}/app/start.sh")
server.shell(name="6 a copy", commands=[f"cp {at}/site.ini {at}/site.bak"])
files.line(name="7 a setting", path=f"{at}/site.ini", line="^LEVEL=.*", replace="LEVEL=debug")
files.line(name="8 another one", path=f"{at}/site.ini", line="^NAME=.*", replace=f"NAME={host.name}")
files.link(name="9 a link", path=f"{at}/app/current", target="conf")
files.file(name="10 what is old goes", path=f"{at}/old.log", present=False)
files.put(name="11 the version", src=io.StringIO("12.3.0\n"), dest=f"{at}/app/VERSION.txt")
server.shell(name="12 is read", commands=[f"cat {at}/app/VERSION.txt"])
