"""The shapes of Stripe's objects at API version 2026-10-28.endive, each with every nullable key present.

Key sets follow the newest real payloads (tests/examples/stripe). Functions return fresh dictionaries; nothing here
keeps state. Next: ``world``, which fills and changes them.
"""
