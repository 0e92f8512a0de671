"""What the applicator must not forget: boot, seed counter, outcomes, seed latch and the ledger of seeds.

Each change is written before anybody is told of it and before anything moves. From drivers/WIRE.md 1.3-1.5.
The law: loaded = implanted + left + wasted + in doubt, always.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

from simulator.nonvolatile import NonVolatile

SEED_LATCHES = {"NOPASS": "JAM", "DOUBLE": "DOUBLE", "UNKNOWN": "UNKNOWN"}
_RECORD = "applicator"


@dataclass(frozen=True)
class Outcome:
    """What became of one seed; um and mN. ``out`` is BUSY while the plunger is under way."""

    out: str
    z: int
    peak: int = 0
    pulses: int = 0
    stroke: int = 0


@dataclass(frozen=True)
class Record:
    """The non-volatile state.

    Attributes:
        procedure: hex digits of the last ledger; "" before the first.
        counter: number of the last intended seed.
        outcomes: of each intended seed of this ledger, by its number as text.
        loaded .. in_doubt: seeds. Those taken out unused with a cartridge are not loaded any more.
        has_opened: the cartridge switch opened since the last counted cartridge.
    """

    boot: int = 0
    procedure: str = ""
    is_open: bool = False
    counter: int = 0
    outcomes: dict[str, dict[str, int | str]] = field(default_factory=dict)
    latch: str = "NONE"
    latch_n: int = 0
    loaded: int = 0
    implanted: int = 0
    left: int = 0
    wasted: int = 0
    in_doubt: int = 0
    strokes: int = 0
    pulses: int = 0
    cartridges: int = 0
    has_opened: bool = True


class Memory:
    """The record and its few lawful changes, each one write. Starts a new boot.

    Args:
        store: survives this object.
    """

    def __init__(self, store: NonVolatile) -> None:
        self._store = store
        self.now = Record(**store.read(_RECORD, asdict(Record())))
        booted = replace(self.now, boot=self.now.boot % 0xFFFF + 1)
        interrupted = self.outcome(booted.counter)
        if interrupted is not None and interrupted.out == "BUSY":
            booted = _concluded(booted, replace(interrupted, out="UNKNOWN"))
        self._commit(booted)

    def outcome(self, n: int) -> Outcome | None:
        """Of seed n; None if it was never intended."""
        stored = self.now.outcomes.get(str(n))
        return None if stored is None else Outcome(**stored)  # type: ignore[arg-type]

    def begin(self, procedure: str) -> None:
        now = self.now
        self._commit(
            Record(
                boot=now.boot,
                procedure=procedure,
                is_open=True,
                latch=now.latch,
                latch_n=now.latch_n,
                has_opened=now.has_opened,
            )
        )

    def end(self) -> None:
        self._commit(replace(self.now, is_open=False))

    def load_cartridge(self, number: int, seeds: int, taken_out: int) -> None:
        loaded = self.now.loaded - taken_out + seeds
        self._commit(replace(self.now, cartridges=number, loaded=loaded, left=seeds, has_opened=False))

    def note_open_switch(self) -> None:
        if not self.now.has_opened:
            self._commit(replace(self.now, has_opened=True))

    def intend(self, n: int, z_um: int) -> None:
        """INTENT: from here on seed n counts as pushed, whatever happens."""
        now = self.now
        self._commit(
            replace(
                now,
                counter=n,
                left=now.left - 1,
                in_doubt=now.in_doubt + 1,
                strokes=now.strokes + 1,
                outcomes={**now.outcomes, str(n): asdict(Outcome("BUSY", z_um))},
            )
        )

    def conclude(self, outcome: Outcome) -> None:
        """The outcome of the seed under way, with its booking and its latch."""
        self._commit(_concluded(self.now, outcome))

    def clear_seed_latch(self, verdict: str) -> None:
        """A person has looked: IN the patient, WA wasted, LF left in the cartridge."""
        now = self.now
        place = {"IN": "implanted", "WA": "wasted", "LF": "left"}[verdict]
        moved = {place: getattr(now, place) + now.in_doubt}
        self._commit(replace(now, in_doubt=0, latch="NONE", latch_n=0, **moved))

    def _commit(self, record: Record) -> None:
        self._store.write(_RECORD, asdict(record))
        self.now = record


def _concluded(now: Record, outcome: Outcome) -> Record:
    now = replace(
        now, outcomes={**now.outcomes, str(now.counter): asdict(outcome)}, pulses=now.pulses + outcome.pulses
    )
    if outcome.out == "PASS":
        return replace(now, in_doubt=now.in_doubt - 1, implanted=now.implanted + 1)
    if outcome.out == "DOUBLE" and now.left > 0:
        now = replace(now, left=now.left - 1, in_doubt=now.in_doubt + 1)
    return replace(now, latch=SEED_LATCHES[outcome.out], latch_n=now.counter)
