"""Stripe said something: what is now true of the payment.

In: `stripe.events`, raw bytes. Out: rows of `payments` and its ledger, and `payments.events` with the whole new state.
"""
