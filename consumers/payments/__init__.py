"""An event of Stripe came: what is now true of the payment.

Enters: `stripe.events`, raw bytes. Leaves: rows of `payments` and its ledger, and `payments.events` with the whole new state.
"""
