"""What an SSH server runs for an account of a Wine instrument (ForceCommand), so that it behaves as Win32-OpenSSH's.

The command goes to winsh.exe in the prefix as it came; files are served by sftp.py. When the session ends, winsh.exe is ended, and with
it its job: all processes of the session, but for those that have broken away.

    WINEPREFIX             the instrument
    SSH_ORIGINAL_COMMAND   what the client asks for
"""
import ctypes
import os
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1
SHELL = r"C:\windows\winsh.exe"
# Linux' own variables are no part of a Windows session. Wine makes the rest of them.
KEPT = ("WINEPREFIX", "WINEDEBUG", "LC_ALL", "HOME", "PATH", "USER", "LOGNAME", "WINSH_BREAKAWAY")


def pump(source, to):
    """Copies by hand: a process that has broken away may hold the far end of `source` open, and must not hold the session."""
    while True:
        data = os.read(source.fileno(), 65536)
        if not data:
            return
        while data:
            try:
                data = data[os.write(to, data):]
            except OSError:
                return


def run(command):
    """The exit code of a command in the prefix, as far as 8 bits hold it."""
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    env["WINSH_COMMAND"] = command
    os.chdir(os.path.join(os.environ["WINEPREFIX"], "drive_c", "users"))
    shell = subprocess.Popen(["wine", SHELL], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def end(*_):
        shell.kill()
        os._exit(255)
    # The session's own process is gone: the server has been ended, or its connection broke.
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:
        end()
    pumps = [threading.Thread(target=pump, args=pair, daemon=True) for pair in ((shell.stdout, 1), (shell.stderr, 2))]
    for thread in pumps:
        thread.start()
    code = shell.wait()
    for thread in pumps:
        thread.join(0.3)
    return code & 255 if code >= 0 else 255


def main():
    command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
    if command.split("/")[-1] in ("sftp-server", "internal-sftp"):
        here = os.path.dirname(os.path.abspath(__file__))
        os.execv(sys.executable, [sys.executable, "-B", os.path.join(here, "sftp.py"), os.environ["WINEPREFIX"]])
    os._exit(run(command))


if __name__ == "__main__":
    main()
