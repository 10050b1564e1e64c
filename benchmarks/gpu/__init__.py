"""Everything that needs a GPU, in one call and one JSON; imports export, runtime and plugins."""
