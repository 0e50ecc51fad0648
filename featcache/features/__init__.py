"""Features: vectors, who their rows are, and where they are kept."""
