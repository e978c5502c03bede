"""Measures of results against what people marked, and how sure they are. Knows nothing of models or documents."""
