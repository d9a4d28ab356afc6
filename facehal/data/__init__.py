"""Prepared faces as arrays and batches."""
