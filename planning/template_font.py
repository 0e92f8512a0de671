"""Letters as strokes, for grooves in a printed part: no font file, every line as wide as the groove.

Glyphs stand on a grid 4 wide and 6 high, origin at the lower left, y upwards.
"""

from __future__ import annotations

import numpy as np

from planning.frame import Floats
from planning.refusal import AskedWrongly

HEIGHT = 6.0
ADVANCE = 5.6  # from one glyph's left edge to the next one's
WIDTH = 4.0

# Each word is one line drawn without lifting the pen, two digits (x, y) a corner.
_STROKES = {
    "A": "00 26 40|0.9,2.2 3.1,2.2",
    "B": "00 06 36 45 44 33 03|33 42 41 30 00",
    "C": "41 30 10 01 05 16 36 45",
    "D": "00 06 26 44 42 20 00",
    "E": "40 00 06 46|03 33",
    "F": "00 06 46|03 33",
    "G": "45 36 16 05 01 10 30 41 43 23",
    "H": "00 06|40 46|03 43",
    "I": "10 30|20 26|16 36",
    "J": "01 10 20 31 36|26 46",
    "K": "00 06|46 02|13 40",
    "L": "06 00 40",
    "M": "00 06 23 46 40",
    "N": "00 06 40 46",
    "O": "10 30 41 45 36 16 05 01 10",
    "P": "00 06 36 45 44 33 03",
    "Q": "10 30 41 45 36 16 05 01 10|22 40",
    "R": "00 06 36 45 44 33 03|23 40",
    "S": "01 10 30 41 42 33 13 04 05 16 36 45",
    "T": "20 26|06 46",
    "U": "06 01 10 30 41 46",
    "V": "06 20 46",
    "W": "06 10 23 30 46",
    "X": "00 46|06 40",
    "Y": "06 23 46|23 20",
    "Z": "06 46 00 40",
    "0": "10 30 41 45 36 16 05 01 10|11 35",
    "1": "05 26 20|00 40",
    "2": "05 16 36 45 44 00 40",
    "3": "06 46 23 33 42 41 30 10 01",
    "4": "30 36 02 42",
    "5": "46 06 04 34 43 41 30 00",
    "6": "36 16 05 01 10 30 41 42 33 03",
    "7": "06 46 10",
    "8": "13 04 05 16 36 45 44 33 13 02 01 10 30 41 42 33",
    "9": "10 30 41 45 36 16 05 04 13 43",
    "-": "13 33",
    ".": "20 21",
    "/": "00 46",
    "_": "00 40",
    " ": "",
}


def text_width(text: str, height_mm: float) -> float:
    """Width in mm of a text whose capitals are ``height_mm`` high (between the middles of the strokes)."""
    return (ADVANCE * len(text) - (ADVANCE - WIDTH)) * height_mm / HEIGHT if text else 0.0


def text_strokes(text: str, height_mm: float) -> list[Floats]:
    """Lines ``(n, 2)`` in mm, y upwards, the middle of the text at the origin; small letters become capitals.

    Raises:
        AskedWrongly: a character that can't be engraved.
    """
    scale = height_mm / HEIGHT
    middle = 0.5 * np.array([text_width(text, height_mm), height_mm])
    lines = []
    for n, character in enumerate(text.upper()):
        if character not in _STROKES:
            raise AskedWrongly(
                f"template: '{character}' of '{text}' can't be engraved; "
                "use letters A to Z, figures and - . / _ in names."
            )
        for stroke in _STROKES[character].split("|"):
            corners = [_corner(word) for word in stroke.split()]
            if corners:
                lines.append((np.array(corners) + np.array([n * ADVANCE, 0.0])) * scale - middle)
    return lines


def _corner(word: str) -> tuple[float, float]:
    x, y = word.split(",") if "," in word else (word[0], word[1])
    return float(x), float(y)
