"""The WKV recurrences, each as a slow specification and as a fast form that is tested against it.

Knows tensors only: nothing of layers, weights, tokens or files.
"""
