"""Commands on a Wine instrument (--wine PREFIX): they go to winsh.exe (tests/lab/wine) as they came, in a job that ends with them."""
import os
import re
import shlex
import sys
from pathlib import Path

import state

WINE = Path(__file__).resolve().parent.parent / "wine"
SHELL = r"C:\windows\winsh.exe"
POWERSHELL = re.compile(r'^"?(?:[^"]*[\\/])?powershell(?:\.exe)?"?\s+(.*)$', re.I | re.S)


def start(cmd, line):
    prefix = state.OPT.wine
    env = {
        "WINEPREFIX": prefix, "WINEDEBUG": "-all", "LC_ALL": "C.UTF-8", "HOME": prefix, "PATH": "/usr/local/bin:/usr/bin:/bin",
        "USER": os.environ.get("USER", "root"), "WINRM_SHELL_ID": cmd.shell.id, **cmd.shell.env,
    }
    cwd = os.path.join(prefix, "drive_c/users")
    powershell = POWERSHELL.match(line)
    if powershell:
        # Wine's own does nothing.
        words = [sys.executable, "-B", str(WINE / "powershell.py"), prefix, *shlex.split(powershell[1])]
        return cmd.spawn(words, env, cwd)
    return cmd.spawn(["wine", SHELL], {**env, "WINSH_COMMAND": line}, cwd)
