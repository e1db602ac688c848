"""What others wrote, in messages: short, whatever its length."""

import reprlib

# Sentences stay readable; megabytes of a hostile file do not reach a terminal or a log.
LIMIT = 200


def clipped(text: object, limit: int = LIMIT) -> str:
    """Text on one line, with its middle left out where it is longer than `limit` characters.

    What no terminal prints, such as a sequence that moves its cursor, becomes a question mark.

    Example:
        >>> clipped("cannot be read"), clipped("a" * 1000, 11)
        ('cannot be read', 'aaaa...aaaa')
    """
    try:
        whole = str(text)
    except ValueError:  # of whole numbers with thousands of digits
        return shown(text)
    half = (limit - 3) // 2
    if len(whole) > limit:
        whole = f"{whole[:half]}...{whole[-half:]}"
    return "".join(one if one.isprintable() else "?" for one in " ".join(whole.split()))


class _Shown(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 80, 80
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 8

    def repr_int(self, value: int, level: int) -> str:
        bits = value.bit_length()  # Python refuses to write numbers of thousands of digits
        return repr(value) if bits <= 128 else f"(a whole number of {bits} bits)"


def shown(value: object, limit: int = LIMIT) -> str:
    """As `repr`, of long lists, texts, numbers and of deep ones only a part.

    Example:
        >>> shown([1, "a"]), shown(list(range(1000)))
        ("[1, 'a']", '[0, 1, 2, 3, 4, 5, 6, 7, ...]')
    """
    return clipped(_Shown().repr(value), limit)
