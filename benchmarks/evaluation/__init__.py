"""J&F, clicks and automatic masks on datasets; imports synthetic clips, export and runtime."""
