"""Stands between a client and a TLS server on this machine, with a certificate of its own, and hands on what both say.
Usage: between.py CERTIFICATE KEY PORT-OF-THE-SERVER; says on which port it listens."""
import asyncio
import ssl
import sys


async def hand_on(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def main(certificate, key, server):
    towards_client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    towards_client.load_cert_chain(certificate, key)
    towards_server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    towards_server.check_hostname = False
    towards_server.verify_mode = ssl.CERT_NONE

    async def serve(reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", server, ssl=towards_server)
        await asyncio.gather(hand_on(reader, far_writer), hand_on(far_reader, writer))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=towards_client)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
