"""What can go wrong in the runtime. Every message is one line that says what to do.

RwkvError
├── ModelFileError          the file cannot be read as a model: missing, truncated, another format
│   ├── WeightsError        it is a model, but tensors are missing, left over or misshaped
│   └── UnsupportedModelError   a model of a kind that this version does not run
├── TokenizerError          a vocabulary file is damaged or does not fit the weights
├── StateError              a state of another model, or a damaged state file
├── StrategyError           devices or dtypes that cannot be read or are not there
├── NotFiniteError          reading gave a NaN or an infinity
└── ShapeError              a caller passed tensors or tokens that do not fit together
"""


class RwkvError(Exception):
    """Root of every error that the runtime raises on purpose."""


class ModelFileError(RwkvError):
    """The file cannot be read as a model."""


class WeightsError(ModelFileError):
    """Tensors are missing, left over or misshaped."""


class UnsupportedModelError(ModelFileError):
    """The file is a model of a kind that this version does not run."""


class TokenizerError(RwkvError):
    """A vocabulary file is damaged, missing or does not fit the weights."""


class StateError(RwkvError):
    """A state belongs to another model, or its file is damaged."""


class StrategyError(RwkvError, ValueError):
    """Devices or dtypes that cannot be read, or that are not there."""


class NotFiniteError(RwkvError, ArithmeticError):
    """Reading gave a NaN or an infinity."""


class ShapeError(RwkvError, ValueError):
    """Tensors or tokens do not fit together."""
