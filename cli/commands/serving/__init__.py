"""Commands that serve others; imports the rooms of the serving when a command runs."""
