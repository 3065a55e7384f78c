"""Three consumers of one shape: app.py wires, handlers.py handles batches, pure modules decide, store.py has the SQL."""
