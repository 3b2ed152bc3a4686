"""Form: how a caller's arrays of images are laid out, against (N, C, d, h, w), as they are seen
inside."""

from typing import Any, NamedTuple

from cyconv.integers import choice

Shape = tuple[int, ...]

DATA_FORMATS = ("channels_first", "channels_last")


def is_last(data_format: Any) -> bool:
    """Check the name of a data format, and return whether it is channels_last."""
    return choice("data_format", data_format, DATA_FORMATS) == "channels_last"


class Form(NamedTuple):
    """Images with `rank` spatial axes, with or without a batch axis, channels first or last.

    Examples
    --------
    >>> form = Form(rank=2, batched=False, last=True)
    >>> form.read((5, 6, 3))
    (1, 3, 5, 6)
    >>> form.write((1, 3, 1, 5, 6))
    (5, 6, 3)
    >>> form.stored((1, 3, 1, 5, 6))
    (1, 1, 5, 6, 3)
    """

    rank: int
    batched: bool
    last: bool

    def read(self, shape: Shape) -> Shape:
        """The shape of a caller's array as (N, C, *spatial)."""
        if not self.batched:
            shape = (1, *shape)
        return (shape[0], shape[-1], *shape[1:-1]) if self.last else shape

    def stored(self, full: Shape) -> Shape:
        """A shape (N, C, d, h, w) in the order in which the caller's array has it."""
        return (full[0], *full[2:], full[1]) if self.last else full

    def write(self, full: Shape) -> Shape:
        """A shape (N, C, d, h, w) as that of the caller's array: the inverse of `read`."""
        sizes = full[5 - self.rank :]
        image = (*sizes, full[1]) if self.last else (full[1], *sizes)
        return (full[0], *image) if self.batched else image

    def names(self) -> str:
        """The axes, for messages."""
        axes = ("*spatial", "C") if self.last else ("C", "*spatial")
        return f"({', '.join(('N', *axes) if self.batched else axes)})"


def form_of(shape: Shape, w_shape: Shape, last: bool, name: str = "x", w_name: str = "w") -> Form:
    """Tell by the number of axes whether there is a batch axis."""
    rank = len(w_shape) - 2
    if len(shape) not in (rank + 1, rank + 2):
        batch, single = (Form(rank, batched, last).names() for batched in (True, False))
        raise ValueError(
            f"{name} must have {rank + 2} axes, {batch}, or {rank + 1}, {single}, as {w_name} has "
            f"{rank} that are spatial; got shapes {shape} and {w_shape}"
        )
    return Form(rank, len(shape) == rank + 2, last)
