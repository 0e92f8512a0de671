"""A training scenario: one TOML file of what a trainee meets, may do and is measured by (SCENARIOS.md).

Knows the file and what fits the simulated room; whether needles and states of the protocol exist is checked where the
plan is known (``simulator.rehearsal.training``). ``python -m simulator.scenario`` writes the JSON Schema beside it.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from simulator.dental import DentalMetal
from simulator.error_population import ErrorPopulation
from simulator.faults import Fault, FaultError, faults_of

VERSION = 1
SCHEMA = Path(__file__).with_name("scenario.schema.json")
Triple = tuple[float, float, float]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Trigger = ("at_s", "at_state", "at_command", "at_seed", "per_hour", "nth", "after_s", "seed")
May = Literal["accept", "correct", "own_amount", "rescan", "abandon", "decide"]
EVERYTHING: tuple[May, ...] = ("accept", "correct", "own_amount", "rescan", "abandon", "decide")


class ScenarioError(ValueError):
    """A scenario that can't be read or played; one sentence says which file and key, and what to do."""


SliceMm = Annotated[float, Field(ge=0.6, le=5.0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Motion(_Table):
    """The patient moves under template and needles; the trigger as of a fault."""

    shift_mm: Annotated[Triple, Field(description="x, y, z, DICOM LPS")]
    at_s: NotNegative | None = None
    at_state: str | None = None
    at_command: str | None = None
    at_seed: Annotated[int, Field(ge=1)] | None = None
    nth: Annotated[int, Field(ge=1)] = 1
    after_s: NotNegative = 0.0

    @field_validator("shift_mm")
    @classmethod
    def _no_leap(cls, shift_mm: Triple) -> Triple:
        if not all(abs(mm) <= 50.0 for mm in shift_mm):
            raise ValueError("a patient moves by 50 mm at most along each axis")
        return shift_mm

    @model_validator(mode="after")
    def _one_trigger(self) -> Motion:
        given = [self.at_s, self.at_state, self.at_command, self.at_seed]
        if sum(value is not None for value in given) != 1:
            raise ValueError("needs exactly one of at_s, at_state, at_command, at_seed")
        return self

    def fault(self) -> Fault:
        """The same in the language of faults."""
        words = "patient moves " + " ".join(f"{mm:g}" for mm in self.shift_mm)
        return Fault(
            words,
            at_s=self.at_s,
            at_state=self.at_state,
            at_command=self.at_command,
            at_seed=self.at_seed,
            nth=self.nth,
            after_s=self.after_s,
        )


class PatientTable(_Table):
    """How the patient lies; what is left out is drawn by chance from the published population."""

    setup_shift_mm: Annotated[float, Field(ge=0.0, le=50.0)] | None = Field(
        default=None, description="the rig's shift against the plan has exactly this length"
    )
    setup_sigma_mm: Annotated[float, Field(ge=0.0, le=20.0)] = 2.09
    setup_turn_sigma_deg: Annotated[float, Field(ge=0.0, le=10.0)] = 0.5
    couch_sigma_mm: Annotated[float, Field(ge=0.0, le=20.0)] = 1.5
    couch_turn_sigma_deg: Annotated[float, Field(ge=0.0, le=5.0)] = 0.25
    motion: tuple[Motion, ...] = ()


class Bent(_Table):
    """One needle that was bent before: it runs on an arc on every path."""

    needle: str
    radius_mm: Annotated[float, Field(ge=100.0, le=1e5)]


class NeedlesTable(_Table):
    """The population that each needle's and seed's error is drawn from (``error_population``)."""

    entry_mean_mm: Annotated[float, Field(ge=0.0, le=20.0)] = 0.90
    depth_mean_mm: Annotated[float, Field(ge=0.0, le=20.0)] = 1.68
    angle_mean_deg: Annotated[float, Field(ge=0.0, le=20.0)] = 1.56
    path_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.8
    stop_repeatability_mm: Annotated[float, Field(ge=0.0, le=10.0)] = 0.5
    bend_radius_mm: tuple[Annotated[float, Field(ge=100.0)], Annotated[float, Field(le=1e5)]] | None = (
        700.0,
        4000.0,
    )
    seed_along_sigma_mm: Annotated[float, Field(ge=0.0, le=10.0)] = 0.5
    seed_lateral_sigma_mm: Annotated[float, Field(ge=0.0, le=10.0)] = 0.3
    bent: tuple[Bent, ...] = ()


class Metal(_Table):
    """A piece of dental metal that the planning CT does not show (``dental.DentalMetal``)."""

    centre_mm: Triple
    diameter_mm: Annotated[float, Field(gt=0.0, le=40.0)] = 5.0
    material: Literal["amalgam", "gold", "titanium"] = "amalgam"
    length_mm: Annotated[float, Field(ge=0.0, le=80.0)] = 0.0
    direction: Triple = (0.0, 0.0, 1.0)
    wall_mm: NotNegative = 0.0

    @model_validator(mode="after")
    def _is_a_piece(self) -> Metal:
        DentalMetal(**self.model_dump())
        return self


class CtTable(_Table):
    """How the check CTs are taken (SCANNER.md)."""

    slice_mm: SliceMm = 1.25
    may_be_mm: tuple[SliceMm, ...] = Field(
        default=(), description="other slice thicknesses that the trainee may ask a CT for"
    )
    scanner: Literal["fast", "faithful"] = "fast"
    noise_times: Annotated[float, Field(ge=0.1, le=20.0)] = 1.0
    metal: tuple[Metal, ...] = ()


class TraineeTable(_Table):
    """What is left to the trainee."""

    may: tuple[May, ...] = EVERYTHING
    confirms: Literal["decisions", "everything"] = Field(
        default="decisions",
        description="every step, or only those that decide something; assistants do the others",
    )
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 5

    @field_validator("may")
    @classmethod
    def _something_goes_on(cls, may: tuple[May, ...]) -> tuple[May, ...]:
        if "accept" not in may or "abandon" not in may:
            raise ValueError("accept and abandon must be among them: without both no run can end")
        if "own_amount" in may and "correct" not in may:
            raise ValueError("own_amount needs correct beside it")
        return may


class PassMarks(_Table):
    """What must be reached to pass; what is left out is not asked."""

    ends: tuple[Literal["COMPLETED", "ABORTED", "HELD", "STOPPED"], ...] = ("COMPLETED",)
    missed_at_most: Annotated[int, Field(ge=0)] | None = None
    delivered_beyond_at_most: Annotated[int, Field(ge=0)] | None = None
    unneeded_corrections_at_most: Annotated[int, Field(ge=0)] | None = None
    cts_at_most: Annotated[int, Field(ge=1)] | None = None
    punctures_at_most: Annotated[int, Field(ge=1)] | None = None
    corrections_at_most: Annotated[int, Field(ge=0)] | None = None
    minutes_at_most: Annotated[float, Field(gt=0.0)] | None = None
    seeds_unaccounted_at_most: Annotated[int, Field(ge=0)] | None = None
    alarms_answered_within_s: Annotated[float, Field(gt=0.0)] | None = None
    gtv_d90_gy_at_least: NotNegative | None = None
    ctv_d90_gy_at_least: NotNegative | None = None


class Scenario(_Table):
    """One training run, before it begins. Paths stand as in the file; ``read_scenario`` makes them whole."""

    version: Literal[1]
    title: Annotated[str, Field(min_length=1, max_length=80)]
    briefing: Annotated[
        str, Field(min_length=1, description="what the trainee is told; nothing that is to be found")
    ]
    lesson: Annotated[str, Field(min_length=1, description="what it is about; told in the debrief only")]
    level: Annotated[int, Field(ge=1, le=5)]
    case: Annotated[str, Field(description="folder with planning CT and structures, from the file's folder")]
    plan: Annotated[str, Field(description='a plan.json, from the file\'s folder, or "make one"')] = (
        "make one"
    )
    site_protocol: str = "head-and-neck"
    target: str | None = None
    prescription_gy: Annotated[float, Field(gt=0.0, le=1000.0)] | None = None
    activity_mci: Annotated[float, Field(gt=0.0, le=10.0)] | None = None
    seed: Annotated[int, Field(ge=0, description="of chance: the same seed and answers, the same run")] = 1
    patient: PatientTable = PatientTable()
    needles: NeedlesTable = NeedlesTable()
    ct: CtTable = CtTable()
    fault: tuple[dict[str, Any], ...] = Field(default=(), description="as in FAULTS.md")
    trainee: TraineeTable = TraineeTable()
    marks: PassMarks = Field(default=PassMarks(), alias="pass")

    @property
    def population(self) -> ErrorPopulation:
        """What errors are drawn from."""
        lies, needles = self.patient, self.needles
        values = needles.model_dump(exclude={"bent"})
        return ErrorPopulation(
            setup_magnitude_mm=lies.setup_shift_mm,
            setup_translation_sigma_mm=lies.setup_sigma_mm,
            setup_rotation_sigma_deg=lies.setup_turn_sigma_deg,
            couch_translation_sigma_mm=lies.couch_sigma_mm,
            couch_rotation_sigma_deg=lies.couch_turn_sigma_deg,
            bent={bent.needle: bent.radius_mm for bent in needles.bent},
            **values,
        )

    @property
    def faults(self) -> list[Fault]:
        """Of devices, people, CTs and the patient, checked when the file was read."""
        return [*faults_of(list(self.fault), "fault"), *(motion.fault() for motion in self.patient.motion)]

    @property
    def digest(self) -> str:
        """Of what makes its runs: which scenario a record belongs to, telling nothing of it.

        Chance, words and pass marks do not count, nor what is left out: records outlive a mended sentence, a mark that
        is moved, and keys that are added.
        """
        words = {"case", "plan", "seed", "level", "briefing", "lesson", "marks"}
        said = self.model_dump(mode="json", by_alias=True, exclude=words, exclude_defaults=True)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read_scenario(path: Path) -> Scenario:
    """The scenario of a file, its paths made whole.

    Raises:
        ScenarioError: not readable, not TOML, another version, a key that is missing, unknown or out of range, or a
            fault that isn't one; one sentence that names file, key and what to do.
    """
    try:
        whole = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ScenarioError(f"{path}: can't be read as TOML ({problem}).") from problem
    if whole.get("version") != VERSION:
        raise ScenarioError(
            f"{path}: version is {whole.get('version', 'missing')}; this program reads version = {VERSION}."
        )
    try:
        scenario = Scenario.model_validate(whole)
        faults_of(list(scenario.fault), str(path))
    except FaultError as problem:
        raise ScenarioError(str(problem)) from problem
    except ValidationError as problem:
        raise ScenarioError(f"{path}: {_first_of(problem)}") from problem
    beside = path.parent
    places = {"case": str((beside / scenario.case).resolve())}
    if scenario.plan != "make one":
        places["plan"] = str((beside / scenario.plan).resolve())
    return scenario.model_copy(update=places)


def _first_of(problem: ValidationError) -> str:
    """The first thing that is wrong, in words: where, what, what to do."""
    wrong = problem.errors(include_url=False)[0]
    where = ".".join(str(part + 1 if isinstance(part, int) else part) for part in wrong["loc"]) or "the file"
    more = f" ({len(problem.errors()) - 1} more after it)" if len(problem.errors()) > 1 else ""
    match wrong["type"]:
        case "missing":
            return f"{where} is missing; write it (simulator/SCENARIOS.md tells what it means){more}."
        case "extra_forbidden":
            return f"{where} is unknown; mend or remove it (simulator/SCENARIOS.md lists the keys){more}."
    said = wrong["msg"].removeprefix("Value error, ")
    given = wrong["input"]
    shown = "" if isinstance(given, dict) else f", not {given!r}"
    return f"{where}: {said[:1].lower()}{said[1:]}{shown}; correct it{more}."


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a scenario file."""
    made = Scenario.model_json_schema(by_alias=True)
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    triggers = {
        "at_state": "string",
        "at_command": "string",
        "at_seed": "integer",
        "nth": "integer",
        "seed": "integer",
    }
    keys = {name: {"type": triggers.get(name, "number")} for name in Trigger}
    made["properties"]["fault"]["items"] = {
        "type": "object",
        "properties": {"do": {"type": "string"}, "for_s": {"type": "number"}, **keys},
        "required": ["do"],
        "additionalProperties": False,
    }
    return made


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
