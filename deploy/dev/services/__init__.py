"""PostgreSQL and Kafka of a box: how each is made and run, and the variables that lead to them."""
