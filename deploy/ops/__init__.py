"""The operator's room: insights read, actions write (few, and each leaves a trace), cli shows; it knows only `shared`.

Enters: what a person or a script asks for. Leaves: an answer on stdout, progress and trouble on stderr, an exit status.
"""
