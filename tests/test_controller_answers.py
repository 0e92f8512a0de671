"""One answer counts for each question; every reason for a hold comes with what to do."""

from __future__ import annotations

import pytest

from controller.advice import DEFAULT, what_to_do
from controller.answers import Answers
from controller.commands import AskOperator
from controller.events import OperatorConfirmed, OperatorDeclined
from controller.session import why_real_is_refused


def test_the_first_answer_to_the_question_counts_and_the_other_is_told() -> None:
    answers = Answers()
    answers.ask(AskOperator(7, "load_needle", "Needle N01 is in the grip"))
    early = answers.take(8, "Ann")
    assert isinstance(early, str)
    assert "command 7 is: Needle N01" in early
    assert answers.take(7, "Ann") == OperatorConfirmed(7, "Ann")
    again = answers.take(7, "Bob")
    assert again == "command 7 was answered already, by Ann"
    assert answers.take(9, "Bob") == "command 9 is not asked about; nothing is"


def test_a_no_counts_as_well_and_a_withdrawn_question_takes_none() -> None:
    answers = Answers()
    answers.ask(AskOperator(1, "load_needle", "?"))
    assert answers.take(1, "Ann", "it is bent") == OperatorDeclined(1, "Ann", "it is bent")
    answers.ask(AskOperator(2, "load_needle", "?"))
    answers.withdraw()
    assert isinstance(answers.take(2, "Ann"), str)


@pytest.mark.parametrize(
    ("reason", "do"),
    [
        ("seed 3 in needle N01: NOPASS; count the seeds", "Count the seeds"),
        ("applicator: the e-stop is pressed", "Look at the patient first"),
        ("rig: the port is gone", "power and cable"),
        ("CT 2 not used: the scan is of patient X", "Look at the CT yourself"),
        ("declined by auto: nobody answered for 600 s", "Do, or undo"),
        ("rig: ALARM:1 hard limit", "Look at the carriage"),
        ("still off target after 5 attempts: N03 3.1 mm", "A physician decides"),
        (
            "too shallow even if corrected as deep as is allowed (10 mm more than planned): N03 2.4 mm",
            "A physician",
        ),
        ("applicator: latched WATCH: the host fell silent; motion stopped", "lower --speed"),
        ("the analysis of the CT in 0002 has no result: its process was killed", "once more"),
        ("rig: " + str(why_real_is_refused(False, True)), "Begin again in a new folder"),
        ("rig: " + str(why_real_is_refused(True, False)), "Begin again in a new folder"),
        ("stopped by Ann", "A stop ends the procedure"),
        ("something unheard of", DEFAULT),
    ],
)
def test_every_hold_says_what_to_do(reason: str, do: str) -> None:
    assert do in what_to_do(reason)
    assert what_to_do(reason).startswith("Nothing moves by itself.")
