"""What every box begins with: a client, a coach, an admin, a booking to pay, and tokens for the three."""
