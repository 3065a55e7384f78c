"""The world in a box: PostgreSQL, Kafka, a Stripe sandbox and a mailbox on a machine that has only Python. Never shipped.

    commands     `cb-dev`, the command line
    demo         one purchase, made and shown hop by hop; simulation has many customers and compares all books
    box          a whole box: up, joined, down, emptied; the pipeline's four processes among its pieces
    services     PostgreSQL and Kafka, and the variables that lead to them
    jars         Kafka's jars: pinned, downloaded, kept
    processes    one process, its port, its supervisor, and the signals that end it
    seed         the people and the booking that every box has, and their tokens
    mailbox, stripe   what stands for the mail server and for Stripe

Each package imports only those below it; state.py (a box's folder), settings.py, errors.py and terminal.py stand under all.
"""
