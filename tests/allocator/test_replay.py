"""The buffer against a plain list."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sliceoff.allocator import ReplayBuffer, Transition
from sliceoff.errors import InputError
from sliceoff.region import Observation


def rows(numbers, agents=2):
    """Transitions whose every field tells which one it is."""
    value = torch.tensor(numbers, dtype=torch.float32).expand(agents, -1) + 1000 * torch.arange(agents).unsqueeze(-1)
    observation = Observation(
        value.unsqueeze(-1), value[..., None, None].expand(-1, -1, 3, 2), torch.ones(*value.shape, 3, dtype=torch.bool)
    )
    following = Observation(observation.region + 0.5, observation.users + 0.5, observation.present)
    return Transition.of(observation, value[..., None, None].expand(-1, -1, 3, 1), value, value < 0, following)


@settings(deadline=None, max_examples=50)
@given(blocks=st.lists(st.integers(1, 7), min_size=1, max_size=12))
def test_ring_holds_the_newest(blocks):
    buffer, written = ReplayBuffer(7), []
    for block in blocks:
        numbers = list(range(len(written), len(written) + block))
        buffer.add(rows(numbers))
        written += numbers
    assert buffer.size == min(len(written), 7)
    drawn = buffer.sample(400, torch.Generator().manual_seed(0))
    for agent in range(2):
        assert set(drawn.reward[agent].tolist()) == {1000 * agent + number for number in written[-7:]}
    torch.testing.assert_close(drawn.users[..., 0, 0], drawn.reward)
    torch.testing.assert_close(drawn.next_region[..., 0], drawn.reward + 0.5)


def test_sampling_is_repeatable_and_uniform():
    buffer = ReplayBuffer(10)
    buffer.add(rows(list(range(10))))
    first, second = (buffer.sample(20_000, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.reward, second.reward)
    counts = torch.bincount(first.reward[0].long(), minlength=10)
    assert (counts / 2000 - 1).abs().max() < 0.1


def test_state_dict_restores_ring_and_position():
    buffer, restored = ReplayBuffer(5), ReplayBuffer(5)
    for block in ([0, 1, 2], [3, 4, 5]):
        buffer.add(rows(block))
    restored.load_state_dict(buffer.state_dict())
    for each in (buffer, restored):
        each.add(rows([6]))
    drawn = [each.sample(50, torch.Generator().manual_seed(0)).reward for each in (buffer, restored)]
    assert torch.equal(*drawn)
    assert set(drawn[0][0].tolist()) == {2.0, 3.0, 4.0, 5.0, 6.0}


def test_empty_ring_restores_empty():
    buffer = ReplayBuffer(5)
    buffer.load_state_dict(ReplayBuffer(5).state_dict())
    assert buffer.size == 0


def test_a_buffer_that_no_memory_holds_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"allocator.buffer_size=1000000000000 takes \d+ GB"):
        ReplayBuffer(10**12).add(rows([0]))
