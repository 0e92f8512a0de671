"""What several tests share, made once per session and only when a test asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from console.scene import Scene
from planning.anatomy import Anatomy, build_anatomy
from planning.dicom import Case, read_case
from planning.planner import PlanResult, make_plan
from planning.site_protocol import SiteProtocol, load_site_protocol
from planning.sources import load_source

settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")

EXAMPLE = Path(__file__).parents[1] / "examples" / "hn-recurrence"


@dataclass(frozen=True, eq=False)
class PlannedCase:
    """A case and everything planned on it."""

    case: Case
    anatomy: Anatomy
    protocol: SiteProtocol
    result: PlanResult


def planned(case: Case, protocol: SiteProtocol) -> PlannedCase:
    anatomy = build_anatomy(case, protocol, target=None, margin_mm=protocol.margin_mm)
    return PlannedCase(case, anatomy, protocol, make_plan(case, anatomy, protocol, source=load_source()))


@pytest.fixture(scope="session")
def example_plan() -> PlannedCase:
    """The shipped example, read and planned with the head-and-neck protocol."""
    return planned(read_case(EXAMPLE), load_site_protocol("head-and-neck"))


@pytest.fixture(scope="session")
def page_scene() -> Scene:
    """Two needles and four seeds on the shipped example, as the console shows them."""
    from page_room import page_plan

    case = read_case(EXAMPLE)
    plan = page_plan(case.ct.frame_of_reference_uid)
    return Scene(plan, case, load_site_protocol("head-and-neck"))


@pytest.fixture(scope="session")
def phantom_plan(tmp_path_factory: pytest.TempPathFactory) -> PlannedCase:
    """A made patient (tests/made_dicom.py), read and planned with the general protocol."""
    from made_dicom import make_case

    folder = make_case(tmp_path_factory.mktemp("phantom") / "case").folder
    return planned(read_case(folder), load_site_protocol("general"))
