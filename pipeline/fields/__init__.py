"""Fields of a document: what is looked for, the rules that find it, and how what was found becomes one answer."""
