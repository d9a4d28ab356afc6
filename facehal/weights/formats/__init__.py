"""Readers of foreign weight files, one file for each format.

Nothing here runs code that a file brings along: pickles may name tensors and ordered dictionaries
only. Every reader raises `WeightsError` in one line when a file is cut off, foreign or hostile.
"""
