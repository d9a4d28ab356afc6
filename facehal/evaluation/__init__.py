"""The paper's tables: which systems, which metrics, and how the result is written down."""
