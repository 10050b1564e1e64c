"""Our models in labelling tools, one module a tool; imports runtime, and the tool when it asks."""
