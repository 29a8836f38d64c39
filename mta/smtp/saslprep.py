"""SASLprep (RFC 4013): names and passwords made comparable before they are hashed, as SCRAM wants it (RFC 5802 2.2).

The tables are those of stringprep (RFC 3454, Unicode 3.2), which Python has.  A text that has a prohibited character, or
mixes directions as it may not, raises ValueError.
"""

from __future__ import annotations

import stringprep
from typing import Final
from unicodedata import ucd_3_2_0

__all__ = ["saslprep"]

_PROHIBITED: Final = (  # RFC 4013 2.3
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """The text prepared, as a query: characters that Unicode 3.2 did not know pass (RFC 3454 7)."""
    if text.isascii() and text.isprintable():
        return text
    mapped = [" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c)]
    prepared = ucd_3_2_0.normalize("NFKC", "".join(mapped))
    if any(prohibits(c) for c in prepared for prohibits in _PROHIBITED):
        raise ValueError("a character that SASLprep prohibits")
    _check_directions(prepared)
    return prepared


def _check_directions(text: str) -> None:
    """RFC 3454 6: right-to-left letters keep to themselves, at both ends too."""
    if any(map(stringprep.in_table_d1, text)):
        ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
        if not ends or any(map(stringprep.in_table_d2, text)):
            raise ValueError("a mixture of directions that SASLprep prohibits")
