"""How long the rest will take, against a clock that the test turns: it must agree with what the rest then takes."""

import pytest

from clinex_edge.pipeline.pipeline import BATCH, BATCHES_AT_ONCE
from clinex_edge.runs.pace import Pace


class Clock:
    """Seconds that pass when `wait` says so."""

    def __init__(self):
        self.now = 1_000.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        self.now += seconds


class Machine:
    """Tells a pace what a pipeline would tell it: loading takes `load` seconds a model, each document `translate` and `extract`."""

    def __init__(self, total, load=0.0, translate=0.0, extract=0.0, turns=False):
        self.clock = Clock()
        self.pace = Pace(total, clock=self.clock)
        self.load, self.translate, self.extract, self.turns = load, translate, extract, turns
        self.loaded = set()
        self.told = []  # when, and how long the rest would take, each time a document was done

    def run(self, documents):
        """Read so many documents to the end."""
        at_once = BATCH * BATCHES_AT_ONCE if self.turns else BATCH
        for first in range(0, documents, at_once):
            sizes = [min(BATCH, documents - at) for at in range(first, min(documents, first + at_once), BATCH)]
            if self.translate:
                self.use("translator")
                for size in sizes:
                    self.steps("translating", size, self.translate)
            self.use("extractor")
            for size in sizes:
                self.steps("extracting", size, self.extract)
                for _ in range(size):
                    self.pace.settle("complete")
                    self.told.append((self.clock.now, self.pace.eta))

    def use(self, model):
        if model in self.loaded:
            return
        if self.turns:
            self.loaded.clear()
        self.loaded.add(model)
        self.pace.enter("loading", 0, 0)
        self.clock.wait(self.load)

    def steps(self, stage, documents, seconds):
        for done in range(1, documents + 1):
            self.clock.wait(seconds)
            self.pace.enter(stage, done, documents)

    def errors(self):
        """By how much the time told was wrong, as parts of the time left, batch by batch but the last."""
        ends = self.told[BATCH - 1 : -BATCH : BATCH]
        return [abs(told - (self.clock.now - when)) / (self.clock.now - when) for when, told in ends]


def test_nothing_is_told_before_the_first_document_is_done():
    machine = Machine(16, load=10)
    assert (machine.pace.eta, machine.pace.per_hour) == (None, None)
    machine.use("extractor")
    machine.steps("extracting", 7, 2)
    assert (machine.pace.eta, machine.pace.per_hour) == (None, None)
    machine.pace.settle("complete")
    assert machine.pace.eta > 0 and machine.pace.per_hour > 0


@pytest.mark.parametrize("load", [0, 1])
def test_one_model_takes_as_long_for_each_document(load):
    machine = Machine(80, load=load, extract=3)
    machine.run(80)
    assert machine.told[0][1] == pytest.approx(79 * 3, rel=0.15)
    assert max(machine.errors()) < 0.15
    assert machine.told[-1][1] == 0
    assert machine.pace.per_hour == pytest.approx(1200, rel=0.01)


def test_loading_once_is_no_part_of_what_is_left():
    machine = Machine(80, load=600, extract=3)
    machine.run(80)
    assert max(machine.errors()) < 0.15


def test_two_models_that_stay_take_translation_and_extraction_for_each_document():
    machine = Machine(80, load=20, translate=5, extract=2)
    machine.run(80)
    assert max(machine.errors()) < 0.2


@pytest.mark.parametrize("load", [0, 30, 120])
@pytest.mark.parametrize("total", [64, 320, 333])
def test_where_two_models_take_turns_each_is_loaded_again_for_so_many_documents(total, load):
    machine = Machine(total, load=load, translate=5, extract=2, turns=True)
    machine.run(total)
    assert len(machine.told) == total
    assert max(machine.errors()) < 0.2


def test_models_that_are_loaded_anew_after_a_crash_do_not_take_turns():
    machine = Machine(80, load=60, translate=5, extract=2)
    machine.run(24)
    machine.loaded.clear()
    machine.run(24)
    assert machine.told[-1][1] == pytest.approx(32 * 7, rel=0.1)


def test_documents_that_need_no_translation_are_not_counted_against_it():
    machine = Machine(160, translate=5, extract=2)
    machine.translate = 0
    machine.run(40)
    machine.translate = 5
    machine.run(40)
    assert machine.told[-1][1] == pytest.approx(80 * (2 + 5 / 2), rel=0.1)


def test_what_is_translated_already_is_only_read():
    machine = Machine(32, translate=5, extract=2, load=10, turns=True)
    machine.run(32)
    assert machine.told[BATCH - 1][1] == pytest.approx(24 * 2, rel=0.2)


def test_documents_that_were_settled_before_say_nothing_of_the_pace():
    machine = Machine(10_000, extract=3)
    for _ in range(9_920):
        machine.pace.settle("settled")
    assert (machine.pace.eta, machine.pace.computed, machine.pace.remaining) == (None, 0, 80)
    machine.run(80)
    assert max(machine.errors()) < 0.15
    assert machine.pace.per_hour == pytest.approx(1200)


def test_partial_and_failed_documents_count_as_work():
    pace = Machine(4).pace
    for status in ("partial", "failed", "settled"):
        pace.settle(status)
    assert (pace.computed, pace.remaining) == (2, 1)


def test_documents_that_come_after_the_count_leave_nothing():
    machine = Machine(8, extract=1)
    machine.run(16)
    assert (machine.pace.remaining, machine.pace.eta) == (0, 0)


def test_who_listens_is_told_of_every_step_and_document():
    seen = []
    pace = Pace(2, lambda pace: seen.append((pace.stage, pace.settled.total())), Clock())
    pace.enter("loading", 0, 0)
    pace.enter("extracting", 1, 2)
    pace.settle("complete")
    assert seen == [(("loading", 0, 0), 0), (("extracting", 1, 2), 0), (("extracting", 1, 2), 1)]


def test_other_programs_are_told_the_same():
    machine = Machine(16, extract=2.25)
    assert machine.pace.to_dict() == {
        "complete": 0, "partial": 0, "failed": 0, "settled": 0, "documents": 16, "per_hour": None, "eta_s": None,
        "stage": "", "stage_done": 0, "stage_steps": 0,
    }  # fmt: skip
    machine.run(8)
    assert machine.pace.to_dict() == {
        "complete": 8, "partial": 0, "failed": 0, "settled": 0, "documents": 16, "per_hour": 1600.0, "eta_s": pytest.approx(18, abs=3),
        "stage": "extracting", "stage_done": 8, "stage_steps": 8,
    }  # fmt: skip
