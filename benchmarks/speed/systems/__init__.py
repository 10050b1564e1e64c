"""The systems that are compared, each in a process of its own; imports export and runtime."""
