"""Shells and the commands in them. They run under /bin/sh: it is not Windows. Or in Wine: see windows.py."""
import base64
import codecs
import os
import re
import shlex
import signal
import subprocess
import tempfile
import threading
import time

import state
import windows
from faults import RSP, WsFault, esc, fault_no_command


class Command:
    def __init__(self, shell, cid):
        self.shell, self.id = shell, cid
        self.cond = threading.Condition()
        self.out = {"stdout": bytearray(), "stderr": bytearray()}
        self.open = {"stdout", "stderr"}
        self.exit_code = None
        self.proc = None
        self.decoder = None
        self.reported_done = False

    def spawn(self, argv, env=None, cwd=None):
        env = env or dict(os.environ, **self.shell.env, WINRM_BOOT_ID=str(state.BENCH.boot_id), WINRM_SHELL_ID=self.shell.id)
        cwd = cwd or (self.shell.cwd if self.shell.cwd and os.path.isdir(self.shell.cwd) else state.OPT.workdir)
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                     cwd=cwd, env=env, start_new_session=True)
        for name in ("stdout", "stderr"):
            threading.Thread(target=self.pump, args=(name,), daemon=True).start()
        threading.Thread(target=self.reap, daemon=True).start()

    def fail(self, text, rc=1):
        with self.cond:
            self.out["stderr"] += text.encode()
            self.exit_code, self.open = rc, set()
            self.cond.notify_all()

    def pump(self, name):
        f = getattr(self.proc, name)
        dec = codecs.getincrementaldecoder("utf-8")("replace")
        whole = b""
        while True:
            data = os.read(f.fileno(), 65536)
            if name == "stderr" and self.shell_is_ps and state.OPT.clixml:
                whole += data
                data, out = data, b""
                if not data and whole:
                    out = clixml_errors(whole)
            elif self.shell.codepage in (65001, None) or state.OPT.raw_output:
                out = data
            else:
                out = dec.decode(data, not data).encode("cp%d" % self.shell.codepage, "replace")
            with self.cond:
                # back-pressure: Windows blocks the writer as well when nobody receives
                while len(self.out[name]) > 4 << 20 and self.exit_code is None and not self.shell.closed:
                    self.cond.wait(0.5)
                self.out[name] += out
                if not data:
                    self.open.discard(name)
                self.cond.notify_all()
            if not data:
                return

    shell_is_ps = False

    def reap(self):
        rc = self.proc.wait()
        with self.cond:
            # ExitCode is a signed 32 bit number on the wire; ctrl_c is STATUS_CONTROL_C_EXIT 0xC000013A
            self.exit_code = rc if rc >= 0 else -1073741510 if rc == -signal.SIGINT else 128 - rc
            self.cond.notify_all()

    def done(self):
        return self.exit_code is not None and not self.open

    def kill(self, sig=signal.SIGKILL):
        if self.proc and self.proc.poll() is None:
            try:
                if state.OPT.wine:
                    # Its job ends with it; what has broken away is in the same group.
                    self.proc.kill()
                    return
                os.killpg(self.proc.pid, sig)
            except ProcessLookupError:
                pass


class Shell:
    def __init__(self, sid, uri, owner, session):
        self.id, self.uri, self.owner, self.session = sid, uri, owner, session
        self.env, self.cwd, self.codepage = {}, None, state.OPT.oem_codepage
        self.idle = 7200.0
        self.created = self.used = time.time()
        self.requests = 0
        self.commands, self.closed, self.lock = {}, False, threading.Lock()

    def command(self, cid):
        c = self.commands.get((cid or "").upper())
        if not c:
            raise fault_no_command()
        return c

    def close(self):
        self.closed = True
        for c in list(self.commands.values()):
            c.kill()
            with c.cond:
                c.cond.notify_all()

    def xml(self):
        u = lambda t: "P0DT0H%dM%dS" % (t // 60, t % 60)
        now = time.time()
        return (f'<rsp:Shell xmlns:rsp="{RSP}"><rsp:ShellId>{self.id}</rsp:ShellId><rsp:ResourceUri>{esc(self.uri)}'
                f'</rsp:ResourceUri><rsp:Owner>{esc(self.owner)}</rsp:Owner><rsp:ClientIP>127.0.0.1</rsp:ClientIP>'
                + (f"<rsp:WorkingDirectory>{esc(self.cwd)}</rsp:WorkingDirectory>" if self.cwd else "")
                + f"<rsp:IdleTimeOut>PT{self.idle:.3f}S</rsp:IdleTimeOut><rsp:InputStreams>stdin</rsp:InputStreams>"
                f"<rsp:OutputStreams>stdout stderr</rsp:OutputStreams><rsp:ShellRunTime>{u(now - self.created)}"
                f"</rsp:ShellRunTime><rsp:ShellInactivity>{u(now - self.used)}</rsp:ShellInactivity></rsp:Shell>")


def clixml_errors(data):
    """stderr of powershell.exe with a redirected, non-console host."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\n", "_x000D__x000A_")
    parts = [p + "_x000D__x000A_" for p in text.split("_x000D__x000A_") if p] or [""]
    body = "".join(f'<S S="Error">{esc(p)}</S>' for p in parts)
    return ("#< CLIXML\r\n" '<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'
            '<Obj S="progress" RefId="0"><TN RefId="0"><T>System.Management.Automation.PSCustomObject</T><T>System.Object</T></TN>'
            '<MS><I64 N="SourceId">1</I64><PR N="Record"><AV>Preparing modules for first use.</AV><AI>0</AI><Nil /><PI>-1</PI>'
            '<PC>-1</PC><T>Completed</T><SR>-1</SR><SD> </SD></PR></MS></Obj>' f"{body}</Objs>").encode()


PS_RE = re.compile(r'^"?(?:[^"]*[\\/])?(powershell|pwsh)(?:\.exe)?"?(?:\s+(.*))?$', re.I | re.S)


def start_command(cmd, line, skip_shell):
    """Run what cmd.exe would get.  Special: powershell, shutdown."""
    m = PS_RE.match(line)
    if not skip_shell and len(line) > state.OPT.max_command_line:
        return cmd.fail("The command line is too long.\r\n")
    if re.match(r"^shutdown(\.exe)?\s.*[/-]r", line, re.I):
        t = re.search(r"[/-]t\s+(\d+)", line, re.I)
        state.BENCH.reboot(max(0.5, float(t.group(1)) if t else 1.0))   # even /t 0 leaves time for the answer
        return cmd.spawn(["/bin/true"])
    if state.OPT.wine:
        return windows.start(cmd, line)
    if m:
        rest = m.group(2) or ""
        enc = re.search(r"-e(?:nc|ncodedcommand|c)?\s+(\S+)", rest, re.I)
        plain = re.search(r"-c(?:ommand)?\s+(.*)$", rest, re.I | re.S)
        cmd.shell_is_ps = True
        if enc:
            try:
                script = base64.b64decode(enc.group(1), validate=True).decode("utf-16-le")
            except Exception:
                return cmd.fail("Cannot process the command because the value specified with -EncodedCommand is not "
                                "properly encoded. The value must be Base64 encoded.\r\n")
        elif plain:
            script = plain.group(1)
        else:
            script = rest
        if script.strip() == "-" or not script.strip():
            return cmd.spawn(shlex.split(state.OPT.powershell) + ["-"])
        if re.search(r"\bRestart-Computer\b|shutdown(\.exe)?\s.*/r", script, re.I):
            state.BENCH.reboot(1.0)
            return cmd.spawn(["/bin/true"])
        if "{}" in state.OPT.powershell:
            f = tempfile.NamedTemporaryFile("w", suffix=".ps1", delete=False, encoding="utf-8-sig")
            f.write(script)
            f.close()
            return cmd.spawn([a.replace("{}", f.name) for a in shlex.split(state.OPT.powershell)])
        return cmd.spawn(shlex.split(state.OPT.powershell) + ["-c", script])
    try:
        if skip_shell:
            return cmd.spawn(shlex.split(line))
        return cmd.spawn(["/bin/sh", "-c", line])
    except (FileNotFoundError, ValueError):
        raise WsFault(2147942402, "w:InternalError", "The system cannot find the file specified. ", who="Receiver",
                      provider=("Shell cmd plugin", r"%systemroot%\system32\winrscmd.dll"))
