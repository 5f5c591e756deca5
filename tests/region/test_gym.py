import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import sliceoff.region.gym as faces
from sliceoff.errors import InputError
from sliceoff.region import RegionEnvironment, Scenario
from sliceoff.region.allocation import check_allocation

SMALL = {"scenario": Scenario(max_users=10, max_vms=4), "mean_users": 6, "bandwidth_hz": 5e6, "n_vms": 3}


@pytest.mark.parametrize("observation", ["full", "paper"])
def test_gymnasiums_checker(observation):
    env = gymnasium.make("sliceoff/Region-v0", **SMALL, observation=observation, render_mode="rgb_array")
    check_env(env.unwrapped)


def test_stable_baselines_checker():
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(faces.RegionEnv(**SMALL))


def test_vector_face_is_registered_and_native():
    envs = gymnasium.make_vec("sliceoff/Region-v0", num_envs=3, vectorization_mode="vector_entry_point", **SMALL)
    assert isinstance(envs.unwrapped, faces.RegionVectorEnv)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    seen, _ = envs.reset(seed=1)
    assert envs.observation_space.contains(seen)
    repeated, _ = envs.reset(seed=1)
    np.testing.assert_array_equal(seen, repeated)
    other, _ = envs.reset()
    assert not np.array_equal(seen, other)


def test_a_copy_alone_sees_what_it_sees_in_the_batch():
    single, many = faces.RegionEnv(**SMALL, episode_slots=5), faces.RegionVectorEnv(3, **SMALL, episode_slots=5)
    alone, _ = single.reset(seed=4)
    together, _ = many.reset(seed=4)
    single.action_space.seed(0)
    for step in range(12):  # over two ends of episodes
        np.testing.assert_array_equal(alone, together[0])
        action = single.action_space.sample()
        together, rewards, terminated, truncated, info = many.step(np.stack([action] * 3))
        if step % 6 == 5:
            alone, _ = single.reset()  # what the vector environment does by itself, on the step after the end
            assert info == {}
            assert (rewards == 0).all()
            assert not truncated.any()
            continue
        alone, reward, over, cut, details = single.step(action)
        assert reward == rewards[0]
        assert details["revenue"] == info["revenue"][0]
        assert not over
        assert not terminated.any()
        assert cut == truncated.all() == (step % 6 == 4)


def test_next_step_autoreset_is_gymnasiums():
    """The same rewards and flags, call by call, as Gymnasium's own vector of single environments."""
    ours = faces.RegionVectorEnv(2, **SMALL, episode_slots=3)
    theirs = gymnasium.vector.SyncVectorEnv([lambda: faces.RegionEnv(**SMALL, episode_slots=3)] * 2)
    ours.reset(seed=0)
    theirs.reset(seed=0)
    for _ in range(9):
        actions = np.zeros((2, 20), dtype=np.float32)
        mine, others = ours.step(actions), theirs.step(actions)
        for left, right in zip(mine[2:4], others[2:4], strict=True):
            np.testing.assert_array_equal(left, right)
        np.testing.assert_array_equal(mine[1] == 0, others[1] == 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5])
def test_bad_actions_are_errors(value):
    env = faces.RegionEnv(**SMALL)
    env.reset(seed=0)
    action = np.zeros(20, dtype=np.float32)
    action[3] = value
    with pytest.raises(InputError, match="action"):
        env.step(action)
    with pytest.raises(InputError, match="shape"):
        env.step(np.zeros(19, dtype=np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"mean_users": 0},
        {"mean_users": np.nan},
        {"mean_users": 11},
        {"bandwidth_hz": -1},
        {"episode_slots": 0},
        {"observation": "all"},
        {"render_mode": "human"},
        {"n_vms": 5},
    ],
)
@pytest.mark.usefixtures("as_at_run_time")
def test_bad_arguments_are_named(options):
    with pytest.raises(InputError, match=next(iter(options))):
        faces.RegionEnv(**(SMALL | options))


def test_a_reward_needs_a_price():
    with pytest.raises(InputError, match=r"region\.price"):
        faces.RegionEnv(Scenario(price=0))


def test_rental_and_traffic_change_from_outside_and_queues_stay():
    env = gymnasium.make("sliceoff/Region-v0", **SMALL)
    env.reset(seed=0)
    even = np.zeros(20, dtype=np.float32)
    for _ in range(3):
        env.step(even)
    regions = env.unwrapped.environment
    backlog = regions.state.backlog_s.clone()
    assert backlog.any()
    regions.rent(2.5e6, 1)
    regions.traffic(10.0)
    assert torch.equal(regions.state.backlog_s, backlog)
    _, _, terminated, truncated, _ = env.step(even)
    assert not terminated
    assert not truncated
    env.reset()
    assert not regions.state.backlog_s.any()
    assert regions.state.n_vms.tolist() == [1]  # a rental outlives the episode


def test_an_action_by_hand():
    """Eq. 21: the first half are weights of shares, the second VMs, each from -1 to 1."""
    region = RegionEnvironment(Scenario(max_users=4, max_vms=4), 4.0, 1, 0, bandwidth_hz=5e6, n_vms=4)
    state = region.reset()
    state = state._replace(tasks=state.tasks._replace(present=torch.tensor([[True, True, True, False]])))
    allocation = faces.decode(state, torch.tensor([[1.0, 0.0, -1.0, 1.0, -1.0, -0.4, 1.0, 0.0]]))
    torch.testing.assert_close(allocation.share, torch.tensor([[2 / 3, 1 / 3, 0.0, 0.0]]))
    assert allocation.vm[0, :3].tolist() == [0, 1, 3]


def test_every_action_keeps_c4_and_c5():
    region = RegionEnvironment(SMALL["scenario"], 6.0, 500, 0, bandwidth_hz=5e6, n_vms=torch.randint(1, 5, (500,)))
    generator = torch.Generator().manual_seed(0)
    actions = torch.rand(500, 20, generator=generator) * 2 - 1
    actions[:50] = actions[:50].sign()
    actions[50:60] = -1.0
    state = region.reset()
    check_allocation(state, faces.decode(state, actions))


def test_render_draws_the_slot_served_last():
    env = faces.RegionEnv(**SMALL, render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    env.step(np.zeros(20, dtype=np.float32))
    picture = env.render()
    assert not np.array_equal(before, picture)
    assert faces.RegionEnv(**SMALL).render() is None
    assert picture.ndim == 3
    assert picture.shape[-1] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
