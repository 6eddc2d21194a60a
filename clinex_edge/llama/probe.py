"""How fast a model is on this machine, measured in seconds rather than minutes."""

import time

from clinex_edge.llama.model import Model

_DOCUMENT, _ANSWER = 200, 60  # tokens of a usual call and of the 13 answers
_WRITTEN = 16  # tokens that are written one after the other
_PASSES = 2  # over the answer: where it holds a yes, the guess is computed again (see docs/architecture.md)


def seconds_of_call(model: Model, budget: float) -> float:
    """Seconds for the answers to a later call, whose prompt's constant part is computed; measured in about `budget` seconds.

    Where the budget is short, one batch as long as the answer is measured, and scaled.
    """
    _work(model, _ANSWER)  # the first pass reads the weights from disk
    scaled = _work(model, _ANSWER) * (_DOCUMENT + _PASSES * _ANSWER) / _ANSWER
    if 2 * scaled > budget:
        return scaled
    return min(_work(model, _DOCUMENT, _PASSES), _work(model, _DOCUMENT, _PASSES))


def speeds(model: Model) -> dict[str, float]:
    """Tokens a second: `prefill` of a prompt as long as a usual call, and `decode` of an answer that is written token by token.

    Sequence 0 holds something else afterwards.
    """
    length = min(_DOCUMENT, model.ctx_size // 2)
    seconds = min(_work(model, length), _work(model, length))
    started = time.perf_counter()
    for _ in range(_WRITTEN):
        model.extend([0])
    return {"prefill": round(length / seconds, 2), "decode": round(_WRITTEN / (time.perf_counter() - started), 2)}


def _work(model: Model, length: int, passes: int = 0) -> float:
    """Seconds for a document of `length` tokens and so many passes over an answer."""
    tokens = [i * 7919 % model.n_vocab for i in range(length)]
    model.rewind(0)
    started = time.perf_counter()
    model.prefill(tokens)
    for _ in range(passes):
        model.rewind(length)
        model.extend(tokens[:_ANSWER])
    return time.perf_counter() - started
