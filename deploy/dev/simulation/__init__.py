"""Customers drawn from a seed, who book, pay, fail, leave, dispute and are given money back in a box; then books are compared.

Enters: a seed, how many customers a second, for how long. Leaves: what they did, and every difference between what Stripe
says, what our database says, what lies in the mailbox and what others were told and shown. Next: persons.py draws them, run.py
lets them live, comparison.py, letters.py and told.py compare.
"""
