"""What can be wrong with the things a user hands in.

    WorkerInputError (a ValueError)
    ├── DataError     the labelled text, or how it was described
    └── ModelError    the model folder, or what training made of it

Every message is one line that says what must hold, what came, and what to do next, so that it can
be shown to the user as it is.
"""


class WorkerInputError(ValueError):
    """A thing the user gave cannot be worked with."""


class DataError(WorkerInputError):
    """The labelled text cannot be worked with."""


class ModelError(WorkerInputError):
    """The model cannot be worked with."""
