import pytest
import torch

from sliceoff.region import Equal, Greedy, RegionEnvironment, Scenario, draw_slot


@pytest.mark.parametrize(("mean_users", "rule"), [(25.0, Greedy()), (25.0, Equal()), (0.0, Equal())])
def test_draw_slot(mean_users, rule):
    scenario = Scenario()
    region = RegionEnvironment(scenario, mean_users, 2, 3, bandwidth_hz=torch.tensor([8e6, 0.0]), n_vms=5)
    for _ in range(3):
        state = region.state
        allocation = rule.allocate(scenario, state)
        _, outcome = region.step(allocation)
    for row in range(2):
        figure = draw_slot(scenario, state, allocation, outcome, row=row)
        figure.canvas.draw()
        _, uploads, queues = figure.axes
        present = state.tasks.present[row]
        assert len(uploads.patches) == int(present.sum())
        ran = (outcome.on_time[row] & present).sum()
        assert len(queues.patches) >= 5 + int(ran)
