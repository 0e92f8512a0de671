"""The page's texts: every one in both languages, every one used, and everything that the controller can say."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

import console
from controller import advice, by_hand, commands, protocol
from controller.commands import AskOperator, Command
from controller.decisions import KINDS
from controller.time_out import ITEMS

WEB = Path(console.__path__[0]) / "web"
TEXTS = {
    language: json.loads((WEB / "messages" / f"{language}.json").read_text("utf-8"))
    for language in ("en", "zh")
}
SOURCES = {path.name: path.read_text("utf-8") for path in (*WEB.glob("*.js"), WEB / "index.html")}
CONTROLLERS_OWN = ("state ", "ask ", "needle ", "do ", "device ", "advice ")
"""Keys of sentences that the controller sends in English: only another language needs a text for them."""


def test_every_text_is_there_in_both_languages_and_takes_the_same_values() -> None:
    en, zh = TEXTS["en"], TEXTS["zh"]
    assert [key for key in zh if key not in en and not key.startswith(CONTROLLERS_OWN)] == []
    assert [key for key in en if key not in zh] == []
    for key, text in en.items():
        assert text.strip()
        assert set(re.findall(r"\{(\w+)\}", text)) == set(re.findall(r"\{(\w+)\}", zh[key])), key


def test_every_text_that_the_page_asks_for_is_there() -> None:
    for name, source in SOURCES.items():
        asked = re.findall(r"\bsay\('([^'$]+)'", source) + re.findall(
            r'data-(?:i18n|tab-text|i18n-label)="([^"]+)"', source
        )
        assert [key for key in asked if key not in TEXTS["en"]] == [], name


def test_no_text_is_left_over() -> None:
    everything = " ".join(SOURCES.values())
    prefixes = tuple(re.findall(r"(?:say|sayOr)\(`([^`$]*)\$\{", everything))
    other = [
        key
        for key in TEXTS["en"]
        if not key.startswith(prefixes) and not re.search(rf"""['"]{re.escape(key)}['"]""", everything)
    ]
    # of verdicts, columns and lists the page knows only the last part
    assert [key for key in other if key not in ("within", "beyond", "cannot tell", "rig", "applicator")] == []


def _told() -> dict[str, list[str]]:
    """What the controller can say, by kind of key."""
    tasks = sorted(set(re.findall(r"``(\w+)``", inspect.getdoc(AskOperator) or "")) - {"count", "adapt_plan"})
    tasks = [task for task in tasks if "_" in task and task != "by_hand"]
    return {
        "state": list(protocol.STATES),
        "needle": ["planned", "at reference depth", "in place", "verified", "delivered", "abandoned"],
        "ask": [
            *(task for task in tasks if task != "confirm_time_out"),
            "adapt_plan",
            "confirm_resume",
            *(f"confirm_time_out {item}" for item in ITEMS),
        ],
        "do": [kind.__name__ for kind in Command.__subclasses__()],
        "advice": [str(rule) for rule in range(len(advice.RULES) + 1)],
    }


@pytest.mark.parametrize("kind", ["state", "needle", "ask", "do", "advice"])
def test_what_the_controller_says_has_a_chinese_text(kind: str) -> None:
    missing = [f"{kind} {word}" for word in _told()[kind] if f"{kind} {word}" not in TEXTS["zh"]]
    assert missing == []
    assert len(_told()["ask"]) > 15, commands.__name__ + by_hand.__name__


def test_every_decision_has_a_text_in_both() -> None:
    for language, texts in TEXTS.items():
        assert [kind for kind in KINDS if f"decide_{kind}" not in texts] == [], language
