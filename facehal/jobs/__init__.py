"""Work over many files that can be interrupted and goes on where it was."""
