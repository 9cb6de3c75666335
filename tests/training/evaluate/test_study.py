"""A study of tasks on cases: records, going on, progress, what is announced."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from cases import message

from napari_hidiff.training.datasets import Case
from napari_hidiff.training.evaluate.study import Cost, Record, Study, Task, span

CASES = [Case(name, name, (), Path("none.png")) for name in "ab"]


class Lengths:
    """Tasks that note what they compute: two jobs of every case."""

    def __init__(self, seed: int = 0) -> None:
        self.computed: list[str] = []
        self.seed = seed

    def tasks(self, case: Case) -> list[Task[int]]:
        def task(job: int) -> Task[int]:
            def compute() -> Record:
                self.computed.append(f"{case.id}{job}")
                return {"length": job * len(case.id), "seed": self.seed}

            return Task(job, f"length-{job}-{case.id}", {"seed": self.seed}, compute)

        return [task(1), task(2)]


def run(study: Study, lengths: Lengths) -> list[tuple[str, dict[int, int]]]:
    return [
        (case.id, {job: record["length"] for job, record in records.items()})
        for case, records in study.run(CASES, lengths.tasks)
    ]


def test_every_case_has_its_records_by_job(tmp_path):
    lengths, said = Lengths(), []
    study = Study(tmp_path / "made", lambda done, case: said.append((done, case)))
    assert run(study, lengths) == [("a", {1: 1, 2: 2}), ("b", {1: 1, 2: 2})]
    a, b = CASES
    assert said == [(0, a), (0.5, a), (1, b), (1.5, b)]
    assert lengths.computed == ["a1", "a2", "b1", "b2"]
    assert study.records.computed == len(list((tmp_path / "made").iterdir())) == 4


def test_only_what_is_missing_is_computed_and_shown(tmp_path):
    run(Study(tmp_path), Lengths())
    next(tmp_path.glob("length-2-a*")).unlink()
    lengths, said = Lengths(), []
    study = Study(tmp_path, lambda done, case: said.append(done))
    assert run(study, lengths) == [("a", {1: 1, 2: 2}), ("b", {1: 1, 2: 2})]
    assert lengths.computed == ["a2"]
    assert said == [0.5]
    other = Lengths(seed=1)
    assert run(Study(tmp_path), other)
    assert len(other.computed) == 4


def test_without_computing_there_is_what_is_stored(tmp_path):
    run(Study(tmp_path), Lengths())
    next(tmp_path.glob("length-1-b*")).unlink()
    lengths = Lengths()
    assert run(Study(tmp_path, compute=False), lengths) == [("a", {1: 1, 2: 2}), ("b", {2: 2})]
    assert lengths.computed == []


def test_the_cost_of_what_is_missing_is_announced_first(tmp_path):
    said = []
    study = Study(tmp_path, lambda done, what: said.append(what))

    def cost(missing: Sequence[tuple[Case, Task[int]]]) -> Cost:
        return len(missing), "length", 100.0 * len(missing)

    for _ in range(2):
        list(study.run(CASES[:1], Lengths().tasks, cost))
    assert said == ["2 lengths to do: about 3 min on this machine", CASES[0], CASES[0]]
    said.clear()
    next(tmp_path.glob("length-1-a*")).unlink()
    list(study.run(CASES[:1], Lengths().tasks, cost))
    assert said == ["1 length to do: about 100 s on this machine", CASES[0]]


def test_progress_counts_on_from_the_cases_before(tmp_path):
    said = []
    study = Study(tmp_path, lambda done, case: said.append(done))
    list(study.run(CASES, Lengths().tasks, before=7))
    assert said == [7, 7.5, 8, 8.5]


def test_what_cannot_be_studied_is_one_line(tmp_path):
    assert "no case" in message(list, Study(tmp_path).run([], Lengths().tasks))
    (tmp_path / "file").write_text("")
    assert "file" in message(Study, tmp_path / "file")


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "3 s"), (119, "119 s"), (150, "2 min")])
def test_spans_of_time(seconds, text):
    assert span(seconds) == text
