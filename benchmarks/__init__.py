"""Measure: speed beside other systems, accuracy on datasets, and what needs a GPU; imports export
and what lies below it.
"""
