"""One module a command: options in, one call of a room below, lines out; imports options and every
room below cli.
"""
