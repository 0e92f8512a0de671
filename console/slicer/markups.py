"""Points and lines as Slicer's markups: JSON texts of its schema version 1.0.3, LPS, mm.

One markup a file, so that every version of Slicer since 4.13 reads it. The schema's address is a name: nothing is
fetched. (Slicer, Modules/Loadable/Markups/Resources/Schema; developer guide, Markups.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import ArrayLike

from planning.plan import rounded_point

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)


@dataclass(frozen=True)
class ControlPoint:
    """``place_mm``: patient frame; ``about``: shown beside the label in the table."""

    label: str
    place_mm: ArrayLike
    about: str = ""


def markup_text(
    kind: Literal["Fiducial", "Line"],
    name: str,
    points: Sequence[ControlPoint],
    rgb: tuple[float, float, float],
    *,
    shows_labels: bool = True,
) -> str:
    """A point list, or a line of two points; locked, since it tells what was, not what should be."""
    markup: dict[str, Any] = {
        "type": kind,
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": True,
        "fixedNumberOfControlPoints": True,
        "controlPoints": [
            {
                "id": str(number),
                "label": point.label,
                "description": point.about,
                "position": list(rounded_point(point.place_mm)),
                "selected": True,
                "locked": True,
                "visibility": True,
                "positionStatus": "defined",  # some versions take a point without it for one that was never placed
            }
            for number, point in enumerate(points, start=1)
        ],
        "display": {
            "visibility": True,
            "color": list(rgb),
            "selectedColor": list(rgb),
            "pointLabelsVisibility": shows_labels and kind == "Fiducial",
            "propertiesLabelVisibility": False,
            "textScale": 2.0,
            "glyphScale": 1.5,
        },
    }
    return json.dumps({"@schema": SCHEMA, "markups": [markup]}, indent=1, ensure_ascii=False) + "\n"
