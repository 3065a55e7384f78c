"""A whole box: services, mailbox, Stripe sandbox and the pipeline, brought up, joined, taken down and emptied."""
