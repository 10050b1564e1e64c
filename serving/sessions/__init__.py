"""Media, sessions, results, limits and fair turns; imports runtime, no web library."""
