"""Summaries that a model writes: claims with the numbers of the sentences that they rest on, each checked offline.

`writing` asks the model under a grammar, `checking` holds each claim to what it cites, `capability` finds out first
whether a model can write at all. Prompts are files in prompts/. Knows nothing of documents, tables or workers.
"""
