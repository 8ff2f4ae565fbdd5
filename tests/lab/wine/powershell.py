"""Plays the one text that ibexdeploy gives to PowerShell, which Wine has only as a stub.

The text must be src/transport/winrm/bring.ps1 word for word, apart from what stands in its marks: nothing else is understood, and so
nothing is shown about PowerShell itself. What is played is what the text asks for: take standard input into a file, compare its
hash, let it install itself, remove what is left.

    python3 powershell.py PREFIX WORDS-OF-THE-COMMAND-LINE...
"""
import base64
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parents[3] / "src/transport/winrm/bring.ps1"
BIN = "ProgramData/ibexdeploy/bin"
OPTIONS = "-NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand "


def fail(text):
    sys.exit(f"bring: {text}")


def understood(words):
    """What stands in the marks of the text."""
    line = " ".join(words)
    if not line.startswith(OPTIONS):
        fail("only an encoded command is played here")
    text = base64.b64decode(line[len(OPTIONS):], validate=True).decode("utf-16-le")
    pattern = re.escape(TEMPLATE.read_text())
    for mark, form in (("NAME", r"[\w.-]+"), ("EARLIER", r"[\w. -]*"), ("SHA256", "[0-9A-F]{64}"), ("BUILD", "[0-9a-f]{64}")):
        pattern = pattern.replace(f"@{mark}@", f"(?P<{mark}>{form})")
    found = re.fullmatch(pattern, text)
    return found or fail("this is another text than bring.ps1, and cannot be played")


def main():
    prefix, *words = sys.argv[1:]
    text = understood(words)
    folder = Path(prefix) / "drive_c" / BIN
    folder.mkdir(parents=True, exist_ok=True)
    for earlier in text["EARLIER"].split():
        (folder / earlier).unlink(missing_ok=True)
    file = folder / text["NAME"]
    try:
        digest = hashlib.sha256()
        with open(file, "xb") as to:
            while piece := sys.stdin.buffer.read(1 << 20):
                digest.update(piece)
                to.write(piece)
        if digest.hexdigest().upper() != text["SHA256"]:
            fail("what arrived is not what was sent")
        program = "C:\\" + BIN.replace("/", "\\") + "\\" + text["NAME"]
        done = subprocess.run(["wine", program, "agent", "install", "--build", text["BUILD"]], stdin=subprocess.DEVNULL, cwd=folder)
        return done.returncode
    except OSError as error:
        fail(error)
    finally:
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    os._exit(main())
