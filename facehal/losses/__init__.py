"""The terms of the paper's loss (equations 1 to 6)."""
