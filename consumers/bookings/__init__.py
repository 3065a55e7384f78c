"""A payment changed: what becomes of the booking.

In: `payments.events`. Out: rows of `bookings`, and `bookings.events` with what became of each.
"""
