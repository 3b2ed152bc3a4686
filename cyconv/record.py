"""Record: named values that are put together once, and then only read.

Like a named tuple, but that it is not a tuple: to define one takes a tenth of the time, which the
import of cyconv is full of, and to read a value a third, which small calls are. Those that are
unpacked, compared or keys of a cache are named tuples.
"""

from typing import Any, Self, dataclass_transform


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record:
    """What the annotations of a subclass say, given by name; mypy checks that all are given."""

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def but(self, **changes: Any) -> Self:
        """The same, with some other values."""
        return type(self)(**(vars(self) | changes))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in vars(self).items())})"
