"""The LightningModule: learns, resumes bit for bit, rebuilds from its file, says what is wrong."""

import sys
from dataclasses import replace
from functools import partial
from operator import itemgetter

import lightning.pytorch as pl
import pytest
import quiet
import torch
from torch.testing import assert_close

from sliceoff import checkpoint
from sliceoff.allocator import LearningAllocator, MLPNetwork, Packing, Paper, Perspectives, Prices, SetNetwork
from sliceoff.errors import InputError
from sliceoff.region import Equal, Greedy, RegionEnvironment, Scenario, check_allocation, draws, map_state
from sliceoff.run import Parts, configure

SCENARIO = Scenario(max_users=12, max_vms=8)
SMALL = {
    "network": partial(SetNetwork, width=8),
    "decoder": partial(Prices, stride=4),
    "n_copies": 4,
    "env_steps": 4,
    "gradient_steps": 3,
    "batch_size": 16,
    "buffer_size": 40,
    "learning_starts": 16,
    "slots_per_rental": 6,
    "steps_per_epoch": 2,
    "validation_copies": 3,
    "validation_slots": 2,
}


def build(**options):
    torch.manual_seed(0)
    traffic = torch.linspace(2, 8, 20).view(10, 2)
    scenario = options.pop("scenario", SCENARIO)
    return LearningAllocator(scenario, traffic, [5e6, 10e6, 20e6], [2, 4, 8], **{**SMALL, **options})


def fit(allocator, epochs, directory=None, resume=None, **trainer):
    callbacks = [pl.callbacks.ModelCheckpoint(directory, save_last=True)] if directory else []
    engine = quiet.trainer(directory, epochs, callbacks=callbacks, **trainer)
    engine.fit(allocator, ckpt_path=resume, weights_only=None if resume is None else True)
    return engine


def test_no_two_uses_of_a_seed_share_draws():
    """Of a simulation, its allocator's training and evaluation, with the same seed."""
    allocator = build()
    fit(allocator, 1)
    trained = allocator._experience.environment
    simulated = RegionEnvironment(SCENARIO, trained.mean_users, trained.n_copies, trained.seed - draws.TRAINING)
    tasks = [environment.reset().tasks.data_bits for environment in (trained, simulated)]
    assert trained.seed - draws.TRAINING == 0
    assert not torch.equal(*tasks)
    assert len({0, draws.TRAINING, draws.VALIDATION, draws.REVENUE}) == 4


def state(copies=5, scenario=SCENARIO):
    environment = RegionEnvironment(scenario, 6.0, copies, seed=3, bandwidth_hz=8e6, n_vms=3)
    return environment.reset()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_resumed_run_goes_on_bit_for_bit(tmp_path):
    whole = fit(build(), 5, tmp_path / "whole")
    fit(build(), 2, tmp_path / "part")
    torch.rand(100)  # global random state must not matter
    resumed = fit(build(), 5, tmp_path / "part", resume=tmp_path / "part" / "last.ckpt")
    one, other = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "part"))
    for key in ("state_dict", "optimizer_states", "experience"):
        assert_close(one[key], other[key], rtol=0, atol=0)
    assert whole.callback_metrics["val/revenue"] == resumed.callback_metrics["val/revenue"]
    # The buffer went round, both agents learned: the comparison was of something.
    assert one["experience"]["buffer"]["size"] == 40
    assert int(one["state_dict"]["agents.updates"]) > 20


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_checkpoint_of_the_weights_only_has_no_replay_buffer(tmp_path):
    engine = fit(build(), 1, tmp_path)
    engine.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    saved = torch.load(tmp_path / "weights.ckpt", weights_only=True)
    assert "experience" not in saved
    loaded = checkpoint.load(tmp_path / "weights.ckpt", LearningAllocator)
    assert_close(dict(loaded.state_dict()), dict(saved["state_dict"]))
    assert "experience" in torch.load(tmp_path / "last.ckpt", weights_only=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_resume_on_another_kind_of_device_is_refused(tmp_path):
    fit(build(), 1, tmp_path)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    saved["experience"]["generator"] = torch.zeros(16, dtype=torch.uint8)  # a GPU's state is as long
    torch.save(saved, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="another kind of device than cpu"):
        fit(build(), 2, tmp_path, resume=tmp_path / "last.ckpt")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "kind", [{}, {"network": partial(MLPNetwork, hidden=[8]), "decoder": partial(Paper), "n_agents": 1}]
)
def test_checkpoint_rebuilds_the_allocator_from_the_file_alone(tmp_path, kind):
    allocator = build(**kind)
    fit(allocator, 1, tmp_path)
    loaded = checkpoint.load(tmp_path / "last.ckpt", expect=LearningAllocator)
    for ours, theirs in zip(allocator.allocate(SCENARIO, state()), loaded.allocate(SCENARIO, state()), strict=True):
        assert torch.equal(ours, theirs)
    assert loaded.scenario == SCENARIO


def test_allocate_is_deterministic_valid_and_needs_no_training():
    allocator = build(decoder=partial(Packing, stride=1))
    first, second = (allocator.allocate(SCENARIO, state()) for _ in range(2))
    check_allocation(state(), first)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_set_network_allocates_for_more_users_than_it_was_built_for():
    wide = Scenario(max_users=30, max_vms=8)
    allocation = build().allocate(wide, state(scenario=wide))
    check_allocation(state(scenario=wide), allocation)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_learns_to_beat_equal_on_held_out_seeds(tmp_path):
    allocator = build(gradient_steps=4, steps_per_epoch=5, validation_copies=24, validation_slots=10)
    fit(allocator, 2, tmp_path)
    ours, equal = (allocator._per_slot(allocator._rollout(each.allocate)) for each in (allocator, Equal()))
    assert ours > 1.1 * equal


def test_reward_above_greedy_is_zero_for_greedy_itself_and_its_shadow_is_no_ones_doing():
    allocator = build(reward="above_greedy", reward_scale=1.0)
    environments = [RegionEnvironment(SCENARIO, 6.0, 3, seed=0, bandwidth_hz=5e6, n_vms=2) for _ in range(3)]
    ours, shadow, other_shadow = environments
    for _ in range(3):
        _, outcome = ours.step(Greedy().allocate(SCENARIO, ours.state))
        assert allocator._reward(shadow, outcome).abs().max() == 0
    for _ in range(3):
        _, outcome = ours.step(Equal().allocate(SCENARIO, ours.state))
        reward = allocator._reward(shadow, outcome)
    for _ in range(6):
        expected = other_shadow.step(Greedy().allocate(SCENARIO, other_shadow.state))[1].revenue.sum(-1)
    mean_task = SCENARIO.price * 2
    torch.testing.assert_close(reward, (outcome.revenue.sum(-1) - expected) / mean_task)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_fitting_leaves_denormal_numbers_as_they_were(tmp_path):
    fit(build(), 1, tmp_path)
    assert sys.float_info.min / 2 > 0


def test_logs_what_a_researcher_watches(tmp_path):
    names = set(fit(build(), 3, tmp_path).callback_metrics)
    wanted = "revenue_current revenue_peer q twin_gap critic_loss actor_loss saturated distillation_weight"
    wanted += " xi_mean xi_std xi_10_percent xi_median xi_90_percent peer_is_worth_more"
    assert {f"train/{name}" for name in wanted.split()} <= names
    wanted = "revenue revenue_hybrid revenue_current revenue_peer above_greedy of_bound"
    assert {f"val/{name}" for name in wanted.split()} <= names
    assert {f"val/done_priority_{priority}" for priority in (1, 2, 3)} <= names


def test_actions_before_learning_are_uniform(tmp_path):
    allocator = build(learning_starts=160, n_copies=16, buffer_size=256, steps_per_epoch=3)
    fit(allocator, 1, tmp_path)
    first = allocator._experience.buffer.state_dict()["fields"]["action"][:, :160].flatten()
    assert first.abs().max() <= 1
    for edge in (-0.5, 0.0, 0.5):
        assert (first < edge).float().mean().item() == pytest.approx((edge + 1) / 2, abs=0.08)


def test_evaluation_is_told_in_shares_of_greedys_revenue_and_of_the_bound(tmp_path):
    allocator = build(seed=3)
    metrics = fit(allocator, 1, tmp_path).callback_metrics
    greedy, bound = allocator._measure_yardsticks()
    assert_close(metrics["val/above_greedy"], metrics["val/revenue"] / greedy - 1)
    assert_close(metrics["val/of_bound"], metrics["val/revenue"] / bound)


def test_the_revenue_in_training_is_that_of_every_agent_per_region_and_slot(tmp_path):
    scale = 4.0
    allocator = build(reward="revenue", reward_scale=scale, buffer_size=SMALL["env_steps"] * SMALL["n_copies"])
    logged = fit(allocator, 1, tmp_path).callback_metrics
    rewards = allocator._experience.buffer.state_dict()["fields"]["reward"]  # of the last turn, as that is its size
    task = SCENARIO.price * sum(SCENARIO.priorities) / len(SCENARIO.priorities)
    earned = torch.stack([logged["train/revenue_current"], logged["train/revenue_peer"]])
    assert_close(earned, rewards.mean(-1) * task / scale)
    assert earned[0] != earned[1]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_nobody_earns_more_than_the_bound_and_parts_are_parts(tmp_path):
    metrics = fit(build(), 1, tmp_path).callback_metrics
    assert 0 < metrics["val/of_bound"] <= 1
    assert all(0 <= metrics[f"val/done_priority_{priority}"] <= 1 for priority in (1, 2, 3))


def test_reward_above_rest_is_zero_at_action_zero():
    allocator = build(reward="above_rest")
    ours, shadow = (RegionEnvironment(SCENARIO, 6.0, 3, seed=0, bandwidth_hz=1e6, n_vms=1) for _ in range(2))
    for _ in range(3):
        _, outcome = ours.step(allocator.decoder(SCENARIO, ours.state, torch.zeros(3, 1, 2)))
        assert allocator._reward(shadow, outcome).abs().max() == 0
    _, outcome = ours.step(Equal().allocate(SCENARIO, ours.state))
    assert allocator._reward(shadow, outcome).abs().max() > 0


def test_reward_above_rest_of_the_papers_decoder_is_above_a_rule_that_uses_all_vms():
    allocator = build(reward="above_rest", decoder=Paper, network=partial(MLPNetwork, hidden=[8]))
    ours, shadow = (RegionEnvironment(SCENARIO, 6.0, 3, seed=0, bandwidth_hz=4e6, n_vms=4) for _ in range(2))
    _, outcome = ours.step(Equal().allocate(SCENARIO, ours.state))
    assert allocator._reward(shadow, outcome).abs().max() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "best"},
        {"observation": "all"},
        {"batch_size": 0},
        {"buffer_size": 3},
        {"capacity": (2.0, 1.0)},
        {"gamma": 2.0},
        {"actor_learning_rate": 0.0},
        {"exponent_clip": -1.0},
        {"seed": -1},
        {"reward": "joy"},
    ],
)
def test_wrong_options_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        build(**wrong)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_training_that_could_learn_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"learning_starts=33 is never reached: .*max_epochs=1 makes 32 transitions"):
        fit(build(learning_starts=33), 1, tmp_path)
    fit(build(learning_starts=33), 2, tmp_path)
    free = LearningAllocator(replace(SCENARIO, price=0.0), torch.full((2, 1), 5.0), [5e6], [2], **SMALL)
    with pytest.raises(InputError, match=r"region\.price=0"):
        fit(free, 2, tmp_path)


def test_saturation_is_the_policy_s_own_and_not_the_noise_s(tmp_path):
    metrics = fit(build(exploration_noise=100.0), 2, tmp_path).callback_metrics
    assert metrics["train/saturated"] == metrics["val/saturated"] == 0
    allocator = build()
    with torch.no_grad():
        allocator.agents.network.actor.head.bias.fill_(100.0)
    assert allocator._saturated([state()]) == 1


def test_where_nothing_can_be_earned_there_is_no_share_of_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(LearningAllocator, "_measure_yardsticks", lambda self: (0.0, 0.0))
    names = set(fit(build(), 1, tmp_path).callback_metrics)
    assert "val/revenue" in names
    assert not {"val/of_bound", "val/above_greedy"} & names


def test_a_single_agent_asks_no_critic_to_act():
    allocator = build(n_agents=1)
    allocator.agents.network.critic = None
    assert allocator.allocate(SCENARIO, state()).share.isfinite().all()


def test_a_single_agent_is_evaluated_once(tmp_path):
    names = set(fit(build(n_agents=1), 1, tmp_path).callback_metrics)
    assert {"val/revenue", "val/revenue_hybrid"} <= names
    assert not {"val/revenue_current", "val/revenue_peer"} & names


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", [{}, {"network": partial(MLPNetwork, hidden=[8]), "decoder": partial(Paper)}])
def test_trains_in_bfloat16(tmp_path, kind):
    allocator = build(**kind)
    before = {name: value.clone() for name, value in allocator.named_parameters()}
    explored, act = [], allocator._act
    allocator._act = lambda experience: (explored.append(torch.is_autocast_enabled("cpu")), act(experience))[1]
    fit(allocator, 2, tmp_path, precision="bf16-mixed")
    assert explored
    assert not any(explored)  # as it is served
    assert all(value.isfinite().all() for value in allocator.parameters())
    assert any(not torch.equal(value, before[name]) for name, value in allocator.named_parameters() if "actor" in name)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_trained_weights_serve_under_other_options_and_not_under_another_decoder(tmp_path):
    fit(build(), 1, tmp_path)
    trained = checkpoint.load(tmp_path / "last.ckpt", expect=LearningAllocator)
    torch.manual_seed(1)
    peer = checkpoint.load_weights(tmp_path / "last.ckpt", build(policy="peer", gamma=0.5))
    trained.policy = "peer"
    for ours, theirs in zip(peer.allocate(SCENARIO, state()), trained.allocate(SCENARIO, state()), strict=True):
        assert torch.equal(ours, theirs)
    assert peer.agents.gamma == 0.5
    for wrong, named in (
        ({"decoder": partial(Packing)}, "decoder=.*Prices"),
        ({"network": partial(SetNetwork, width=4)}, "network.width=8"),
        ({"observation": "paper"}, "observation=full"),
        ({"scenario": replace(SCENARIO, max_bandwidth_hz=160e6)}, "scenario.max_bandwidth_hz=8"),
        ({"scenario": replace(SCENARIO, max_users=2 * SCENARIO.max_users)}, f"scenario.max_users={SCENARIO.max_users}"),
        ({"decoder": partial(Prices, room=2.0)}, "decoder"),
    ):
        with pytest.raises(InputError, match=named):
            checkpoint.load_weights(tmp_path / "last.ckpt", build(**wrong))


@pytest.mark.parametrize("name", ["dual", "td3", "ddpg", "paper_dual"])
def test_what_a_config_makes_is_rebuilt_from_its_description(name):
    spec = Parts(configure(f"allocator={name}", "data.days=21")).allocator.spec
    assert checkpoint.differing(spec, checkpoint.build(spec).spec) is None


@pytest.mark.parametrize("network", [partial(SetNetwork, width=64), partial(MLPNetwork, hidden=(64, 64))])
@pytest.mark.parametrize("decoder", [partial(Prices, stride=6), partial(Packing, stride=6), Paper])
def test_a_region_is_served_alike_whatever_the_batch(network, decoder):
    """Bit for bit: regions of different loads, alone and in batches of any size."""
    scenario = Scenario(max_users=50, max_vms=16)
    torch.manual_seed(0)
    traffic = torch.linspace(2, 40, 21)
    options = {**SMALL, "network": network, "decoder": decoder}
    allocator = LearningAllocator(scenario, traffic.view(-1, 1), [5e6, 40e6], [2, 16], **options).eval()
    environment = RegionEnvironment(scenario, traffic, 21, seed=3, bandwidth_hz=20e6, n_vms=10)
    seen = environment.reset()
    for _ in range(3):
        seen, _ = environment.step(Greedy().allocate(scenario, seen))
        whole = allocator.allocate(scenario, seen)
        for size in (1, 3, 8):
            parts = [allocator.allocate(scenario, some) for some in batches(seen, size)]
            for name, expected in whole._asdict().items():
                assert torch.equal(torch.cat([getattr(part, name) for part in parts]), expected)


def test_forecasts_err_about_the_traffic_as_much_as_asked():
    def drawn(forecast_error):
        perspectives = Perspectives(SCENARIO, torch.tensor([[5.0], [8.0]]), [5e6], [2], (0.5, 2.0), forecast_error)
        return perspectives.draw(4000, torch.Generator().manual_seed(0))[:2]

    traffic, expected = drawn(0.0)
    assert torch.equal(traffic, expected)
    traffic, expected = drawn(0.3)
    error = (expected / traffic).log()
    assert error.std().item() == pytest.approx(0.3, rel=0.05)
    assert error.mean().item() == pytest.approx(0, abs=0.02)
    with pytest.raises(InputError, match=r"^forecast_error"):
        drawn(-0.1)


def batches(state, size):
    """The regions of a state, some at a time."""
    starts = range(0, len(state.n_vms), size)
    return [map_state(itemgetter(slice(start, start + size)), state) for start in starts]


def test_a_checkpoint_keeps_some_of_a_long_traces_traffic():
    traffic = torch.linspace(2, 8, 30_000).view(-1, 3)
    kept = LearningAllocator(SCENARIO, traffic, [5e6], [2], **SMALL).spec["arguments"]["mean_users"]
    assert kept.numel() <= 4096
    assert kept.aminmax() == traffic.aminmax()


class Unkept(pl.LightningModule):
    """Allocates, and is not to be rebuilt from its checkpoint."""

    def __init__(self, scenario, mean_users, bandwidth_options_hz, vm_options):
        super().__init__()
        self.scenario = scenario
        assert mean_users.shape[1] == 4  # periods, regions

    def allocate(self, scenario, state):
        return Equal().allocate(scenario, state)


def test_an_allocator_of_ones_own_without_a_spec_is_refused_when_it_is_made():
    parts = Parts(configure("predictor=last_value", "allocator=greedy", f"allocator._target_={__name__}.Unkept"))
    with pytest.raises(
        InputError, match=r"^allocator: Unkept lacks self.spec and an on_save_checkpoint that writes it;"
    ):
        _ = parts.allocator
