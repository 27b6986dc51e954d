"""A tiny model server of its own process: tells who it is and which headers it got; with faults to order.

``python tiny_model.py PORT NAME FAULT``; FAULT is ``none``, ``error`` (always 500) or ``slow`` (a second).
"""

import asyncio
import json
import sys


async def serve(port, name, fault):
    async def converse(reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").strip().split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                await reader.readexactly(int(headers.get("content-length", 0)))
                if fault == "slow":
                    await asyncio.sleep(1)
                body = json.dumps({"by": name, "path": first.split()[1], "headers": headers}).encode()
                status = b"500 Broken" if fault == "error" else b"200 OK"
                writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), *sys.argv[2:]))
