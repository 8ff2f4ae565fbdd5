"""One SOAP request: what WS-Management wants of it, and what it does."""
import base64
import re
import time
import xml.etree.ElementTree as ET

import state
from faults import A, ANON, CFG, KNOWN_HEADERS, P, RES_CMD, RSP, S, W, WSMID, X, Down, Expired, Refused, WsFault, duration, esc, fault_header, fault_no_shell, fault_timeout, new_id
from shells import Command, Shell, start_command


class Request:
    def __init__(self, http_, body):
        self.http, self.body = http_, body
        self.message_id = self.action = self.addressed = None

    def envelope(self, action, body, extra=""):
        rel = f"<a:RelatesTo>{esc(self.message_id)}</a:RelatesTo>" if self.message_id else ""
        return (f'<s:Envelope xml:lang="en-US" xmlns:s="{S}" xmlns:a="{A}" xmlns:x="{X}" xmlns:w="{W}" xmlns:rsp="{RSP}" '
                f'xmlns:p="{P}"><s:Header><a:Action>{action}</a:Action><a:MessageID>uuid:{new_id()}</a:MessageID>{extra}'
                f"<a:To>{ANON}</a:To>{rel}</s:Header><s:Body>{body}</s:Body></s:Envelope>").encode()

    def fault(self, f):
        msg = esc(f.message)
        if f.provider:
            inner = (f'<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{f.code}" '
                     f'Machine="{esc(state.OPT.spn_host)}"><f:Message>{msg}</f:Message></f:WSManFault>')
            msg = f'<f:ProviderFault provider="{f.provider[0]}" path="{f.provider[1]}">{inner}</f:ProviderFault>'
        detail = f"<w:FaultDetail>{f.detail}</w:FaultDetail>" if f.detail else ""
        act = A + "/fault" if f.subcode.startswith("a:") else W.replace(".xsd", "") + "/fault"
        return f.status, self.envelope(act, (
            f"<s:Fault><s:Code><s:Value>s:{f.who}</s:Value><s:Subcode><s:Value>{f.subcode}</s:Value></s:Subcode></s:Code>"
            f'<s:Reason><s:Text xml:lang="en-US">{esc(f.reason)}</s:Text></s:Reason><s:Detail>{detail}<f:WSManFault '
            f'xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{f.code}" Machine="{esc(state.OPT.spn_host)}">'
            f"<f:Message>{msg}</f:Message></f:WSManFault></s:Detail></s:Fault>"))

    def run(self):
        user = self.http.user
        try:
            with state.BENCH.lock:
                n = state.BENCH.ops[user] = state.BENCH.ops.get(user, 0) + 1
            if n > state.OPT.max_operations:
                raise WsFault(2150859174, "w:InternalError", "The WS-Management service cannot process the request. This "
                              f"user is allowed a maximum number of {state.OPT.max_operations} concurrent operations, which has "
                              "been exceeded. Close existing operations for this user, or raise the quota for this user. ",
                              who="Receiver")
            return self.dispatch()
        except WsFault as f:
            self.http.info["fault"] = f.code
            return self.fault(f)
        finally:
            with state.BENCH.lock:
                state.BENCH.ops[user] -= 1
            if self.addressed:
                state.BENCH.end(self.addressed)

    def dispatch(self):
        try:
            env = ET.fromstring(self.body)
        except ET.ParseError as e:
            raise WsFault(2150858770, "w:SchemaValidationError", f"The SOAP XML in the message does not match the "
                          f"corresponding XML schema definition: {e}")
        if env.tag != f"{{{S}}}Envelope":
            raise WsFault(2150858770, "w:SchemaValidationError", "not a SOAP 1.2 envelope")
        head, self.sbody = env.find(f"{{{S}}}Header"), env.find(f"{{{S}}}Body")
        if self.sbody is not None and len(self.sbody) and self.sbody[0].tag == f"{{{WSMID}}}Identify":
            self.http.info["action"] = "Identify"
            return 200, identify(True)
        if head is None or self.sbody is None:
            raise fault_header("missing Header or Body")
        for h in head:
            if h.tag not in KNOWN_HEADERS and h.get(f"{{{S}}}mustUnderstand", "").lower() in ("1", "true"):
                raise WsFault(2150858752, "s:MustUnderstand", f"header not understood: {h.tag}")

        def text(ns, name, required=True):
            e = head.find(f"{{{ns}}}{name}")
            if e is None or not (e.text or "").strip():
                if required:
                    raise fault_header(f"The header {name} is missing. ")
                return None
            return e.text.strip()
        self.message_id = text(A, "MessageID")
        if not re.fullmatch(r"uuid:[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", self.message_id):
            raise fault_header("MessageID is not uuid:<uuid>: " + self.message_id)
        self.action, self.uri = text(A, "Action"), text(W, "ResourceURI")
        text(A, "To")
        reply_to = head.find(f"{{{A}}}ReplyTo/{{{A}}}Address")
        if reply_to is None or (reply_to.text or "").strip() != ANON:
            raise fault_header("ReplyTo must be anonymous")
        self.max_env = int(text(W, "MaxEnvelopeSize", False) or 512000)
        if self.max_env < 8192:
            raise WsFault(2150858768, "w:EncodingLimit", "The MaxEnvelopeSize is smaller than 8192. ")
        self.timeout = duration(text(W, "OperationTimeout", False) or "PT60S")
        self.session = text(P, "SessionId", False)
        self.selectors = {s.get("Name"): (s.text or "").strip() for s in head.findall(f"{{{W}}}SelectorSet/{{{W}}}Selector")}
        self.options = {o.get("Name"): (o.text or "").strip() for o in head.findall(f"{{{W}}}OptionSet/{{{W}}}Option")}
        short = self.action.rsplit("/", 1)[-1]
        self.http.info.update(action=short, shell=self.selectors.get("ShellId"), session=bool(self.session))
        with state.BENCH.lock:
            state.BENCH.counts[short] = state.BENCH.counts.get(short, 0) + 1
        self.inject(short)
        table = {X + "/Create": self.create, RSP + "/Command": self.command, RSP + "/Receive": self.receive,
                 RSP + "/Send": self.send, RSP + "/Signal": self.signal, X + "/Delete": self.delete, X + "/Get": self.get}
        fn = table.get(self.action)
        if not fn:
            raise WsFault(2150858754, "a:ActionNotSupported", "The action is not supported by the service. ")
        body = fn()
        return 200, self.envelope(self.action + "Response", body)

    def inject(self, short):
        with state.BENCH.lock:
            hit = None
            for i in state.BENCH.injections:
                if i.get("action") in (None, short):
                    if i.get("skip", 0) > 0:
                        i["skip"] -= 1
                        continue
                    hit = i
                    i["count"] = i.get("count", 1) - 1
                    if i["count"] <= 0:
                        state.BENCH.injections.remove(i)
                    break
        if not hit:
            return
        self.http.info["injected"] = hit["kind"]
        if hit["kind"] == "drop":                       # request lost before it was done
            raise Down()
        if hit["kind"] == "drop_after":                 # done, but the answer never arrives
            self.do_after = True
            fn = {"Create": self.create, "Command": self.command, "Delete": self.delete, "Send": self.send,
                  "Receive": self.receive, "Signal": self.signal}[short]
            fn()
            raise Down()
        if hit["kind"] == "delay":
            time.sleep(hit["seconds"])
        if hit["kind"] == "status":                     # an answer of HTTP's own, without a body
            raise Refused(hit["status"])
        if hit["kind"] == "expire":                     # the connection's logon is good for nothing any more
            raise Expired()
        if hit["kind"] == "fault":
            raise WsFault(hit["code"], hit.get("subcode", "w:InternalError"), hit.get("reason", "injected"), who="Receiver")

    # --- operations
    def shell(self):
        sh = state.BENCH.shell(self.selectors.get("ShellId"), self.http.user, self.session)
        if sh.uri.lower() != self.uri.lower() and self.action != X + "/Get":
            raise fault_no_shell()          # Windows: a PSRP shell addressed under the cmd URI "was not found"
        if not self.addressed:
            state.BENCH.begin(sh)
            self.addressed = sh
        return sh

    def create(self):
        e = self.sbody.find(f"{{{RSP}}}Shell")
        if e is None:
            raise WsFault(2150858770, "w:SchemaValidationError", "no rsp:Shell")
        if self.uri != RES_CMD:
            raise WsFault(2150858752, "w:InvalidResourceURI", "The resource URI is not known: " + self.uri)
        t = lambda n: (e.findtext(f"{{{RSP}}}{n}") or "").strip()
        sid = (e.get("ShellId") or "").upper() or new_id()
        sh = Shell(sid, self.uri, self.http.user, self.session)
        for v in e.findall(f"{{{RSP}}}Environment/{{{RSP}}}Variable"):
            sh.env[v.get("Name")] = v.text or ""
        sh.cwd = t("WorkingDirectory") or None
        if t("IdleTimeOut") and t("IdleTimeOut").startswith("P"):
            sh.idle = duration(t("IdleTimeOut"))
            if not state.OPT.short_idle <= sh.idle <= 2147483.647:
                raise WsFault(2150859118, "w:InvalidParameter", f"The requested IdleTimeout of {int(sh.idle * 1000)} is outside "
                              "the allowed range. Specify an IdleTimeout value between 60000 and 2147483647. ")
        if self.options.get("WINRS_CODEPAGE"):
            sh.codepage = int(self.options["WINRS_CODEPAGE"])
        with state.BENCH.lock:
            mine = [s for s in state.BENCH.shells.values() if s.owner.lower() == sh.owner.lower()]
            if len(mine) >= state.OPT.max_shells:
                raise WsFault(2150859173, "w:InternalError", "The WS-Management service cannot process the request. This user "
                              f"is allowed a maximum number of {state.OPT.max_shells} concurrent shells, which has been exceeded. "
                              "Close existing shells or raise the quota for this user. ", who="Receiver")
            state.BENCH.shells[sid] = sh
        self.http.info["shell"] = sid
        host = self.http.headers.get("Host", state.OPT.spn_host)
        proto = "https" if self.http.server.tls else "http"
        return (f"<x:ResourceCreated><a:Address>{proto}://{esc(host)}{state.OPT.path}</a:Address><a:ReferenceParameters><w:ResourceURI>"
                f'{esc(self.uri)}</w:ResourceURI><w:SelectorSet><w:Selector Name="ShellId">{sid}</w:Selector></w:SelectorSet>'
                f"</a:ReferenceParameters></x:ResourceCreated>{sh.xml()}")

    def command(self):
        sh = self.shell()
        e = self.sbody.find(f"{{{RSP}}}CommandLine")
        if e is None:
            raise WsFault(2150858770, "w:SchemaValidationError", "no rsp:CommandLine")
        cid = (e.get("CommandId") or "").upper() or new_id()
        args = [a.text or "" for a in e.findall(f"{{{RSP}}}Arguments")]
        live = [c for c in sh.commands.values() if not c.done()]
        if len(live) >= state.OPT.max_processes:
            raise WsFault(2150859175, "w:InternalError", "The WS-Management service cannot process the request. The maximum "
                          "number of concurrent commands per shell has been exceeded. Retry the request later or raise the "
                          "Maximum Commands per Shell quota. ", who="Receiver")
        line = " ".join([e.findtext(f"{{{RSP}}}Command") or ""] + args).strip()
        if line.startswith('"') and line.endswith('"') and line.count('"') == 2 and not args:
            line = line[1:-1]           # winrs quoting: the whole command in one pair of quotes
        c = Command(sh, cid)
        self.http.info["line"] = line[:200]
        start_command(c, line, self.options.get("WINRS_SKIP_CMD_SHELL", "").upper() == "TRUE")
        sh.commands[cid] = c
        return f"<rsp:CommandResponse><rsp:CommandId>{cid}</rsp:CommandId></rsp:CommandResponse>"

    def receive(self):
        sh = self.shell()
        e = self.sbody.find(f"{{{RSP}}}Receive/{{{RSP}}}DesiredStream")
        if e is None:
            raise WsFault(2150858770, "w:SchemaValidationError", "no rsp:DesiredStream")
        cid, want = e.get("CommandId"), (e.text or "").split()
        deadline = time.time() + min(self.timeout, state.OPT.max_timeout)
        limit = max(1024, (min(self.max_env, state.OPT.max_envelope_kb * 1024) - 6000) * 3 // 4)
        if state.OPT.chunk:
            limit = min(limit, state.OPT.chunk)
        prefix = RSP + "/CommandState/"
        cattr = f' CommandId="{esc(cid)}"' if cid else ""
        c = sh.command(cid)
        with c.cond:
            while not any(c.out[n] for n in want if n in c.out) and not c.done() and not sh.closed:
                left = deadline - time.time()
                if left <= 0:
                    raise fault_timeout()
                c.cond.wait(min(left, 1.0))
            if sh.closed:
                if time.time() < state.BENCH.down_until:
                    raise Down()
                raise WsFault(995, "w:InternalError", "The I/O operation has been aborted because of either a thread exit or "
                              "an application request. ", who="Receiver")
            out = ""
            for n in want:
                if n in c.out and c.out[n] and limit > 0:
                    d = bytes(c.out[n][:limit])
                    del c.out[n][:limit]
                    limit -= len(d)
                    out += f'<rsp:Stream Name="{n}"{cattr}>{base64.b64encode(d).decode()}</rsp:Stream>'
            c.cond.notify_all()
            if c.done() and not any(c.out.values()):
                for n in ("stdout", "stderr"):
                    out += f'<rsp:Stream Name="{n}"{cattr} End="true"></rsp:Stream>'
                out += (f'<rsp:CommandState{cattr} State="{prefix}Done"><rsp:ExitCode>{c.exit_code}</rsp:ExitCode></rsp:CommandState>')
                c.reported_done = True
            else:
                out += f'<rsp:CommandState{cattr} State="{prefix}Running"></rsp:CommandState>'
        return f"<rsp:ReceiveResponse>{out}</rsp:ReceiveResponse>"

    def send(self):
        sh = self.shell()
        for s in self.sbody.findall(f"{{{RSP}}}Send/{{{RSP}}}Stream"):
            data = base64.b64decode(s.text or "")
            if s.get("Name") != "stdin":
                raise WsFault(87, "w:InvalidParameter", "The parameter is incorrect. ")
            c = sh.command(s.get("CommandId"))
            try:
                if data:
                    c.proc.stdin.write(data)
                    c.proc.stdin.flush()
                if s.get("End", "").lower() in ("true", "1"):
                    c.proc.stdin.close()
            except (BrokenPipeError, ValueError):
                raise WsFault(109, "w:InternalError", "The pipe has been ended. ", who="Receiver")
        return "<rsp:SendResponse/>"

    def signal(self):
        sh = self.shell()
        e = self.sbody.find(f"{{{RSP}}}Signal")
        cid, code = e.get("CommandId"), (e.findtext(f"{{{RSP}}}Code") or "").strip()
        c = sh.command(cid)
        kind = code.rsplit("/", 1)[-1].lower()
        if kind == "terminate":
            c.kill()
            sh.commands.pop(c.id, None)
        elif kind in ("ctrl_c", "ctrl_break"):
            c.kill(signal.SIGINT)
            threading.Timer(0.2, c.kill, (signal.SIGINT,)).start()      # dash may have lost the first between fork and exec
            if c.reported_done:
                sh.commands.pop(c.id, None)
        else:
            raise WsFault(87, "w:InvalidParameter", "The parameter is incorrect. ")
        return "<rsp:SignalResponse/>"

    def delete(self):
        sh = self.shell()
        with state.BENCH.lock:
            state.BENCH.shells.pop(sh.id, None)
        sh.close()
        return ""

    def get(self):
        if self.uri == CFG:
            return (f'<cfg:Config xmlns:cfg="{CFG}"><cfg:MaxEnvelopeSizekb>{state.OPT.max_envelope_kb}</cfg:MaxEnvelopeSizekb>'
                    "<cfg:MaxTimeoutms>60000</cfg:MaxTimeoutms><cfg:MaxBatchItems>32000</cfg:MaxBatchItems></cfg:Config>")
        return self.shell().xml()


def identify(authenticated):
    v = "OS: 10.0.20348 SP: 0.0 Stack: 3.0" if authenticated else "OS: 0.0.0 SP: 0.0 Stack: 3.0"
    return (f'<s:Envelope xml:lang="en-US" xmlns:s="{S}"><s:Header/><s:Body><wsmid:IdentifyResponse xmlns:wsmid="{WSMID}">'
            f"<wsmid:ProtocolVersion>{W}</wsmid:ProtocolVersion><wsmid:ProductVendor>Microsoft Corporation</wsmid:ProductVendor>"
            f"<wsmid:ProductVersion>{v}</wsmid:ProductVersion></wsmid:IdentifyResponse></s:Body></s:Envelope>").encode()
