"""A booking changed -> letters to its client and its coach.

Enters: `bookings.events`, and tickets of letters to be tried again. Leaves: letters accepted by the mail server, or dead
letters that a person can replay; what happened to each letter stays in the table `letters`.
"""
