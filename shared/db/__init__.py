"""PostgreSQL: every table on one page, the engine, the migrations, and the inbox that makes effects happen once."""
