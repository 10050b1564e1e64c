"""Measure and show: speed beside other systems, accuracy on datasets, what needs a GPU, the
demonstration; imports export and what lies below it.
"""
