"""The door: HTTP in, Kafka out.

Enters: a browser's checkout, Stripe's signed webhooks, a request for one payment. Leaves: a PENDING payment with the address of
Stripe's page, the exact bytes of an event in `stripe.events`, the state of the payment.
"""
