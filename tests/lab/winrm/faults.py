"""Faults of WS-Management, as Windows words them, and the names of its XML."""
import html
import re
import uuid

S = "http://www.w3.org/2003/05/soap-envelope"
A = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
W = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
P = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
X = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
RSP = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
CFG = "http://schemas.microsoft.com/wbem/wsman/1/config"
WSMID = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
ANON = A + "/role/anonymous"
RES_CMD = RSP + "/cmd"

KNOWN_HEADERS = {
    f"{{{A}}}{n}" for n in ("To", "ReplyTo", "Action", "MessageID", "RelatesTo", "FaultTo", "From")
} | {
    f"{{{W}}}{n}" for n in ("MaxEnvelopeSize", "Locale", "OperationTimeout", "ResourceURI", "SelectorSet", "OptionSet")
} | {f"{{{P}}}{n}" for n in ("DataLocale", "SessionId", "OperationID", "SequenceId", "CompressionType", "ActivityId")}


def esc(t):
    return html.escape(str(t), quote=True)


def new_id():
    return str(uuid.uuid4()).upper()


class WsFault(Exception):
    """A SOAP fault as Windows writes it (shape taken from recorded answers)."""

    def __init__(self, code, subcode, reason, who="Sender", detail=None, message=None, provider=None, status=500):
        super().__init__(reason)
        self.code, self.subcode, self.reason, self.who = code, subcode, reason, who
        self.detail, self.message, self.provider, self.status = detail, message or reason, provider, status


def fault_timeout():
    return WsFault(2150858793, "w:TimedOut", "The WS-Management service cannot complete the operation within the "
                   "time specified in OperationTimeout.  ", who="Receiver")


def fault_no_shell():
    return WsFault(2150858843, "w:InvalidSelectors", "The WS-Management service cannot process the request because "
                   "the request contained invalid selectors for the resource. ",
                   detail=W.replace(".xsd", "") + "/faultDetail/UnexpectedSelectors",
                   provider=("Shell provider", r"%systemroot%\system32\WsmSvc.dll"))


def fault_no_command():
    return WsFault(2150858843, "w:InvalidSelectors", "The WS-Management service cannot process the request because "
                   "the request contained invalid selectors for the resource. ",
                   detail=W.replace(".xsd", "") + "/faultDetail/UnexpectedSelectors",
                   message="The Windows Remote Shell received a request to perform an operation on a command "
                   "identifier that does not exist. Either the command has completed execution or the client "
                   "specified an invalid command identifier. ")


def fault_header(msg):
    return WsFault(2150858767, "a:InvalidMessageInformationHeader", "The WS-Management service cannot process the "
                   "request. The request contains one or more invalid SOAP headers. ", message=msg)


def duration(text):
    m = re.fullmatch(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:([\d.]+)S)?)?", text.strip())
    if not m:
        raise fault_header("The WS-Management service cannot process the request. The XML contains an invalid "
                           f"timeout field in the SOAP header: {esc(text)}. ")
    d, h, mi, s = (float(g or 0) for g in m.groups())
    return ((d * 24 + h) * 60 + mi) * 60 + s


class Down(Exception):
    """The machine is gone: the connection breaks without an answer."""


class Expired(Exception):
    """The ticket that the connection was logged on with has expired."""


class Refused(Exception):
    """HTTP answers in the place of WS-Management."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status
