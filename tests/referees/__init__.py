"""Referees of the Stripe sandbox that none of us wrote: what Stripe itself publishes about its API judges every body.

In `make test`: schemas that are distilled from Stripe's own specification (`specification` -> schemas.json) judge what the
sandbox answers and delivers (`judge`, `watch`). In `make referees`: the distillate is made anew, Stripe's TypeScript types
judge the same bodies, stripe-mock the requests, and Stripe's own command line pays (`__main__`). Known differences, each
with its reason: `differences`.
"""
