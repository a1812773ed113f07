"""Error of checkpoints."""


class CheckpointError(ValueError):
    """A checkpoint cannot be measured; the message names the file and the reason.

    Attributes:
        final: whether this stays so whatever else is written to its folder, so that waiting is useless.
    """

    final = False

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final
