"""The state of the machine that is simulated: its shells, its connections, its restarts."""
import socket
import struct
import threading
import time

import state
from faults import WsFault, fault_no_shell


class Bench:
    """State of the simulated machine."""

    def __init__(self):
        self.lock = threading.Lock()
        self.shells, self.conns, self.injections = {}, set(), []
        self.boot_id, self.down_until, self.boot_503_until = 1, 0.0, 0.0
        self.ops = {}
        self.counts = {}
        self.server = None
        self.log_lock = threading.Lock()

    def shell(self, sid, user, session):
        with self.lock:
            sh = self.shells.get((sid or "").upper())
        if not sh or sh.closed:
            raise fault_no_shell()
        if sh.owner.lower() != user.lower():
            raise WsFault(5, "w:AccessDenied", "Access is denied. ")
        if sh.session and sh.session != session:   # measured on Server 2025 (winrm-rs 1.2.2): 0x8033810F
            raise WsFault(0x8033810F, "w:InvalidParameter", "The WS-Management service cannot process the request "
                          "because the request does not contain a valid SessionID element. ")
        return sh

    def begin(self, shell):
        """A request of a shell is under way: a Receive that waits is use of the shell, however long."""
        with self.lock:
            # It may have been idle for too long between being found and now.
            if self.shells.get(shell.id) is not shell:
                raise fault_no_shell()
            shell.requests += 1

    def end(self, shell):
        with self.lock:
            shell.requests -= 1
            shell.used = time.time()

    def reap_idle(self):
        """Ends shells that nobody has asked anything of for their IdleTimeout, with the commands that run in them."""
        while True:
            time.sleep(0.2)
            now = time.time()
            with self.lock:
                dead = [s for s in self.shells.values() if not s.requests and now - s.used > s.idle * state.OPT.idle_scale]
                for s in dead:
                    del self.shells[s.id]
            for s in dead:
                state.log(event="idle", shell=s.id)
                s.close()

    def reboot(self, delay):
        def go():
            time.sleep(delay)
            state.log(event="reboot")
            self.down_until = time.time() + state.OPT.reboot_seconds
            self.boot_503_until = self.down_until + state.OPT.boot_503
            with self.lock:
                shells, self.shells = list(self.shells.values()), {}
                conns = list(self.conns)
            self.server.suspend()
            for s in shells:
                s.close()
            for c in conns:
                try:
                    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))   # RST, as a dying host
                    c.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            time.sleep(max(0.0, self.down_until - time.time()))
            self.boot_id += 1
            self.server.resume()
        threading.Thread(target=go, daemon=True).start()
