"""The vary file: its defaults are those of rehearsal and robustness, and every mistake in it is refused."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from planning.placement_error import PlacementSigmas
from planning.refusal import AskedWrongly
from planning.site_protocol import load_site_protocol
from simulator.error_population import ErrorPopulation
from simulator.rehearsal.campaign.variation import FORMAT, Variation, load_variation, parameters

EXAMPLES = Path(__file__).parents[1] / "examples" / "campaigns"


def test_the_defaults_are_the_rehearsals() -> None:
    mine, rehearsals = asdict(Variation().population()), asdict(ErrorPopulation())
    couch = {"couch_translation_sigma_mm", "couch_rotation_sigma_deg"}  # registration takes it out
    assert {k: v for k, v in mine.items() if k not in couch} == {
        k: v for k, v in rehearsals.items() if k not in couch
    }
    sigmas = Variation().sigmas()
    for name in ("entry_mm", "angle_deg", "depth_mm", "tip_within_mm"):
        assert getattr(sigmas, name) == pytest.approx(getattr(PlacementSigmas(), name))


def test_every_figure_has_a_source(tmp_path: Path) -> None:
    assert all(parameter.source for parameter in parameters(Variation()))
    path = tmp_path / "vary.toml"
    path.write_text(f'format = "{FORMAT}"\n[needle]\ndepth_mean_mm = 3\nbend_radius_mm = []\n')
    changed = {p.name: p.value for p in parameters(load_variation(path)) if p.source == "vary file"}
    assert changed == {"needle.depth_mean_mm": 3.0, "needle.bend_radius_mm": ()}
    assert load_variation(path).population().bend_radius_mm is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must say format"),
        ('format = "seedguide-vary/9"', "must say format"),
        ("format = ", "not a TOML file"),
        (f'format = "{FORMAT}"\n[needles]', "unknown key 'needles'"),
        (f'format = "{FORMAT}"\n[needle]\nentry_mm = 1.0', "unknown key 'needle.entry_mm'"),
        (f'format = "{FORMAT}"\n[needle]\nentry_mean_mm = -1', "outside"),
        (f'format = "{FORMAT}"\n[needle]\nentry_mean_mm = nan', "outside"),
        (f'format = "{FORMAT}"\n[needle]\nentry_mean_mm = "1"', "must be a number"),
        (f'format = "{FORMAT}"\n[needle]\ntips = "all"', "must be one of"),
        (f'format = "{FORMAT}"\n[needle]\nbend_radius_mm = [900]', "smallest, largest"),
        (f'format = "{FORMAT}"\n[needle]\nbend_radius_mm = [900, 800]', "smallest, largest"),
        (f'format = "{FORMAT}"\nneedle = 3', "must be a table"),
        (f'format = "{FORMAT}"\n[rules]\nmax_attempts = 2.5', "must be a whole number"),
    ],
)
def test_a_mistake_is_one_sentence(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "vary.toml"
    path.write_text(text)
    with pytest.raises(AskedWrongly, match=words) as refusal:
        load_variation(path)
    assert str(path) in str(refusal.value)


def test_no_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AskedWrongly, match="can't be read"):
        load_variation(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_can_be_read(path: Path) -> None:
    if 'format = "seedguide-vary' in path.read_text(encoding="utf-8"):
        load_variation(path)
    else:
        load_site_protocol(path)
