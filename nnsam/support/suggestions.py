"""What a user may have meant by a name that there is not."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns "; did you mean a or b?" for the names most like a word, or "" where none is."""
    spellings = {name.lower(): name for name in known}  # capital letters are soon forgotten
    close = difflib.get_close_matches(word.lower(), list(spellings), n=2, cutoff=0.7)
    return f"; did you mean {' or '.join(spellings[name] for name in close)}?" if close else ""
