"""Training runs: fit, resume, log; checkpoints and previews."""
