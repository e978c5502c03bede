"""How a model like the shipped one is made: from public text to weights that `rwkv_runtime` loads.

`python -m examples.train_default_model --help` is the entry; README.md beside this file has the commands and
the reasons.
"""
