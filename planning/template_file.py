"""The printed part as files: binary STL and 3MF, both in mm in the rig's frame, and both read back."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from planning.frame import Floats
from planning.refusal import AskedWrongly

_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_TYPES = """<?xml version="1.0" encoding="UTF-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">\
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>\
<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/></Types>"""
_RELATIONS = """<?xml version="1.0" encoding="UTF-8"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">\
<Relationship Target="/3D/3dmodel.model" Id="model" \
Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/></Relationships>"""


def stl_bytes(vertices_mm: Floats, triangles: NDArray[np.int64], title: str) -> bytes:
    """Binary STL; ``title``: up to 79 ASCII characters for its head."""
    corners = np.asarray(vertices_mm, dtype="<f4")[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    facets = np.zeros(len(triangles), dtype=_FACET)
    facets["normal"], facets["corners"] = normal / np.where(length > 0, length, 1.0), corners
    head = title.encode("ascii", "replace")[:79].ljust(80, b" ")
    return head + struct.pack("<I", len(triangles)) + facets.tobytes()


def read_stl(content: bytes, name: str) -> Floats:
    """Corners ``(m, 3, 3)`` of a binary STL.

    Raises:
        AskedWrongly: not a binary STL, or cut off.
    """
    count = struct.unpack_from("<I", content, 80)[0] if len(content) >= 84 else -1
    if count < 1 or len(content) != 84 + count * _FACET.itemsize:
        raise AskedWrongly(f"{name}: not a whole binary STL file.")
    return np.array(np.frombuffer(content, dtype=_FACET, offset=84)["corners"], dtype=float)


def threemf_bytes(vertices_mm: Floats, triangles: NDArray[np.int64], metadata: dict[str, str]) -> bytes:
    """A 3MF package (core specification 1.2) with one object; the same corners as the STL, to the last bit."""
    points = np.asarray(vertices_mm, dtype="<f4")
    vertices = "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in points.astype(str).tolist())
    faces = "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in triangles.tolist())
    about = "".join(f'<metadata name="{key}">{escape(value)}</metadata>' for key, value in metadata.items())
    model = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<model unit="millimeter" xml:lang="en-US" xmlns="{_CORE}">{about}'
        f'<resources><object id="1" type="model"><mesh><vertices>{vertices}</vertices>'
        f"<triangles>{faces}</triangles></mesh></object></resources>"
        '<build><item objectid="1"/></build></model>'
    )
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as package:
        for path, text in (
            ("[Content_Types].xml", _TYPES),
            ("_rels/.rels", _RELATIONS),
            ("3D/3dmodel.model", model),
        ):
            # A fixed date: the same plan gives the same bytes.
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            package.writestr(entry, text)
    return stream.getvalue()


def read_threemf(content: bytes) -> Floats:
    """Corners ``(m, 3, 3)`` of the first object of a 3MF package that this module wrote."""
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        root = ElementTree.fromstring(package.read("3D/3dmodel.model"))
    points = [[float(v.get(k, "nan")) for k in "xyz"] for v in root.iter(f"{{{_CORE}}}vertex")]
    faces = [[int(t.get(k, "-1")) for k in ("v1", "v2", "v3")] for t in root.iter(f"{{{_CORE}}}triangle")]
    # The shortest figures that name a single-precision number are read as that number.
    return np.array(points, dtype=np.float32).astype(float)[np.array(faces, dtype=np.int64)]


def template_paths(folder: Path) -> dict[str, Path]:
    """Kind -> file of a template's folder."""
    return {kind: folder / f"template.{kind}" for kind in ("stl", "3mf", "json")}
