"""Trained models in use: photo in, picture out; engines and exported files."""
