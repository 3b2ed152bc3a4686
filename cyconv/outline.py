"""Outline: what a pass goes through, and the memory that it takes, for `cyconv.describe`.

Each algorithm has a function `outline`. Its numbers are those that the algorithm itself asks for
memory with.
"""

from collections.abc import Iterable

from cyconv.record import Record

Shape = tuple[int, ...]


class Outline(Record):
    """What a pass goes through: `tasks`, handed out to `threads`, and in words what they are.

    `name` is what the `algorithm` option calls it, `module` where its code is, `method` what it
    does. Memory is in items: what is taken once (`shared`), and by each thread (`own`).
    """

    name: str
    module: str
    method: str
    tiles: str
    tasks: int
    threads: int
    shared: int
    own: int

    @property
    def items(self) -> int:
        return self.shared + self.threads * self.own


def counted(number: int, noun: str) -> str:
    """A number of things.

    Examples
    --------
    >>> counted(1, "tile"), counted(1200, "tile"), counted(2, "box")
    ('1 tile', '1,200 tiles', '2 boxes')
    """
    plural = "es" if noun.endswith("x") else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def made_of(number: int, noun: str, largest: int, of: str) -> str:
    """Parts of something, in words.

    Examples
    --------
    >>> made_of(4, "block", 32, "filter"), made_of(1, "block", 8, "filter")
    ('4 blocks of up to 32 filters', '1 block of 8 filters')
    """
    return f"{counted(number, noun)} of {'up to ' * (number > 1)}{counted(largest, of)}"


def extent(sizes: Iterable[int]) -> str:
    """The size of a box, without leading axes of size 1.

    Examples
    --------
    >>> extent((1, 28, 14)), extent((1, 1, 1))
    ('28x14', '1')
    """
    numbers = [int(size) for size in sizes]
    while len(numbers) > 1 and numbers[0] == 1:
        del numbers[0]
    return "x".join(map(str, numbers))
