"""One purchase, from checkout to letters, shown hop by hop: `make demo`, `make demo-compose` and `cb-dev story`."""
