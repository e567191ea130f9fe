"""The memory of answers: its time, and its bounds."""

import pytest

from wshub_core.protocol import kept_answers
from wshub_core.protocol.kept_answers import AnswerKey, KeptAnswer, KeptAnswers

KEY = AnswerKey("user", "publish", "k")
ANSWER = KeptAnswer("digest", b"{}")


def test_an_answer_is_kept_for_ten_minutes() -> None:
    now = 100.0
    answers = KeptAnswers(lambda: now)
    assert answers.find(KEY) is None
    answers.keep(KEY, ANSWER)
    now += 599
    assert answers.find(KEY) == ANSWER
    now += 1
    assert answers.find(KEY) is None


def test_a_key_that_is_used_again_after_its_time_counts_from_then_on() -> None:
    now = 0.0
    answers = KeptAnswers(lambda: now)
    answers.keep(KEY, ANSWER)
    now = 600
    second = KeptAnswer("digest", b"second")
    answers.keep(KEY, second)
    now = 700
    answers.keep(KEY._replace(key="other"), ANSWER)
    assert answers.find(KEY) == second


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_answers, "_MAX_ANSWERS", 100)
    monkeypatch.setattr(kept_answers, "_MAX_BYTES", 1_000)
    now = 0.0
    answers = KeptAnswers(lambda: now)
    keys = [KEY._replace(key=str(number)) for number in range(300)]
    for key in keys:
        answers.keep(key, ANSWER)
    assert [answers.find(key) is None for key in keys] == [True] * 200 + [False] * 100
    for key in keys[:20]:
        answers.keep(key, KeptAnswer("", b"x" * 100))
    assert answers._bytes == 1_000
    assert [key for key in keys[:20] if answers.find(key)] == keys[10:20]
    now = 600
    answers.keep(keys[0], ANSWER)
    assert (len(answers._kept), answers._bytes) == (1, 2)
