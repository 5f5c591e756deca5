"""ProbSparse attention, forward and backward: ours against the published implementation and dense attention.

    python benchmarks/attention.py [--lengths 96 336 720 1440 2880] [--repeats 5] [--burst 3] [--threads 2] [--split]

Time: the minimum over the repeats, which other programs disturb least. The forms take turns of a few steps, of which
the first starts with the caches and the heap of another form (`--burst 1`: only such steps). Memory: the growth of the
process's peak, each form in fresh processes: median and maximum, because the heap returns varying amounts. The short
lengths show where dense attention is faster (`DENSE_BELOW`). In memory, heads come before steps; with `--split` after
them, as a layer's projections leave them, for which all but dense attention need copies.

With MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ at 4000000000 in the environment, glibc keeps freed memory; this
removes most of the cost of the published form's large temporaries.
"""

import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from harness import finish, options, table
from torch import Tensor

from sliceoff.predictor import prob_sparse_attention

BATCH, HEADS, SIZE, FACTOR = 8, 8, 64, 5.0
PROCESSES = 9


def published(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """ProbSparse attention as Zhou et al. published it: it gathers keys for every query, and indexes by batch and head.

    If causal, the top queries see keys up to their own position, and the others get the running sum of the values.
    """
    (batch, heads, n_queries, size), n_keys = query.shape, key.shape[-2]
    sampled, top = (min(length, math.ceil(FACTOR * math.log(length))) for length in (n_keys, n_queries))
    index = torch.randint(n_keys, (n_queries, sampled), device=query.device)
    expanded = key.unsqueeze(-3).expand(batch, heads, n_queries, n_keys, size)
    gathered = expanded[:, :, torch.arange(n_queries).unsqueeze(1), index, :]
    scores = torch.matmul(query.unsqueeze(-2), gathered.transpose(-2, -1)).squeeze(-2)
    measure = scores.max(-1)[0] - scores.sum(-1) / n_keys
    active = measure.topk(top, sorted=False)[1]
    rows = torch.arange(batch)[:, None, None], torch.arange(heads)[None, :, None], active
    scores = torch.matmul(query[rows], key.transpose(-2, -1)) / math.sqrt(size)
    if causal:
        later = torch.ones(n_queries, n_keys, dtype=torch.bool, device=query.device).triu(1)
        scores = scores.masked_fill(later.expand(batch, heads, n_queries, n_keys)[rows], -math.inf)
        context = value.cumsum(-2)
    else:
        context = value.mean(-2).unsqueeze(-2).expand(batch, heads, n_queries, size).clone()
    context[rows] = torch.matmul(torch.softmax(scores, -1), value)
    return context


FORMS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "ours": partial(prob_sparse_attention, dense_below=0),
    "independent": partial(prob_sparse_attention, dense_below=0, sampling="independent"),
    "published": published,
    "dense": torch.nn.functional.scaled_dot_product_attention,
}


def inputs(length: int, split: bool = False) -> list[Tensor]:
    """Queries, keys and values (batch, heads, length, size), in memory (batch, length, heads, size) if `split`."""
    torch.manual_seed(0)
    tensors = [torch.randn(BATCH, HEADS, length, SIZE) for _ in range(3)]
    if split:
        tensors = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in tensors]
    return [tensor.requires_grad_() for tensor in tensors]


def step(form: str, tensors: list[Tensor]) -> None:
    FORMS[form](*tensors).sum().backward()
    for tensor in tensors:
        tensor.grad = None


def milliseconds(length: int, repeats: int, burst: int, split: bool) -> dict[str, float]:
    """The minimum time of each form [ms]; the forms take turns of `burst` steps."""
    tensors, best = inputs(length, split), dict.fromkeys(FORMS, math.inf)
    for _ in range(repeats + 1):
        for form in [form for form in FORMS for _ in range(burst)]:
            start = time.perf_counter()
            step(form, tensors)
            best[form] = min(best[form], 1e3 * (time.perf_counter() - start))
    return best


def peak_mib(form: str, length: int, split: bool) -> float:
    """The growth of this process's peak memory in one step (Linux)."""
    tensors = inputs(length, split)
    step(form, inputs(96))  # so that what torch itself takes, such as its code, is not counted
    before = peak_kib()
    step(form, tensors)
    return (peak_kib() - before) / 1024


def peak_kib() -> int:
    """The peak resident memory of this process; unlike getrusage's, it does not include the parent's."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def main() -> None:
    parser = options(__doc__)
    lengths = [24, 32, 48, 64, 96, 336, 720, 1440, 2880]
    parser.add_argument("--lengths", type=int, nargs="+", default=lengths, help="steps; memory is of the longest")
    parser.add_argument("--repeats", type=int, default=5, help="turns of every form, tenfold up to 500 steps")
    parser.add_argument("--burst", type=int, default=3, help="steps of a turn")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="of torch")
    parser.add_argument(
        "--split", action="store_true", help="heads after the steps in memory, as projections leave them"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows, results = [], {"threads": float(arguments.threads)}
    for length in arguments.lengths:
        took = milliseconds(length, arguments.repeats * (1 if length > 500 else 10), arguments.burst, arguments.split)
        over = {f"{form}/ours": took[form] / took["ours"] for form in ("published", "dense")}
        rows.append({"length": length, **{f"{form} [ms]": took[form] for form in FORMS}, **over})
        results |= {f"{form}_ms_{length}": took[form] for form in FORMS}
        results |= {f"{form}_over_ours_{length}": took[form] / took["ours"] for form in ("published", "dense")}
    table(f"forward and backward, batch {BATCH}, {HEADS} heads of {SIZE}, {arguments.threads} threads", rows)

    longest = max(arguments.lengths)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        measured = {
            form: pool.starmap(peak_mib, [(form, longest, arguments.split)] * PROCESSES, chunksize=1) for form in FORMS
        }
    peaks = {form: statistics.median(mib) for form, mib in measured.items()}
    table(
        f"peak memory of one step at length {longest}, {PROCESSES} processes",
        [
            {"form": form, "MiB": peak, "most": max(measured[form]), "of published": peak / peaks["published"]}
            for form, peak in peaks.items()
        ],
    )
    results |= {f"{form}_peak_mib_{longest}": peak for form, peak in peaks.items()}
    results["memory_of_published"] = peaks["ours"] / peaks["published"]
    finish(results)


if __name__ == "__main__":
    main()
