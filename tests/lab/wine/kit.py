"""The site's programs in a rehearsal's kit, for Windows: batch files and stand-ins (site.c) in the place of shell scripts."""
import os
import shutil
from pathlib import Path

# What stands in a batch file, by the script of the rehearsal that it replaces.
SCRIPTS = {
    "start_ibex_server.bat": r"""
@echo off
"%~dp0ioc_tools\caget.exe" IN:X:DAE:RUNSTATE_STR >nul
if %errorlevel%==0 (
  echo IBEX server is already running
) else (
  start "IBEX" /b %~dp0ioc_tools\ibex_server.exe
  echo IBEX server started
)
if not exist C:\Instrument\Var\tmp mkdir C:\Instrument\Var\tmp
echo running>C:\Instrument\Var\tmp\ibex_running.txt
exit /b 0
""",
    "stop_ibex_server.bat": r"""
@echo off
taskkill /f /im ibex_server.exe >nul 2>nul
"%~dp0ioc_tools\caget.exe" --gone
if not %errorlevel%==0 (
  echo IBEX server does not end
  exit /b 1
)
if exist C:\Instrument\Var\tmp\ibex_running.txt del C:\Instrument\Var\tmp\ibex_running.txt
echo IBEX server stopped
exit /b 0
""",
    "create_icp_binaries.bat": r"""
@echo off
if not exist "%~dp0ICP_Binaries" mkdir "%~dp0ICP_Binaries"
copy /y "%~dp0isisicp\isisicp.exe" "%~dp0ICP_Binaries\isisicp.exe" >nul
if not exist "%~dp0ICP_Binaries\isisicp.exe" exit /b 1
echo ICP binaries are in place
exit /b 0
""",
    "ioc_tools/caget.bat": r"""
@"%~dp0caget.exe" %*
""",
}
REGISTER = "@echo off\r\necho the ISISICP programs are registered\r\nexit /b 0\r\n"
INSTALLER = "crtl/vc_redist.x64.exe"


def put_programs(server, site, also_linux=False):
    """Puts them into the server's folder of a release, or into an installed one.

    `site`: the stand-in's executable. `also_linux`: the same folder serves Linux sandboxes as well. Then a script begins with two
    lines for `sh` (cmd.exe complains about the first, and goes on), and the installer, which cannot be both, is left out.
    """
    server = Path(server)
    for name, text in SCRIPTS.items():
        script = server / name
        text = text.lstrip("\n")
        if also_linux:
            linux = server / "ioc_tools" / (script.stem + ".sh")
            if not linux.exists():
                script.replace(linux)
            below = os.path.relpath(linux, script.parent)
            text = f'#!/bin/sh\n:; . "$(dirname "$0")/{below}"; exit\n{text}'
        else:
            text = text.replace("\n", "\r\n")
        script.unlink(missing_ok=True)
        script.write_text(text, newline="")
        script.chmod(0o755)
    tools = server / "ioc_tools"
    for name in ("ibex_server.exe", "caget.exe"):
        copy(site, tools / name)
    if also_linux:
        (server / INSTALLER).unlink(missing_ok=True)
    else:
        copy(site, server / INSTALLER)
    programs = server / "ICP_Binaries/isisdae"
    programs.mkdir(parents=True, exist_ok=True)
    (programs / "register_programs.cmd").write_text(REGISTER, newline="")


def copy(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.copy(source, target)


def make_kits(source, target, site, also_linux=False):
    """Copies the rehearsal's releases in `source` that are not in `target` yet, with the programs put in."""
    for release in sorted(Path(source).iterdir()):
        there = Path(target) / release.name
        if not (release / "EPICS").is_dir() or there.exists():
            continue
        half = Path(target) / f".half-{release.name}"
        shutil.rmtree(half, ignore_errors=True)
        # The machines have no git program, and the rehearsal's database server is Linux' own.
        shutil.copytree(release, half, symlinks=True, ignore=shutil.ignore_patterns(".git", ".rehearsal-kit", "MySQL"))
        put_programs(half / "EPICS", site, also_linux)
        half.rename(there)
