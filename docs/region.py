"""Draws docs/region.svg, one slot of a region: `python docs/region.py`."""

from pathlib import Path

from sliceoff.region import Greedy, RegionEnvironment, Scenario, draw_slot

scenario = Scenario()
environment = RegionEnvironment(scenario, 24.0, n_copies=1, seed=3, bandwidth_hz=1.6e7, n_vms=9)
for _ in range(4):  # until queues carry over
    state = environment.state
    allocation = Greedy().allocate(scenario, state)
    _, outcome = environment.step(allocation)
draw_slot(scenario, state, allocation, outcome).savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})
