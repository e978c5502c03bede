"""Finding the passages that a question or a field is about: terms, BM25, fusion with vectors. Knows no model."""
