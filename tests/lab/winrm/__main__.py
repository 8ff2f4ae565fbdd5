"""A WinRM service for tests, on Linux. It is not Windows.

It speaks MS-WSMV as Windows does on the wire: logging on is bound to the connection, NTLM, SPNEGO and Kerberos seal the
messages, and client certificates and Basic go through TLS. What is logged on with and sealed is pyspnego's: a wrong answer, signature,
sequence number or length is refused. Commands run under /bin/sh, or in Wine.

    pip install pyspnego cryptography          (Kerberos: pyspnego[kerberos])

    python tests/lab/winrm --port 0 --user 'BENCH:deploy:Pass-w0rd' --port-file p.txt
    python tests/lab/winrm --port 5986 --tls --user ... --client-ca ca.pem --cert-user CN=deploy

Quotas, restarts and faults come on request: --max-shells and its like, `shutdown /r`, and /_bench/ with --bench-control.
"""
import argparse
import http.server
import json
import os
import select
import shutil
import signal
import socket
import socketserver
import ssl
import sys
import tempfile
import threading
import time

import state
from handler import Handler
from machine import Bench
from tls import tls_context


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True
    tls = cert_hash = None

    def suspend(self):
        self.socket.close()

    def resume(self):
        fam = self.address_family
        s = socket.socket(fam, socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(self.server_address[:2])
        s.listen(self.request_queue_size)
        self.socket = s

    def loop(self):
        while True:
            sock = self.socket
            try:
                r, _, _ = select.select([sock], [], [], 0.1)
                if r:
                    self._handle_request_noblock()
            except (OSError, ValueError):
                time.sleep(0.05)

    def handle_error(self, request, client_address):
        e = sys.exc_info()[1]
        if not isinstance(e, (OSError, ssl.SSLError)):
            super().handle_error(request, client_address)
        else:
            state.log(conn="%s:%s" % client_address[:2], io=str(e))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=5985, help="0 = any free port")
    p.add_argument("--port-file", help="write the port here once listening")
    p.add_argument("--path", default="/wsman")
    p.add_argument("--user", action="append", default=[], metavar="DOMAIN:USER:PASSWORD")
    p.add_argument("--user-file", help="NTLM_USER_FILE of pyspnego / gss-ntlmssp: DOMAIN:USER:PASSWORD lines")
    p.add_argument("--auth", default="negotiate,basic,certificate", help="offered schemes, in this order "
                   "(negotiate, ntlm, kerberos, basic, certificate)")
    p.add_argument("--kerberos", action="store_true", help="accept Kerberos too (gssapi + KRB5_KTNAME)")
    p.add_argument("--spn-host", default=socket.gethostname())
    p.add_argument("--spn-service", default="HTTP")
    p.add_argument("--allow-unencrypted", action="store_true", help="AllowUnencrypted=true (plain SOAP and Basic over http)")
    p.add_argument("--tls", action="store_true")
    p.add_argument("--cert", help="PEM; default: self signed, made on start")
    p.add_argument("--key")
    p.add_argument("--client-ca", help="PEM of the CA of client certificates")
    p.add_argument("--cert-user", action="append", default=[], metavar="SUBJECT|SHA256=>USER")
    p.add_argument("--cbt", choices=("none", "relaxed", "strict"), default="relaxed", help="channel binding over TLS")
    p.add_argument("--powershell", default="/bin/sh", help="what runs PowerShell text; '{}' = path of a .ps1 file "
                   "(for example: pwsh -NoProfile -File {})")
    p.add_argument("--wine", metavar="PREFIX", help="run commands in this Wine prefix, made by tests/lab/wine")
    p.add_argument("--clixml", action="store_true", help="stderr of powershell comes as '#< CLIXML'")
    p.add_argument("--oem-codepage", type=int, default=437)
    p.add_argument("--raw-output", action="store_true", help="no code page conversion of output")
    p.add_argument("--workdir", default=None)
    p.add_argument("--max-envelope-kb", type=int, default=500)
    p.add_argument("--max-shells", type=int, default=30)
    p.add_argument("--max-processes", type=int, default=25)
    p.add_argument("--max-operations", type=int, default=1500)
    p.add_argument("--max-timeout", type=float, default=60.0, help="MaxTimeoutms: upper bound of a Receive")
    p.add_argument("--max-command-line", type=int, default=8191)
    p.add_argument("--short-idle", type=float, default=60.0, help="least IdleTimeout accepted")
    p.add_argument("--idle-scale", type=float, default=1.0, metavar="F",
                   help="shells end F times their IdleTimeout after the last request: 0.02 makes 1.8 s of 90 s")
    p.add_argument("--chunk", type=int, default=0, help="at most N raw bytes per Receive")
    p.add_argument("--reboot-seconds", type=float, default=3.0)
    p.add_argument("--boot-503", type=float, default=0.0, help="after a reboot answer 503 for N seconds")
    p.add_argument("--bench-control", action="store_true", help="/_bench/state, /_bench/inject, /_bench/reboot")
    p.add_argument("--log", help="JSON lines; - = stderr")
    state.OPT = p.parse_args()
    state.OPT.auth = [a.strip().lower() for a in state.OPT.auth.split(",") if a.strip()]
    state.OPT.state = tempfile.mkdtemp(prefix="winrm-bench-")
    state.OPT.workdir = state.OPT.workdir or state.OPT.state
    if not state.OPT.user_file:
        state.OPT.user_file = os.path.join(state.OPT.state, "users")
        with open(state.OPT.user_file, "w") as f:
            for user in state.OPT.user or ["BENCH:deploy:Pass-w0rd"]:
                # As Windows takes a local account: with the machine's name in front, or without.
                f.write(f"{user}\n:{user.partition(':')[2]}\n")
    os.environ["NTLM_USER_FILE"] = state.OPT.user_file
    state.BENCH = Bench()
    srv = state.BENCH.server = Server((state.OPT.host, state.OPT.port), Handler)
    if state.OPT.tls:
        srv.tls, srv.cert_hash, state.OPT.cert = tls_context()
    threading.Thread(target=state.BENCH.reap_idle, daemon=True).start()
    port = srv.server_address[1]
    if state.OPT.port_file:
        with open(state.OPT.port_file + ".tmp", "w") as f:
            f.write(str(port))
        os.rename(state.OPT.port_file + ".tmp", state.OPT.port_file)
    print(json.dumps({"port": port, "tls": state.OPT.tls, "cert": state.OPT.cert, "users": state.OPT.user_file, "pid": os.getpid()}), flush=True)
    signal.signal(signal.SIGTERM, quit_now)
    signal.signal(signal.SIGINT, signal.default_int_handler)    # a handler, so that children start with the default
    try:
        srv.loop()
    except KeyboardInterrupt:
        quit_now()


def quit_now(*_):
    """End what the shells run and remove our temporary directory (users file, key)."""
    for s in list(state.BENCH.shells.values()):
        s.close()
    shutil.rmtree(state.OPT.state, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
