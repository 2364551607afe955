# SPDX-License-Identifier: MIT
"""Document, sample and shuffle indices by NumPy's RandomState, as JSON: what the C code must give.

make_indices.py: prints tests/data/gpt/indices.json.  Written from the rules, without a line of the C code."""
import json
import numpy as np


def build(lengths, first, end, samples, seq, seed):
    lengths = np.asarray(lengths, dtype=np.int64)
    tokens = int(lengths[first:end].sum())
    epochs = 1
    while (epochs * tokens - 1) // seq < samples:
        epochs += 1
    rng = np.random.RandomState(seed)
    documents = np.mgrid[0:epochs, 0:end - first][1]
    documents[:] = np.arange(first, end)
    documents = documents.reshape(-1).astype(np.int32)
    rng.shuffle(documents)
    # token k of the stream is token `offset` of document `place`; a sample begins at every seq-th token
    sums = np.concatenate([[0], np.cumsum(lengths[documents])])
    count = (epochs * tokens - 1) // seq
    places = [[0, 0]]  # even if the first document is empty
    for i in range(1, count + 1):
        k = i * seq
        place = int(np.searchsorted(sums, k, side="right")) - 1
        places.append([place, int(k - sums[place])])
    shuffled = np.arange(count, dtype=np.uint32)
    rng.shuffle(shuffled)
    return dict(lengths=lengths.tolist(), first=first, end=end, samples=samples, seq=seq, seed=seed, epochs=epochs,
                documents=documents.tolist(), places=places, shuffled=shuffled.tolist())


def split(text, size):
    parts = [float(p) for p in text.replace("/", ",").split(",")]
    parts = (parts + [0.0, 0.0])[:3]
    parts = [p / sum(parts) for p in parts]
    ends = [0]
    for p in parts:
        ends.append(ends[-1] + int(round(p * float(size))))
    return ends[:1] + [e - (ends[-1] - size) for e in ends[1:]]


def blend(weights, size):
    drawn = [0] * len(weights)
    out = []
    for i in range(size):
        errors = [w * max(i, 1.0) - d for w, d in zip(weights, drawn)]
        k = errors.index(max(errors))
        out.append([k, drawn[k]])
        drawn[k] += 1
    return out


def weights(counts, alpha):
    p = [c / sum(counts) for c in counts]
    q = [x ** alpha for x in p]
    q = [x / sum(q) * (1 - y) for x, y in zip(q, p)]
    return [x / sum(q) for x in q]


if __name__ == "__main__":
    sizes = np.random.RandomState(7)
    words = np.random.RandomState(1234)
    cases = [build(sizes.randint(1, 40, 23), 0, 23, 60, 16, 1234), build(sizes.randint(1, 9, 50), 5, 41, 3, 100, 1234),
             build([1], 0, 1, 7, 1, 1234), build([0, 5, 0, 0, 3, 1], 0, 6, 11, 4, 99), build([300, 2], 0, 2, 40, 7, 0),
             build(sizes.randint(0, 3, 64), 0, 64, 30, 5, 4294967295)]
    big = np.arange(3000, dtype=np.int64)
    words.shuffle(big)
    print(json.dumps({
        "words": [int(w) for w in np.random.RandomState(1234).randint(0, 2**32, 8, dtype=np.uint32)],
        "at_most": [[m, [int(np.random.RandomState(5).randint(0, m + 1)) for _ in range(1)]] for m in (1, 6, 255, 256)],
        "shuffle": big.tolist()[:200],
        "cases": cases,
        "splits": [[t, n, split(t, n)] for t, n in (("969,30,1", 233), ("969, 30, 1", 1000), ("8/1/1", 25), ("1", 7),
                                                    ("1,1", 5), ("0.5,0.25,0.25", 10), ("1,1,1", 8), ("98,2,0", 3),
                                                    ("0,0,1", 4))],
        "blends": [[w, blend(w, 60)] for w in ([0.5, 0.3, 0.2], [0.1, 0.9], [1.0], [0.25] * 4)],
        "weights": [[c, 0.3, weights(c, 0.3)] for c in ([10, 1000, 90], [5, 5], [1, 2, 3, 4, 100000])],
    }, separators=(",", ":")))
