"""Synthetic clips with ground truth; imports configs alone."""
