"""What is said of each needle after a CT, while it is being filled in; words as a person types them.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from controller import ruling
from controller.commands import AskOperator
from controller.snapshot import NeedleStatus
from imaging.deviation import Verdict

GROUPS = ("within", "beyond", "unsure", "rest", "all")
LEGEND = (
    "tip: how far it is from its place (more than 2 mm is beyond), ±: how sure that is (1 sigma); lateral: across the "
    "needle; depth: + is too deep; proposal: how the tip would be moved, in the rig's frame"
)
HELP = """  accept NEEDLES: as they stand. NEEDLES: names, or within, beyond, unsure, rest (not judged yet), all
  correct NEEDLES: as proposed; correct N03 X Y Z: that tip by so many mm (Z deeper)
  abandon NEEDLES because REASON: taken out, its seeds not given
  again: another CT, before anything is judged{slices}
  show: the table once more; go: when every needle is judged
  hold because REASON: nothing goes on until you let it; stop: at once, and for good"""
_WHY_NOT_ACCEPTED = "measured beyond 2 mm a needle can't be accepted"


class RulingSheet:
    """The words for one question."""

    def __init__(self, asked: AskOperator, needles: Sequence[NeedleStatus]) -> None:
        self.asked = asked
        self._choices = {name: words for name, words in (asked.choices or {}).items() if name != ruling.CT}
        self._found = {needle.name: needle.deviation for needle in needles}
        self.words: dict[str, str] = {}

    @property
    def cts(self) -> list[str]:
        """Which other CT may be asked for; the first is what is proposed."""
        return (self.asked.choices or {}).get(ruling.CT, [])

    @property
    def hints(self) -> list[str]:
        """What the controller points out."""
        return self.asked.text.split("\n")[1:]

    @property
    def help(self) -> str:
        """Everything that can be typed."""
        slices = sorted(word.removeprefix(ruling.AGAIN).strip() for word in self.cts if word != ruling.AGAIN)
        told = f"; again {' or '.join(slices)}: with slices of so many mm" if slices else ""
        return HELP.format(slices=told)

    def ct(self, line: str) -> str | None:
        """The CT that ``again`` or ``again SLICE`` asks for, as the answer says it; None: it is not to be had."""
        kind, *rest = line.lower().removesuffix("mm").split() or [""]
        if len(rest) == 1 and _is_number(rest[0]):
            kind = f"{ruling.AGAIN} {float(rest[0]):g}"
        elif rest:
            return None
        return kind if kind in self.cts else None

    @property
    def missing(self) -> list[str]:
        return [name for name in self._choices if name not in self.words]

    @property
    def answer(self) -> dict[str, str]:
        """For ``OperatorConfirmed.values``, in the question's order."""
        return {name: self.words[name] for name in self._choices if name in self.words}

    def proposal(self, name: str) -> list[float] | None:
        """How the controller would move this tip, mm in the rig's frame."""
        return (self.asked.proposals_mm or {}).get(name)

    def say(self, line: str) -> str | None:
        """Take a line in; why not, in a sentence, or None."""
        front, _, because = line.strip().partition(" because ")
        kind, *about = front.split() or [""]
        if kind not in (ruling.ACCEPT, ruling.CORRECT, ruling.ABANDON):
            return (
                f"'{kind}' is not understood; accept, correct, abandon, again, show, go, hold, stop; or help"
            )
        names, numbers = [word for word in about if not _is_number(word)], [w for w in about if _is_number(w)]
        word = kind
        if numbers and kind == ruling.CORRECT:
            way = ruling.own_mm(" ".join(numbers))
            if isinstance(way, str):
                return way
            word = f"{kind} {' '.join(numbers)}"
        elif numbers:
            return f"{kind} takes no numbers"
        if kind == ruling.ABANDON:
            if not because.strip():
                return "say why: abandon NEEDLES because REASON"
            word = f"{kind} because {because.strip()}"
        wanted, problem = self._named(names)
        if problem is not None:
            return problem
        is_group = any(name in GROUPS for name in names)
        choice = ruling.OWN if word not in (kind, "") and kind == ruling.CORRECT else kind
        fitting = [name for name in wanted if choice in self._choices[name]]
        if not fitting or (not is_group and len(fitting) < len(wanted)):
            refused = [name for name in wanted if name not in fitting]
            why = f" ({_WHY_NOT_ACCEPTED})" if kind == ruling.ACCEPT else ""
            return (
                f"{word.split(' because')[0]} can't be said of {', '.join(refused)} now; "
                f"of {refused[0]} can be: {ruling.in_words(self._choices[refused[0]])}{why}"
                if refused
                else "no needle is meant"
            )
        self.words.update(dict.fromkeys(fitting, word))
        return None

    def _named(self, names: Sequence[str]) -> tuple[list[str], str | None]:
        if not names:
            return [], "name needles, or one of within, beyond, unsure, rest, all"
        wanted: list[str] = []
        for name in names:
            if name in GROUPS:
                wanted += self._group(name)
            elif name.upper() in self._choices:
                wanted.append(name.upper())
            else:
                return [], f"there is no needle {name} to be judged; there are {', '.join(self._choices)}"
        return list(dict.fromkeys(wanted)), None

    def _group(self, group: str) -> list[str]:
        verdict = {"within": Verdict.WITHIN, "beyond": Verdict.BEYOND, "unsure": Verdict.CANNOT_TELL}.get(
            group
        )
        if verdict is None:
            return list(self._choices) if group == "all" else self.missing
        found = self._found
        return [n for n in self._choices if (d := found.get(n)) is not None and d.verdict is verdict]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
