"""People, PINs, sessions and the rule of two."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from console.web_login import IDLE_S, TRIES, TRIES_S, Logins, People, Person, TwoPersons, person_words
from planning.refusal import AskedWrongly


@pytest.fixture(scope="module")
def people() -> People:
    return People({}).with_person("An", "physician", "482913").with_person("Bo", "nurse", "775301")


def test_a_person_enters_with_their_own_pin_and_nobody_elses(people: People) -> None:
    logins = Logins(people)
    token, person = logins.enter("An", "482913", 0.0)
    assert (person.name, person.role) == ("An", "physician")
    assert logins.person(token, 1.0, is_active=False) is person
    for name, pin in (("An", "775301"), ("Bo", "482913"), ("Cy", "482913"), ("An", "")):
        with pytest.raises(AskedWrongly, match="name or PIN is wrong"):
            logins.enter(name, pin, 0.0)
    assert logins.person("forged", 1.0, is_active=True) is None
    logins.leave(token)
    assert logins.person(token, 1.0, is_active=True) is None


def test_wrong_pins_make_the_right_one_wait_too(people: People) -> None:
    logins = Logins(people)
    for n in range(TRIES):
        with pytest.raises(AskedWrongly, match="wrong"):
            logins.enter("An", "000001", float(n))
    with pytest.raises(AskedWrongly, match="too many"):
        logins.enter("An", "482913", 10.0)
    logins.enter("Bo", "775301", 10.0)  # others are not locked out
    assert logins.enter("An", "482913", TRIES_S + TRIES)[1].name == "An"


def test_many_unknown_names_share_one_count(people: People) -> None:
    logins = Logins(people)
    for n in range(TRIES):
        with pytest.raises(AskedWrongly, match="wrong"):
            logins.enter(f"nobody {n}", "123456", 0.0)
    with pytest.raises(AskedWrongly, match="too many"):
        logins.enter("nobody else", "123456", 0.0)


def test_an_idle_session_ends_and_looking_does_not_keep_it(people: People) -> None:
    logins = Logins(people)
    token, _ = logins.enter("Bo", "775301", 0.0)
    assert logins.person(token, IDLE_S, is_active=True) is not None
    assert logins.person(token, 1.5 * IDLE_S, is_active=False) is not None
    assert logins.person(token, 2.1 * IDLE_S, is_active=True) is None


def test_roles(people: People) -> None:
    _, physician = Logins(people).enter("An", "482913", 0.0)
    _, nurse = Logins(people).enter("Bo", "775301", 0.0)
    assert physician.may("decide")
    assert nurse.may("confirm")
    assert not nurse.may("decide")
    words = person_words(nurse)
    assert words == {"name": "Bo", "role": "nurse", "may_confirm": True, "may_decide": False}
    trainee = People({}).with_person("Tu", "trainee", "135790")
    assert not Logins(trainee).enter("Tu", "135790", 0.0)[1].may("confirm")


def test_the_file_holds_no_pin_and_is_its_owners_alone(tmp_path: Path, people: People) -> None:
    path = tmp_path / "site" / "people.json"
    people.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert "482913" not in text
    assert "$argon2id$" in text
    assert Logins(People.load(path)).enter("An", "482913", 0.0)[1].role == "physician"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "other", "people": []}'])
def test_a_damaged_file_is_refused_in_words(tmp_path: Path, text: str) -> None:
    path = tmp_path / "people.json"
    path.write_text(text)
    with pytest.raises(AskedWrongly, match=r"people\.json: not a file"):
        People.load(path)
    path.write_text(
        json.dumps(
            {"format": "seedguide-people/1", "people": [{"name": "x", "role": "king", "pin_hash": ""}]}
        )
    )
    with pytest.raises(AskedWrongly, match="king"):
        People.load(path)
    with pytest.raises(AskedWrongly, match="no such file"):
        People.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "role", "pin"),
    [("", "nurse", "482913"), ("A", "king", "482913"), ("A", "nurse", "1234"), ("A", "nurse", "111111")],
)
def test_bad_people_are_refused(name: str, role: str, pin: str) -> None:
    with pytest.raises(AskedWrongly):
        People({}).with_person(name, role, pin)


def test_two_different_persons_complete_a_confirmation() -> None:
    two = TwoPersons()
    an, bo, cy = Person("An", "physician", ""), Person("Bo", "nurse", ""), Person("Cy", "nurse", "")
    patient, plan = (8, "the patient?"), (9, "the plan?")
    assert two.word(patient, an)[0] is None
    assert two.first_by(patient) == "An"
    done, told = two.word(patient, an)
    assert done is None
    assert "another person" in told
    assert two.word(patient, bo) == ("An and Bo", "")
    assert two.first_by(patient) is None
    two.word(patient, an)
    assert two.word(plan, bo)[0] is None, "a first word for another question does not count"
    assert two.word(plan, cy, needs_decider=True)[0] is None, "neither of the two may decide"
    assert two.word(plan, an, needs_decider=True) == ("Bo and An", "")


def test_a_first_word_goes_with_its_question() -> None:
    two = TwoPersons()
    held = (0, "go on after the jam?")
    two.word(held, Person("An", "physician", ""))
    two.asked_now(held)
    assert two.first_by(held) == "An"
    two.asked_now(None)
    assert two.word(held, Person("Bo", "nurse", ""))[0] is None, "asked again, it is confirmed by two again"
