"""Our models in labelling tools, one module a tool; imports sessions, runtime and the tool."""
