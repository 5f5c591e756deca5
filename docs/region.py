"""Draws docs/region.svg, one slot of a region: `python docs/region.py`."""

from pathlib import Path

import matplotlib

from sliceoff.region import Equal, RegionEnvironment, Scenario, draw_slot

scenario = Scenario()
# Too little is rented, and shared without a thought: some of everything happens.
environment = RegionEnvironment(scenario, 16.0, n_copies=1, seed=3, bandwidth_hz=1.1e7, n_vms=6)
for _ in range(4):  # until queues carry over
    state = environment.state
    allocation = Equal().allocate(scenario, state)
    _, outcome = environment.step(allocation)
# Text stays text, and the same slot makes the same file.
with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "region"}):
    figure = draw_slot(scenario, state, allocation, outcome)
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})
