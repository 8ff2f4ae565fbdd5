"""SFTP (version 3) as a Windows server speaks it: paths are `/C:/folder/file`, in any case of letters.

OpenSSH's sftp-server does the work; this stands in front of it and translates paths. What lies on no drive of the prefix is not there.

    python3 sftp.py PREFIX
"""
import os
import struct
import subprocess
import sys
import threading

SERVERS = ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"]
# Requests that have a path after their number, and those that have two.
ONE_PATH = {3, 7, 9, 11, 13, 14, 15, 16, 17, 19}
TWO_PATHS = {18, 20}
REALPATH, EXTENDED, NAME = 16, 200, 104
EXTENDED_PATHS = {b"posix-rename@openssh.com": 2, b"hardlink@openssh.com": 2, b"statvfs@openssh.com": 1}


class Paths:
    def __init__(self, prefix):
        self.drive = os.path.realpath(os.path.join(prefix, "drive_c"))
        self.home = f"/C:/users/{os.environ.get('USER', 'root')}"

    def native(self, path):
        """Where a client's path lies."""
        path = path.decode("utf-8", "surrogateescape").replace("\\", "/")
        if not path.startswith("/"):
            path = path if path[1:2] == ":" else f"{self.home}/{path}"
        drive, _, rest = path.strip("/").partition("/")
        if drive.upper() != "C:":
            return os.fsencode(self.drive + "/../no such drive")
        found = self.drive
        for word in rest.split("/"):
            if word in ("", "."):
                continue
            if word == "..":
                found = os.path.dirname(found) if found != self.drive else found
            elif os.path.lexists(os.path.join(found, word)) or not os.path.isdir(found):
                found = os.path.join(found, word)
            else:
                other = [name for name in os.listdir(found) if name.lower() == word.lower()]
                found = os.path.join(found, other[0] if other else word)
        return os.fsencode(found)

    def shown(self, path):
        """How a native path is named to the client."""
        drive = os.fsencode(self.drive)
        return b"/C:" + (path[len(drive):] or b"/") if path.startswith(drive) else path


def string(data, at):
    length = struct.unpack_from(">I", data, at)[0]
    return data[at + 4:at + 4 + length], at + 4 + length


def packed(text):
    return struct.pack(">I", len(text)) + text


def packets(stream):
    while True:
        head = stream.read(4)
        if len(head) < 4:
            return
        yield stream.read(struct.unpack(">I", head)[0])


def send(stream, packet):
    stream.write(packed(packet))
    stream.flush()


def translated(packet, paths):
    """A request with the server's paths."""
    kind, at, many = packet[0], 5, 0
    if kind in ONE_PATH:
        many = 1
    elif kind in TWO_PATHS:
        many = 2
    elif kind == EXTENDED:
        name, at = string(packet, 5)
        many = EXTENDED_PATHS.get(name, 0)
    head = packet[:at]
    for _ in range(many):
        path, at = string(packet, at)
        head += packed(paths.native(path))
    return head + packet[at:]


def main():
    paths = Paths(sys.argv[1])
    server = next(path for path in SERVERS if os.path.exists(path))
    process = subprocess.Popen([server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=paths.drive)
    asked = set()

    def answers():
        for packet in packets(process.stdout):
            number = packet[1:5]
            if packet[0] == NAME and number in asked:
                # Of the one name there is, the long form counts for nobody.
                path, _ = string(packet, 9)
                shown = packed(paths.shown(path))
                packet = packet[:9] + shown + shown + struct.pack(">I", 0)
            asked.discard(number)
            send(sys.stdout.buffer, packet)
        os._exit(process.wait() & 255)
    threading.Thread(target=answers, daemon=True).start()
    for packet in packets(sys.stdin.buffer):
        if packet[0] == REALPATH:
            asked.add(packet[1:5])
        send(process.stdin, translated(packet, paths))
    process.stdin.close()
    os._exit(process.wait() & 255)


if __name__ == "__main__":
    main()
