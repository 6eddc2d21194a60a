"""Tests of paired differences."""

import numpy as np
import numpy.typing as npt

from clinex_edge.bench.predictions import Array


def sign_flip_test(differences: npt.NDArray[np.int64]) -> float:
    """The two-sided p-value that so large a sum of differences comes of chance alone.

    `differences` holds a whole number for each group: the documents that only A has right, less those that only B has right. If A and B
    were equal, each group might as well have fallen the other way: all ways of turning the signs are equally likely (Fisher 1935; whole
    blocks: Winkler et al. 2014). With one document in each group this is McNemar's test (1947) in its exact form, the binomial one.

    The sum's distribution is exact, from the product of the groups' characteristic functions, to about 1e-12.
    """
    sizes, groups = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    total = int(sizes @ groups)
    length = 1 << total.bit_length()
    angles = 2 * np.pi * np.arange(length // 2 + 1) / length
    spectrum = np.prod(np.cos(np.outer(angles, sizes) / 2) ** groups, axis=1) * np.exp(-0.5j * angles * total)
    chances = np.fft.irfft(spectrum, length)[: total + 1]  # that the groups which fall to A sum up to 0, 1, ... total
    sums = 2 * np.arange(total + 1) - total
    p = chances[np.abs(sums) >= abs(differences.sum())].sum()
    return float(np.clip(p, 2.0 ** (1 - groups.sum()), 1.0))


def holm(p: Array) -> Array:
    """p-values corrected for their number by Holm's step-down procedure (1979).

    With all below alpha called findings, the chance that any of them is false is at most alpha.
    """
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1)
    return corrected
