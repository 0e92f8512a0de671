"""The site protocol: what ships is sound, and a mistake in the file is named with its key."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

from planning.refusal import AskedWrongly
from planning.site_protocol import FOLDER, built_in_names, load_site_protocol

TEXT = (FOLDER / "head-and-neck.toml").read_text(encoding="utf-8")


def refusal(tmp_path: Path, old: str, new: str) -> str:
    assert old in TEXT
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(AskedWrongly) as caught:
        load_site_protocol(path)
    assert "mine.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["general", "head-and-neck"])
def test_what_ships_follows_the_paper(name: str) -> None:
    protocol = load_site_protocol(name)
    assert name in built_in_names()
    assert protocol.name == name
    assert protocol.sha256 == hashlib.sha256((FOLDER / f"{name}.toml").read_bytes()).hexdigest()
    # Jiang 2021: 110-160 Gy, 5-6 mm, 0.22-0.83 mCi, 2-3 reference needles 2-3 cm deep.
    assert 110 <= protocol.prescription_gy <= 160
    assert 5 <= protocol.margin_mm <= 6
    assert 0.22 <= protocol.activity_mci <= 0.83
    assert protocol.needle.reference_count in (2, 3)
    assert 20 <= protocol.needle.reference_depth_mm <= 30
    assert protocol.needle.seed_spacing_mm == 5.0
    assert all(limit.source for limit in (*protocol.goals, *protocol.limits))


@pytest.mark.parametrize(
    ("name", "structure", "role"),
    [
        ("head-and-neck", "SpinalCord", "forbidden"),
        ("head-and-neck", "spinal_cord_prv", "forbidden"),
        ("head-and-neck", "BRAINSTEM", "forbidden"),
        ("head-and-neck", " Mandible ", "forbidden"),
        ("head-and-neck", "Bone", "forbidden"),
        ("head-and-neck", "A_Carotid_L", "forbidden"),
        ("head-and-neck", "Jugular vein right", "forbidden"),
        ("head-and-neck", "Eye_L", "forbidden"),
        ("head-and-neck", "Larynx", "forbidden"),
        ("head-and-neck", "Temporal_Bone_L", "forbidden"),
        ("head-and-neck", "Airway", "forbidden"),
        ("head-and-neck", "LeftParotid", "dose_limited"),
        ("head-and-neck", "Skin_5mm", "dose_limited"),
        ("head-and-neck", "Submandibular_L", "dose_limited"),
        ("head-and-neck", "PTV70", "ignore"),
        ("head-and-neck", "External", "ignore"),
        ("head-and-neck", "Something new", "dose_limited"),
        ("general", "Rectum", "forbidden"),
        ("general", "Bladder", "forbidden"),
        ("general", "Bowel_Bag", "forbidden"),
        ("general", "Heart", "forbidden"),
        ("general", "Femur_Head_L", "forbidden"),
        ("general", "Iliac bone", "forbidden"),
        ("general", "A_Aorta", "forbidden"),
        ("general", "SpinalCanal", "forbidden"),
        ("general", "Lung_R", "dose_limited"),
        ("general", "Liver", "dose_limited"),
    ],
)
def test_structures_get_their_role_by_name(name: str, structure: str, role: str) -> None:
    rule = load_site_protocol(name).rule_for(structure)
    assert rule.role == role
    assert (rule.clearance_mm > 0) == (role == "forbidden")


def test_limits_are_in_gray_or_multiples_of_the_prescription() -> None:
    protocol = load_site_protocol("head-and-neck")
    (cord,) = protocol.limits_for("SpinalCord")
    assert cord.limit(120.0) == cord.limit(160.0) == cord.value
    (d90,) = (goal for goal in protocol.goals if goal.metric == "d90_gy" and goal.names == ("CTV",))
    assert d90.limit(120.0) == 120.0
    assert protocol.limits_for("Tongue") == ()


def test_names_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(AskedWrongly, match="general, head-and-neck"):
        load_site_protocol("nose")
    with pytest.raises(AskedWrongly, match="can't be read"):
        load_site_protocol(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe= [")
    with pytest.raises(AskedWrongly, match="not a TOML file"):
        load_site_protocol(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("pitch_mm = 5.0", "pich_mm = 5.0", "unknown key 'needle.pich_mm'"),
        ("pitch_mm = 5.0", "", "'needle.pitch_mm' is missing"),
        ("pitch_mm = 5.0", 'pitch_mm = "5"', "'needle.pitch_mm' must be a number"),
        ("pitch_mm = 5.0", "pitch_mm = -5.0", "'needle.pitch_mm' = -5 is outside"),
        ("pitch_mm = 5.0", "pitch_mm = nan", "'needle.pitch_mm'"),
        ("pitch_mm = 5.0", "pitch_mm = true", "'needle.pitch_mm' must be a number"),
        ("max_seeds = 120", "max_seeds = 12.5", "'needle.max_seeds' must be a whole number"),
        ('role = "forbidden"', 'role = "forbiden"', "'structures[2].role' must be one of"),
        ("clearance_mm = 5.0", "clearance_mm = 500", "'structures[2].clearance_mm' = 500"),
        (
            'bone_names = ["bone", "bones", "skeleton"]',
            'bone_names = "bone"',
            "'derived.bone_names' must be a list",
        ),
        ('metric = "d90_gy"', "metric = 90", "'goals[0].metric' must be a text"),
        (
            "ctv_excludes_airway = false",
            "ctv_excludes_airway = 0",
            "'derived.ctv_excludes_airway' must be true or",
        ),
        ("max_depth_mm = 150.0", "max_depth_mm = 195.0", "needle would not reach"),
        ("reference_depth_mm = 25.0", "reference_depth_mm = 60\n#", "reference_depth_mm"),
        ('name = "head', 'sha256 = "0"\nname = "head', "unknown key 'sha256'"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    if words == "reference_depth_mm":
        message = refusal(tmp_path, "max_depth_mm = 150.0", "max_depth_mm = 20.0")
    else:
        message = refusal(tmp_path, old, new)
    assert words in message


def test_every_key_is_on_the_page() -> None:
    page = (FOLDER.parents[1] / "SITE_PROTOCOL.md").read_text(encoding="utf-8")

    def keys(table: dict[str, Any]) -> set[str]:
        found = set(table)
        for value in table.values():
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    found |= keys(inner)
        return found

    for name in built_in_names():
        for key in keys(tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))):
            assert (
                f"`{key}`" in page or f"`[{key}]`" in page or f"`[[{key}]]`" in page or f"`{key} " in page
            ), key
