"""The ceiling of the door: the same server, signature check and decoding, but no Kafka; `python -m tests.bench.ceiling PORT`.

What the door reaches is read as a share of this, measured in the same run.
"""

import asyncio
import sys
import time

import uvloop
from aiohttp import web

from ingress import signature
from ingress.webhook import DECODER
from tests.journey.pipeline import WEBHOOK_SECRET

SECRETS = (WEBHOOK_SECRET.encode(),)


async def answer(request):
    body = await request.read()
    verified = signature.verify(request.headers["Stripe-Signature"].encode(), body, SECRETS, time.time())
    DECODER.decode(body)
    return web.json_response({"status": "accepted"}, status=200 if isinstance(verified, signature.Verified) else 400)


async def main(port):
    app = web.Application()
    app.router.add_post("/payment/webhook", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_port=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
