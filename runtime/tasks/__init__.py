"""The work of a command: prompts in, a folder of results out; imports all of runtime below it."""
