"""Three consumers of one shape: app.py wires, handlers.py handles batches, store.py has the SQL."""
