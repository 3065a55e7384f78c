"""What the business believes, pure: money, a payment's fold, what a booking follows. Standard library only."""
