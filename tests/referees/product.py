"""Every request that the product makes of Stripe, made by its own client at a sandbox, for whoever judges requests."""

import asyncio
import tempfile
from pathlib import Path

from deploy.dev.stripe import open_sandbox
from shared import settings
from shared.stripe_api import StripeApi
from tests.referees import watch
from tests.support.sandboxes import session_request


def requests():
    """Make each of its calls once and return what went over the wire."""
    return asyncio.run(_requests())


async def _requests():
    nobody = "http://127.0.0.1:9/"
    with tempfile.TemporaryDirectory(prefix="referees-") as folder, watch.seeing() as seen:
        async with open_sandbox(webhook_url=nobody, webhook_secret="whsec_x", state_folder=Path(folder)) as sandbox:
            base = sandbox.settings.public_url
            api = StripeApi(settings.StripeApi(_env_file=None, stripe_secret_key="sk_test_x", stripe_api_base=base))
            session = await api.create_session(session_request(), idempotency_key="k")
            await api.retrieve_session(session.id)
            await api.expire_session(session.id)
            await api.webhook_endpoints()
            await api.account_id()
            await api.close()
        return seen.requests
