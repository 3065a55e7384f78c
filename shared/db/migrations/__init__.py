"""How the database came to its shape; run by shared/db/migrate.py."""
