"""A Channel Access server for tests: values come as lines `NAME=VALUE` on standard input, and `-NAME` takes one away.

Answers `ready` once it serves, and `set NAME` when a value can be read. Names of block-server variables hold their values as
the real ones do: hexadecimal digits of zlib-compressed text in a character waveform.
"""

import asyncio
import sys
import zlib

from caproto import ChannelChar, ChannelString
from caproto.asyncio.server import Context

WAVEFORM = 4096


def channel(name: str, value: str):
    if ":BLOCKSERVER:" in name:
        return ChannelChar(value=zlib.compress(value.encode()).hex().encode(), max_length=WAVEFORM, string_encoding="latin-1")
    return ChannelString(value=[value])


async def listen(pvs: dict) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while line := (await reader.readline()).decode().rstrip("\n"):
        if line.startswith("-"):
            pvs.pop(line[1:], None)
            name = line[1:]
        else:
            name, value = line.split("=", 1)
            known = pvs.get(name)
            if isinstance(known, ChannelString):
                await known.write([value])
            else:
                pvs[name] = channel(name, value)
        print("set", name, flush=True)


async def main() -> None:
    pvs: dict = {}
    server = asyncio.create_task(Context(pvs, interfaces=["127.0.0.1"]).run(log_pv_names=False))
    await asyncio.sleep(0)
    listener = asyncio.create_task(listen(pvs))
    await asyncio.wait([server, listener], return_when=asyncio.FIRST_COMPLETED)
    server.cancel()


asyncio.run(main())
