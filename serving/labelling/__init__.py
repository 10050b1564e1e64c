"""Our models in labelling tools, one module a tool; imports web, runtime and the tool."""
