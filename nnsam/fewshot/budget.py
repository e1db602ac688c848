"""How much a method may train: the same number of epochs and iterations for all methods of a study."""

from dataclasses import dataclass

from nnsam.errors import InputError

# nnU-Net's own.
DEFAULT_EPOCHS = 1000
DEFAULT_ITERATIONS = 250


@dataclass(frozen=True)
class Budget:
    """A training's length; one iteration sees one batch, whose size nnU-Net's plan gives.

    Attributes:
        epochs: at least 1.
        iterations: training iterations per epoch, at least 1.
    """

    epochs: int = DEFAULT_EPOCHS
    iterations: int = DEFAULT_ITERATIONS

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("iterations", self.iterations)):
            if value < 1:
                raise InputError(f"the number of {name} is {value}; expected at least 1")

    @property
    def suffix(self) -> str:
        """The part of a trainer's name that sets it, e.g. "_4epochs_40iters"; empty for nnU-Net's own budget."""
        if self == Budget():
            return ""
        return f"_{self.epochs}epochs_{self.iterations}iters"
