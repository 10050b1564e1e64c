"""Graphs for processors with bfloat16 units; imports operators' names from plugins.cpu."""
