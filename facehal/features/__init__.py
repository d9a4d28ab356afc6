"""Frozen published networks, one file each; what each expects of its input stands with it."""
