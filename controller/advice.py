"""What a person is to do when a procedure is held or stopped, from the reason for it.

Pure. Rules are tried from top to bottom; the last one takes everything: nobody is left with a reason alone.
"""

from __future__ import annotations

import re

_NOTHING_MOVES = "Nothing moves by itself."
RULES: tuple[tuple[str, str], ...] = (
    (
        r"has no result",
        "The computer failed, not patient, CT or devices. Resume: what was lost is asked for again; give the same CT "
        "series once more. Should it fail twice, keep the series and the journal for the makers, and end.",
    ),
    (
        r"\bseed \d+ .*(NOPASS|DOUBLE|UNKNOWN)|latch\w* (JAM|DOUBLE|UNKNOWN)|\bJAM\b|in doubt|counts? .*seeds? left|"
        r"has counted|accounted|COUNT|cartridge",
        "Leave stylet and needles as they are and force nothing. Count the seeds in cartridge, needle and tray, look "
        "at a CT, and say where the seed is before anything is cleared.",
    ),
    (
        r"is real hardware",
        "Nobody is to lead real devices like that. Begin again in a new folder, with the devices.toml of these devices "
        "(without [simulated]) and --operator terminal or door.",
    ),
    (
        r"WATCH|host fell silent",
        "This computer did not speak to the applicator for half a second, so it stopped by itself. End what else runs "
        "here, keep it from sleeping; on a bench of accelerated time use a lower --speed. Then resume.",
    ),
    (
        r"e-?stop|ESTOP|EMERGENCY",
        "Look at the patient first. Find out why the emergency stop was pressed, remove the cause, release it, then "
        "resume: both devices are asked where they are.",
    ),
    (
        r"port|link|no answer|not answer|silent|silence|reset|restart|boot|plugged|acknowledged|session|unusable line",
        "Check power and cable of the device that is named. Then resume: it is asked what it did, and the rig is "
        "homed again with its grip open.",
    ),
    (
        r"CT|scan|registered|matched|pose",
        "Look at the CT yourself: is it this patient's, the newest, complete, are all needles in it? Take it again, "
        "then resume, or abandon the needle that can't be judged.",
    ),
    (
        r"declined|nobody|no to:|\bhand|jaw",
        "Do, or undo, what was asked for at the devices, then resume; or end the procedure: needles out, seeds "
        "counted.",
    ),
    (
        r"attempts|off target|too shallow|depth_is_no_more_than_planned",
        "A physician decides on the needles that are off target: grant more attempts, abandon them, or end.",
    ),
    (
        r"alarm|ALARM|limit|position|mm\b|stands at|stall|homed|home\b|axis|AXIS|encoder|MPos|RANGE|settings?",
        "Look at the carriage and the needle in it; free what is in the way without moving the needle. Then resume: "
        "the rig is homed again with its grip open, and needles that moved are scanned again.",
    ),
    (
        r"stopped by",
        "Look at the patient and the devices. A stop ends the procedure: people take the needles out and count the "
        "seeds; what is still to be given is planned anew.",
    ),
)
DEFAULT = (
    "Look at the patient and at both devices. Resume when the cause is gone, or end the procedure: needles out, "
    "seeds counted."
)


def rule_of(reason: str) -> int:
    """Which of ``RULES`` takes it; their number: none, so ``DEFAULT``. For consoles in other languages."""
    return next((at for at, (pattern, _) in enumerate(RULES) if re.search(pattern, reason)), len(RULES))


def what_to_do(reason: str) -> str:
    """One or two sentences for the person at the console; never empty."""
    rule = rule_of(reason)
    return f"{_NOTHING_MOVES} {RULES[rule][1] if rule < len(RULES) else DEFAULT}"
