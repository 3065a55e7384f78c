"""A local Stripe: hosted Checkout, cards, refunds, events and signed webhooks, without the internet.

Requests of the official ``stripe`` library and the form of the hosted page enter; Stripe's answers and signed webhooks
leave. It shares no code with the pipeline, which meets it only as ``STRIPE_API_BASE`` and as a caller of its webhook.
How to run it, its cards and its switches: README.md beside this file. Reading order: ``app``, ``gate``, ``api``,
``checkout``, ``courier``.
"""

from deploy.dev.stripe.app import open_sandbox

__all__ = ["open_sandbox"]
