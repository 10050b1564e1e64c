"""What a command does to a folder, without the command line; imports all of runtime below it."""
