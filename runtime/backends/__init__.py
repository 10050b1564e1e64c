"""One session per backend and the factory that opens them; imports tracking and what lies below."""
