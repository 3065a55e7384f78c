"""The door: HTTP in, Kafka out.

Enters: a browser's wish to pay, Stripe's signed webhooks, a question about one payment. Leaves: a PENDING payment
with the address of Stripe's page, the exact bytes of an event in `stripe.events`, an answer.
"""
