"""HTTP as HTTP.sys does it: whoever logs on, logs a connection on."""
import base64
import hashlib
import http.server
import json
import re
import ssl
import struct
import time

import spnego
import spnego.channel_bindings
import spnego.exceptions
from spnego._ntlm_raw.messages import Authenticate, AvId, NTClientChallengeV2

import state
from faults import Down, Expired, Refused
from operations import Request, identify

MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Microsoft-HTTPAPI/2.0"
    sys_version = ""
    disable_nagle_algorithm = True
    timeout = 300

    def setup(self):
        self.cert = None
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
            self.cert = self.request.getpeercert(True)
        super().setup()
        self.conn_id = "%s:%s" % self.client_address[:2]
        self.user = self.ctx = self.scheme = None
        with state.BENCH.lock:
            state.BENCH.conns.add(self.request)

    def finish(self):
        with state.BENCH.lock:
            state.BENCH.conns.discard(self.request)
        try:
            super().finish()
        except OSError:
            pass

    def version_string(self):
        return self.server_version

    def log_message(self, *a):
        pass

    # --- plumbing
    def reply(self, status, body=b"", ctype=None, headers=()):
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        if ctype:
            self.send_header("Content-Type", ctype)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if body:
            self.wfile.write(body)
        self.wfile.flush()
        self.status = status

    def read_body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            out = b""
            while True:
                n = int(self.rfile.readline().split(b";")[0], 16)
                out += self.rfile.read(n)
                self.rfile.readline()
                if n == 0:
                    return out
        n = int(self.headers.get("Content-Length") or 0)
        if n > state.OPT.max_envelope_kb * 1024 * 2:
            self.close_connection = True
            self.rfile.read(min(n, 64 << 20))
            return None
        return self.rfile.read(n)

    def do_GET(self):
        if state.OPT.bench_control and self.path == "/_bench/state":
            with state.BENCH.lock:
                d = {"boot_id": state.BENCH.boot_id, "counts": state.BENCH.counts, "injections": state.BENCH.injections, "connections": len(state.BENCH.conns),
                     "shells": {s.id: {"owner": s.owner, "uri": s.uri, "commands": list(s.commands)}
                                for s in state.BENCH.shells.values()}}
            return self.reply(200, json.dumps(d).encode(), "application/json")
        self.reply(405 if self.path.startswith("/wsman") else 404)

    def do_POST(self):
        t0 = time.time()
        self.info, self.status = {}, 0
        try:
            self.post()
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError) as e:
            self.close_connection = True
            self.info["io"] = str(e)
        except Down:
            self.close_connection = True
            self.info["dropped"] = True
        state.log(conn=self.conn_id, user=self.user, scheme=self.scheme, status=self.status,
            ms=round((time.time() - t0) * 1000, 1), **self.info)

    def post(self):
        body = self.read_body()
        path = self.path.split("?")[0]
        if state.OPT.bench_control and path == "/_bench/inject":
            with state.BENCH.lock:
                state.BENCH.injections.append(dict(json.loads(body)))
            return self.reply(200)
        if state.OPT.bench_control and path == "/_bench/reboot":
            # Whoever asks for it is no part of the machine: the answer must get through.
            with state.BENCH.lock:
                state.BENCH.conns.discard(self.request)
            self.reply(200)
            state.BENCH.reboot(0)
            return
        if path.rstrip("/") != state.OPT.path:
            return self.reply(404)
        if time.time() < state.BENCH.boot_503_until:
            return self.reply(503, b"Service Unavailable", "text/html")
        if body is None:
            self.info["too_big"] = True
            return self.reply(413)
        if self.headers.get("WSMANIDENTIFY", "").lower() == "unauthenticated" and b"Identify" in body:
            return self.reply(200, identify(False), "application/soap+xml;charset=UTF-8")
        if not self.authenticate(body):
            return
        self.serve(body)

    # --- authentication, bound to the connection as HTTP.sys does
    def offers(self):
        plain_ok = bool(self.server.tls) or state.OPT.allow_unencrypted
        out = []
        for s in state.OPT.auth:
            if s == "basic" and plain_ok:
                out.append('Basic realm="WSMAN"')
            elif s in ("negotiate", "kerberos", "ntlm"):
                out.append({"negotiate": "Negotiate", "kerberos": "Kerberos", "ntlm": "NTLM"}[s])
            elif s == "certificate" and self.server.tls:
                out.append(MUTUAL)
        return [("WWW-Authenticate", v) for v in out]

    def deny(self, why):
        self.user = self.ctx = self.final_token = None
        self.info["deny"] = why
        self.reply(401, headers=self.offers())
        return False

    def authenticate(self, body):
        self.final_token = None
        hdr = self.headers.get("Authorization")
        if not hdr:
            return True if self.user and self.scheme not in ("basic", "certificate") else self.deny("no credentials")
        scheme, _, token = hdr.partition(" ")
        scheme_l = "certificate" if hdr.strip() == MUTUAL else scheme.lower()
        if scheme_l not in state.OPT.auth and not (scheme_l == "ntlm" and "negotiate" in state.OPT.auth):
            return self.deny("scheme not offered: " + scheme)
        if scheme_l == "certificate":
            user = cert_user(self.cert)
            if not user:
                return self.deny("no mapped client certificate")
            self.user, self.scheme, self.ctx = user, scheme_l, None
            return True
        try:
            raw = base64.b64decode(token, validate=True)
        except Exception:
            return self.deny("token is not base64")
        if scheme_l == "basic":
            if not (self.server.tls or state.OPT.allow_unencrypted):
                return self.deny("Basic over http needs --allow-unencrypted")
            name, _, pw = raw.decode("utf-8", "replace").partition(":")
            if not check_password(name, pw):
                return self.deny("bad password")
            self.user, self.scheme, self.ctx = name, scheme_l, None
            return True
        try:
            if self.user or not self.ctx or self.scheme != scheme_l:      # first leg, or re-authentication
                self.ctx, self.user, self.scheme = self.new_context(scheme_l, raw), None, scheme_l
            out = self.ctx.step(raw, channel_bindings=self.bindings(raw))
        except spnego.exceptions.SpnegoError as e:
            return self.deny(f"{type(e).__name__}: {e}")
        except Exception as e:      # noqa: a malformed token must not take the bench down
            return self.deny(f"malformed token: {type(e).__name__}: {e}")
        offered = {"negotiate": "Negotiate", "ntlm": "NTLM", "kerberos": "Kerberos"}[scheme_l]
        if not self.ctx.complete:
            self.info["leg"] = len(raw)
            self.reply(401, headers=[("WWW-Authenticate", f"{offered} {base64.b64encode(out or b'').decode()}")])
            return False
        if self.server.tls and state.OPT.cbt == "strict" and self.ctx.negotiated_protocol == "kerberos" and not self.says_channel():
            return self.deny("no channel bindings")
        self.user = self.ctx.client_principal or "?"
        self.info["authenticated"] = self.ctx.negotiated_protocol
        if out:
            self.final_token = ("WWW-Authenticate", f"{offered} {base64.b64encode(out).decode()}")
        return True

    def new_context(self, scheme, raw):
        proto = "ntlm" if raw.startswith(b"NTLMSSP\0") else "kerberos" if scheme == "kerberos" else "negotiate"
        opts = spnego.NegotiateOptions.none
        if proto != "ntlm" and not state.OPT.kerberos:
            opts = spnego.NegotiateOptions.use_negotiate if hasattr(spnego.NegotiateOptions, "use_negotiate") else opts
        return spnego.server(hostname=state.OPT.spn_host, service=state.OPT.spn_service, protocol=proto, options=opts)

    def says_channel(self):
        """MIT's library tells with a flag whether a ticket came with bindings (GSS_C_CHANNEL_BOUND_FLAG); pyspnego does not pass it on."""
        context = getattr(self.ctx, "_context", self.ctx)
        return bool(int(getattr(context, "_context", context).actual_flags) & 2048)

    def bindings(self, raw):
        if not self.server.tls or state.OPT.cbt == "none":
            return None
        if state.OPT.cbt == "relaxed":            # Windows' default: checked only when the client sent one
            i = raw.find(b"NTLMSSP\0\x03\0\0\0")
            if i >= 0:
                resp = Authenticate.unpack(raw[i:]).nt_challenge_response or b""
                if len(resp) > 24 and AvId.channel_bindings not in NTClientChallengeV2.unpack(resp[16:]).av_pairs:
                    return None
        self.info["cbt_checked"] = True
        return spnego.channel_bindings.GssChannelBindings(application_data=b"tls-server-end-point:" + self.server.cert_hash)

    # --- sealing
    def mime_protocol(self):
        return "application/HTTP-Kerberos-session-encrypted" if self.scheme == "kerberos" else "application/HTTP-SPNEGO-session-encrypted"

    def unseal(self, body, ctype):
        m = re.search(r'boundary="?([^";]+)"?', ctype)
        p = re.search(r'protocol="?([^";]+)"?', ctype)
        if not m or not p or p.group(1) != self.mime_protocol():
            raise ValueError(f"bad Content-Type {ctype!r}")
        b = b"--" + m.group(1).encode()
        if not (body.endswith(b + b"--\r\n") or body.endswith(b + b"--")):
            raise ValueError("no closing boundary")
        body = body[:body.rindex(b + b"--")]
        parts = re.split(re.escape(b + b"\r\n"), body)
        if parts[0] != b"" or len(parts) % 2 != 1:
            raise ValueError(f"{len(parts)} parts")
        out = b""
        for h, d in zip(parts[1::2], parts[2::2]):
            head = h.decode("latin-1")
            if self.mime_protocol() not in head:
                raise ValueError("part without protocol")
            n = int(re.search(r"OriginalContent: type=application/soap\+xml;charset=UTF-(?:8|16);Length=(\d+)", head).group(1))
            d = re.sub(rb"^\t?Content-Type: application/octet-stream\r\n", b"", d, count=1)
            (sig,) = struct.unpack("<I", d[:4])
            if sig > 512 or len(d) < 4 + sig:
                raise ValueError(f"signature length {sig}")
            plain = self.ctx.unwrap_winrm(d[4:4 + sig], d[4 + sig:])
            if len(plain) != n:
                raise ValueError(f"Length={n} but {len(plain)} bytes unsealed")
            out += plain
        self.info["sealed"] = True
        return out

    def seal(self, xml):
        proto = self.mime_protocol()
        r = self.ctx.wrap_winrm(xml)
        out = (f"--Encrypted Boundary\r\n\tContent-Type: {proto}\r\n\tOriginalContent: type=application/soap+xml;"
                    f"charset=UTF-8;Length={len(xml) + r.padding_length}\r\n--Encrypted Boundary\r\n"
                    "\tContent-Type: application/octet-stream\r\n").encode() + struct.pack("<I", len(r.header)) + r.header + r.data
        out += b"--Encrypted Boundary--\r\n"
        return out, f'multipart/encrypted;protocol="{proto}";boundary="Encrypted Boundary"'

    # --- one SOAP request
    def serve(self, body):
        final = [self.final_token] if self.final_token else []
        if not body:                         # the authentication round of sealing clients
            return self.reply(200, headers=final)
        ctype = self.headers.get("Content-Type", "")
        sealed = ctype.lower().startswith("multipart/")
        if sealed:
            if not self.ctx:
                return self.reply(400, b"sealed request without a security context", "text/plain")
            try:
                body = self.unseal(body, ctype)
            except Exception as e:           # noqa
                self.info["unseal_error"] = f"{type(e).__name__}: {e}"
                self.close_connection = True
                return self.reply(400)
        elif not self.server.tls and not state.OPT.allow_unencrypted:
            self.info["unencrypted"] = True
            return self.reply(500)           # Windows: empty 500 when AllowUnencrypted=false
        elif "soap+xml" not in ctype:
            return self.reply(415)
        if len(body) > state.OPT.max_envelope_kb * 1024:
            self.info["too_big"] = len(body)
            return self.reply(413)
        try:
            status, xml = Request(self, body).run()
        except Refused as refused:
            return self.reply(refused.status)
        except Expired:
            return self.deny("the ticket has expired")
        self.info.setdefault("bytes", [len(body), len(xml)])
        if sealed:
            data, rtype = self.seal(xml)
        else:
            data, rtype = xml, "application/soap+xml;charset=UTF-8"
        data = damaged(data, self.info.get("injected"))
        self.reply(status, data, rtype, headers=final)


def damaged(body, how):
    """As something on the way may leave an answer."""
    if how == "flip":                       # in the sealed bytes, or in the text
        at = len(body) - 200
        return body[:at] + bytes([body[at] ^ 1]) + body[at + 1:]
    if how == "length":                     # another length than the message has
        return re.sub(rb"Length=(\d+)", lambda m: b"Length=%d" % (int(m.group(1)) + 1), body, count=1)
    if how == "cut":                        # whole for HTTP, and half of it for us
        return body[:len(body) // 2]
    if how == "empty":
        return b""
    return body


def check_password(name, pw):
    dom, _, user = name.rpartition("\\")
    with open(state.OPT.user_file) as f:
        for line in f.read().splitlines():
            p = line.split(":")
            if len(p) == 3 and p[1].lower() == user.lower() and p[2] == pw and (not dom or dom.lower() == p[0].lower()):
                return True
    return False


def cert_user(der):
    if not der:
        return None
    from cryptography import x509
    c = x509.load_der_x509_certificate(der)
    keys = {c.subject.rfc4514_string().lower(), hashlib.sha256(der).hexdigest()}
    for m in state.OPT.cert_user:
        k, _, u = m.rpartition("=>")
        if (k or m).lower() in keys:
            return u or m
    return None
