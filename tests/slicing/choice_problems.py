"""Random choice problems, and their optimum by trying everything."""

import itertools

import numpy as np

from sliceoff.slicing.choice import Block, ChoiceProblem


def problem(seed, regions=4, options=3, rows=1, tight=0.5):
    """Random costs; uses rise with the option, so that the first option everywhere keeps every row."""
    random = np.random.default_rng(seed)
    blocks = [
        Block(
            random.uniform(0, 10, (regions, options)), np.sort(random.uniform(0, 5, (rows, regions, options)), axis=-1)
        )
        for _ in range(2)
    ]
    least = sum(block.use[:, :, 0].sum(-1) for block in blocks)
    most = sum(block.use[:, :, -1].sum(-1) for block in blocks)
    return ChoiceProblem(blocks, least + tight * (most - least))


def brute_force(problem):
    regions = problem.blocks[0].cost.shape[0]
    ranges = [range(block.cost.shape[1]) for block in problem.blocks for _ in range(regions)]
    every = np.array(list(itertools.product(*ranges)))
    choice = tuple(every[:, regions * place : regions * (place + 1)] for place in range(len(problem.blocks)))
    return np.where(problem.holds(choice), problem.cost(choice).sum(-1), np.inf).min()
