"""What every room must agree on (models, graph contracts, bundles, errors, progress); imports the
standard library alone.
"""
