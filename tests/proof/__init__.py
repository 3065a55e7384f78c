"""Proofs that no order, copy, forgery, loss or kill changes what a payment ends as: `make proof` runs them in full.

Each proof is a function that raises AssertionError with the counterexample, or returns what it went through. `make test` runs
the same functions in a quick form; the full form writes docs/proofs.md.
"""
