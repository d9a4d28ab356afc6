"""Layers and picture operations that several families share."""
