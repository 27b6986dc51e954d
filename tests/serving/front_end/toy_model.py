"""A model server of the v1 protocol in a process of its own, with faults to order: ``POST /mode`` sets the next ones.

A row with a distance of 13 km breaks the whole call, as a NaN does in a real one.

The model: 100 + distance + 10 · shop_minutes (5 when null) + 7 when express. Mode ``far`` adds 200; ``zone`` answers
200 + zone_minutes.
"""

import asyncio
import json
import sys

import uvicorn

MODE = {"mode": "good"}
SEEN = []


def predict(row):
    distance, _, _, shop_minutes, _, _, express = row
    return 100.0 + distance + (5.0 if shop_minutes is None else 10.0 * shop_minutes) + 7.0 * express


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"] == "/mode":
        MODE.update(json.loads(body or b"{}"))
        await answer(send, 200, {"seen": SEEN})
        return
    rows = json.loads(body)["instances"]
    SEEN[:] = [{name.decode(): value.decode() for name, value in scope["headers"]}, len(rows)]
    status = 200
    values = [predict(row) for row in rows]
    document = {"predictions": values}
    match MODE["mode"]:
        case "slow":
            await asyncio.sleep(1)
        case "error":
            status, document = 500, {"error": "broken"}
        case "short":
            values.append(1.0)
        case "text":
            values[:] = ["late"] * len(rows)
        case "html":
            document = "<html>"
        case "second_null":
            values[1] = None
        case "far":
            values[:] = [value + 200.0 for value in values]
        case "zone":
            values[:] = [200.0 + (row[5] or 0.0) for row in rows]
        case "null":
            values[:] = [None] * len(rows)
        case "hang":
            await asyncio.sleep(30)
        case "low":
            values[:] = [-5.0] * len(rows)
    if any(row[0] == 13 for row in rows):
        status, document = 500, {"error": "13"}
    await answer(send, status, document)


async def answer(send, status, document):
    body = json.dumps(document).encode()
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
