"""Segmentation for others: sessions that share one model, and the web server in front of them;
imports runtime and what lies below it.
"""
