"""A payment changed: what becomes of the booking.

Enters: `payments.events`. Leaves: rows of `bookings`, and `bookings.events` with what became of each.
"""
