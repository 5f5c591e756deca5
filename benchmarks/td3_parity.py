"""Our single-agent TD3 against Stable-Baselines3's: returns at equal steps, and gradient steps per second.

Speed is also compared with a plain torch loop; further tables show how much of the allocator's replay loop is spent
outside of learning, and what compiling its updates gains. Networks, hyperparameters, exploration, start of learning and
steps are the same; returns are means of ten evaluation episodes without noise, from the same starts.

    python benchmarks/td3_parity.py [--seeds 5] [--tasks Pendulum-v1 Reacher-v5 InvertedPendulum-v5] [--skip-returns]

The `benchmarks` extra installs what the tasks need. Each return is kept under `runs/benchmarks/td3_parity`; the
benchmark continues where it stopped.
"""

import cProfile
import logging
import pstats
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import gymnasium
import lightning.pytorch as pl
import numpy as np
import torch
from gymnasium.spaces import Box, flatdim
from harness import bare_trainer, finish, interval, kept, options, rounding_error, table
from hydra.utils import instantiate
from omegaconf import DictConfig
from plain_td3 import PlainTD3
from stable_baselines3 import TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecEnv
from torch.utils.flop_counter import FlopCounterMode

from callbacks import Compile
from sliceoff.allocator import Agents, LearningAllocator, MLPNetwork, ReplayBuffer, Transition, td3
from sliceoff.fitting import has_bfloat16
from sliceoff.region import Observation, Scenario
from sliceoff.run import configure

# Small networks, so that ten runs per task take minutes; speed is measured with the published ones.
HIDDEN, SPEED_HIDDEN = (64, 64), (400, 300)
STEPS = {"Pendulum-v1": 15_000, "Reacher-v5": 10_000, "InvertedPendulum-v5": 6_000}
ROOT = Path(__file__).parents[1]
CELLS = ROOT / "runs" / "benchmarks" / "td3_parity"
LEARNING_RATE, BATCH, LEARNING_STARTS, NOISE, GAMMA, TAU, BUFFER = 1e-3, 128, 500, 0.1, 0.98, 0.005, 50_000
# Environments stepped at once (against one at a time), and environment steps of each side in its turn.
AT_ONCE, TURN = 8, 64
TOGETHER = f", {AT_ONCE} environments"
# Suffixes of the sides' names, by precision of products: torch's default, the config's `matmul_precision=medium` (a
# table shows whether that rounds), bfloat16. The last is left out if the processor emulates it.
MEDIUM, BF16 = ", medium", ", bf16"
PRECISIONS = ("", MEDIUM, BF16) if has_bfloat16(torch.device("cpu")) else ("", MEDIUM)
EVALUATIONS, EVALUATION_SEED = 10, 10_000
Act = Callable[[np.ndarray], np.ndarray]


class Ours:
    """`Agents` with n_agents=1 on a gymnasium task: one region without users whose features are the observation."""

    def __init__(self, task: gymnasium.Env, seed: int, hidden: tuple[int, ...], batch_size: int):
        torch.manual_seed(seed)
        assert isinstance(task.action_space, Box)
        self.space, self.batch_size = task.action_space, batch_size
        self.agents = Agents(
            lambda **counted: MLPNetwork(
                region_features=flatdim(task.observation_space),
                user_features=0,
                n_users=1,
                action_shape=(1, flatdim(task.action_space)),
                hidden=hidden,
                **counted,
            ),
            n_agents=1,
            gamma=GAMMA,
            tau=TAU,
        )
        network = self.agents.network
        self.optimizers = [
            torch.optim.Adam(part.parameters(), lr=LEARNING_RATE, fused=True)
            for part in (network.actor, network.critic)
        ]
        self.buffer = ReplayBuffer(BUFFER)
        self.generator = torch.Generator().manual_seed(seed)
        self.updates = 0

    def act(self, seen: np.ndarray) -> np.ndarray:
        """The policy's action, scaled to the task's range."""
        return self._scaled(self.agents.act(_observation(seen[None])[0], "current")[0, 0].numpy())

    def explore(self, seen: np.ndarray) -> torch.Tensor:
        """The raw actions to explore with, one per row of the observations."""
        if self.buffer.size < LEARNING_STARTS:
            return 2 * torch.rand(1, len(seen), 1, *self.space.shape, generator=self.generator) - 1
        action = self.agents.act(_observation(seen)[0], "current").unsqueeze(0)
        return td3.explore(action, torch.randn(action.shape, generator=self.generator), NOISE)

    def learn(self) -> None:
        """Make one update, from a batch of the buffer."""
        batch = self.buffer.sample(self.batch_size, self.generator)
        noise = torch.randn(batch.action.shape, generator=self.generator)
        self.agents.update_critics(batch, noise, self.optimizers[1])
        self.updates += 1
        if td3.actor_is_due(self.updates, self.agents.policy_delay):
            self.agents.update_actors(batch, self.optimizers[0])

    def train(self, tasks: Sequence[gymnasium.Env], steps: int, seed: int) -> None:
        """Alternate one step in every environment and as many updates."""
        seen = np.stack([task.reset(seed=seed + place)[0] for place, task in enumerate(tasks)])
        for _ in range(steps // len(tasks)):
            action = self.explore(seen)
            results = [task.step(self._scaled(raw)) for task, raw in zip(tasks, action[0, :, 0].numpy(), strict=True)]
            following, rewards, terminated, truncated, _ = zip(*results, strict=True)
            self.buffer.add(
                Transition.of(
                    _observation(seen)[1],
                    action,
                    torch.tensor([rewards], dtype=torch.float32),
                    torch.tensor([terminated]),
                    _observation(np.stack(following))[1],
                )
            )
            over = np.logical_or(terminated, truncated)
            seen = np.stack(
                [task.reset()[0] if end else new for task, end, new in zip(tasks, over, following, strict=True)]
            )
            if self.buffer.size >= LEARNING_STARTS:
                for _ in tasks:
                    self.learn()

    def _scaled(self, action: np.ndarray) -> np.ndarray:
        return self.space.low + (action + 1) / 2 * (self.space.high - self.space.low)


def _observation(seen: np.ndarray) -> tuple[Observation, Observation]:
    """The observation without and with the axis of agents, one row per environment."""
    region, rows = torch.as_tensor(seen, dtype=torch.float32), len(seen)
    single = Observation(region, torch.zeros(rows, 1, 0), torch.ones(rows, 1, dtype=torch.bool))
    return single, Observation(*(x.unsqueeze(0) for x in single))


def theirs(task: gymnasium.Env | VecEnv, seed: int, hidden: tuple[int, ...], batch_size: int) -> TD3:
    """Make SB3's TD3 with the same settings."""
    actions = flatdim(task.action_space)
    return TD3(
        "MlpPolicy",
        task,
        learning_rate=LEARNING_RATE,
        buffer_size=BUFFER,
        learning_starts=LEARNING_STARTS,
        batch_size=batch_size,
        tau=TAU,
        gamma=GAMMA,
        train_freq=1,
        gradient_steps=-1,  # as many as environment steps
        action_noise=NormalActionNoise(np.zeros(actions), NOISE * np.ones(actions)),
        policy_kwargs={"net_arch": list(hidden)},
        seed=seed,
        device="cpu",
    )


def mean_return(task: gymnasium.Env, act: Act) -> float:
    """The mean return over evaluation episodes."""
    total = 0.0
    for episode in range(EVALUATIONS):
        seen, _ = task.reset(seed=EVALUATION_SEED + episode)
        over = False
        while not over:
            seen, reward, terminated, truncated, _ = task.step(act(seen))
            total += float(reward)
            over = terminated or truncated
    return total / EVALUATIONS


def our_return(name: str, seed: int) -> float:
    """Train and evaluate ours."""
    task = gymnasium.make(name)
    ours = Ours(task, seed, HIDDEN, BATCH)
    ours.train([task], STEPS[name], seed)
    return mean_return(task, ours.act)


@contextmanager
def multiplying(precision: str) -> Iterator[None]:
    """Compute products in one of `PRECISIONS`; bfloat16 is as with `trainer.allocator.precision=bf16-mixed`."""
    torch.set_float32_matmul_precision("medium" if precision == MEDIUM else "highest")
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == BF16, cache_enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision("highest")


def their_return(name: str, seed: int) -> float:
    """Train and evaluate SB3's."""
    task = gymnasium.make(name)
    model = theirs(task, seed, HIDDEN, BATCH).learn(STEPS[name])
    return mean_return(task, lambda seen: model.predict(seen, deterministic=True)[0])


def kept_return(train: Callable[[str, int], float], side: str, name: str, seed: int) -> float:
    """A return, read from its file if it was measured before."""
    slug = side.replace(", ", "-")
    path = CELLS / f"{name}-{STEPS[name]}-{slug}-{seed}.json"

    def measure() -> float:
        found = train(name, seed)
        print(f"{path.stem}: {found}", flush=True)
        return found

    return kept(path, measure)


def compare_returns(name: str, seeds: int) -> dict[str, float]:
    """Train both on every seed."""
    sides = {"ours": our_return, "sb3": their_return}
    if BF16 in PRECISIONS:
        sides["ours, bf16-mixed"] = multiplying(BF16)(our_return)
    intervals = {
        side: interval([kept_return(train, side, name, seed) for seed in range(seeds)]) for side, train in sides.items()
    }
    sb3, sb3_half = intervals["sb3"]
    rows, results, task = [], dict[str, float](), name.split("-")[0].lower()
    for side, (mean, half) in intervals.items():
        overlap = abs(mean - sb3) <= half + sb3_half
        rows.append({"": side, "mean": mean, "95 % +-": half, "overlaps SB3's": str(overlap)})
        results |= {f"{task}/{side}/return": mean, f"{task}/{side}/half_interval": half}
        results[f"{task}/{side}/overlaps"] = float(overlap)
    table(f"{name}: return after {STEPS[name]} steps, {seeds} seeds", rows)
    return results


def compare_speed(seconds: float = 10.0) -> dict[str, float]:
    """Compare gradient steps per second, each with an environment step, at batch 256 with 400-300 networks.

    The sides take turns of a fraction of a second, so that other load on the machine affects them equally.
    """
    tasks = [gymnasium.make("Pendulum-v1") for _ in range(AT_ONCE)]
    turns: dict[str, Callable[[int], object]] = {}
    peers: dict[str, str] = {}  # for each side SB3's with the same precision and number of environments
    for precision in PRECISIONS:
        ours = Ours(tasks[0], 0, SPEED_HIDDEN, 256)
        turns[f"ours{precision}"] = multiplying(precision)(partial(ours.train, tasks[:1], seed=1))
        peers[f"ours{precision}"] = f"sb3{precision}"
        for crowd, count in {"": 1, TOGETHER: AT_ONCE}.items():
            compiled = Ours(tasks[0], 0, SPEED_HIDDEN, 256)
            compiled.agents.compile(options={"cpp_wrapper": True})
            sb3 = theirs(make_vec_env("Pendulum-v1", count), 0, SPEED_HIDDEN, 256)
            # Its actions are computed outside of this context, as ours are.
            sb3.train = multiplying(precision)(sb3.train)  # type: ignore[method-assign]
            turns[f"sb3{precision}{crowd}"] = partial(sb3.learn, reset_num_timesteps=False)
            train = partial(compiled.train, tasks[:count], seed=1)
            turns[f"ours{precision}, compiled{crowd}"] = multiplying(precision)(train)
            peers[f"ours{precision}, compiled{crowd}"] = f"sb3{precision}{crowd}"
    plain = PlainTD3(
        tasks[0],
        0,
        SPEED_HIDDEN,
        256,
        learning_rate=LEARNING_RATE,
        gamma=GAMMA,
        tau=TAU,
        learning_starts=LEARNING_STARTS,
        exploration_noise=NOISE,
        buffer_size=BUFFER,
    )
    turns["plain"] = lambda steps: plain.train(tasks[0], steps, 1)
    peers["plain"] = "sb3"
    for turn in turns.values():
        turn(LEARNING_STARTS + 20)
    done, spent = dict.fromkeys(turns, 0), dict.fromkeys(turns, 0.0)
    while min(spent.values()) < seconds:
        for side, turn in turns.items():
            started = time.perf_counter()
            turn(TURN)
            spent[side] += time.perf_counter() - started
            done[side] += TURN
    rate, errors = {side: done[side] / spent[side] for side in turns}, dict[str, float]()
    for precision in PRECISIONS:
        dtype = torch.bfloat16 if precision == BF16 else torch.float32
        once = products(tasks[0], SPEED_HIDDEN, 256, dtype)
        with FlopCounterMode(display=False) as counted:
            once()
        with multiplying(precision):
            limits = {"matrix products only": 2 * repeated(once)}
            limits["products as fast as a large one"] = 2 * flops_per_s(dtype) / counted.get_total_flops()
            errors[precision] = rounding_error(torch.device("cpu"))
        rate |= {f"{limit}{precision}": steps for limit, steps in limits.items()}
        peers |= {f"{limit}{precision}": f"sb3{precision}" for limit in limits}
    table(
        f"Gradient steps per second, batch 256, networks 400-300, {torch.get_num_threads()} threads",
        [
            {
                "": side,
                "steps/s": rate[side],
                "times SB3": rate[side] / rate["sb3"],
                "times SB3 multiplying alike": rate[side] / rate[peers.get(side, side)],
            }
            for side in rate
        ],
    )
    table(
        "The largest error of a product, over its largest entry (1e-6 or less: single precision)",
        [{precision.removeprefix(", ") or "as torch comes": error for precision, error in errors.items()}],
    )
    fresh = Ours(tasks[0], 0, SPEED_HIDDEN, 256)
    fresh.train(tasks[:1], LEARNING_STARTS + 20, seed=1)
    return {
        **{f"gradient_steps_per_s_{side}": value for side, value in rate.items()},
        **{f"speed_ratio_to_sb3_{side}": rate[side] / rate["sb3"] for side in peers},
        **{f"speed_ratio_multiplying_alike_{side}": rate[side] / rate[peer] for side, peer in peers.items()},
        "speed_ratio_to_plain": rate["ours"] / rate["plain"],
        "share_of_time_sampling": rate["ours"] / repeated(lambda: fresh.buffer.sample(256, fresh.generator)),
        "share_of_time_updating": rate["ours"] / repeated(fresh.learn),
    }


def products(task: gymnasium.Env, hidden: tuple[int, ...], batch_size: int, dtype: torch.dtype) -> Callable[[], None]:
    """Only the matrix products of one TD3 update, averaged over updates with and without the actor."""
    n_inputs, n_actions = flatdim(task.observation_space), flatdim(task.action_space)

    def layers(members: int, *sizes: int) -> list[tuple[torch.Tensor, ...]]:
        """The input, the weight and the gradient of the output of every layer."""
        shapes = [((batch_size, a), (a, b), (batch_size, b)) for a, b in pairwise(sizes)]
        return [tuple(torch.randn(members, *shape, dtype=dtype) for shape in layer) for layer in shapes]

    actor = layers(1, n_inputs, *hidden, n_actions)
    critic = layers(1, n_inputs + n_actions, *hidden, 1)
    twins = layers(2, n_inputs + n_actions, *hidden, 1)

    def forward(network: list) -> None:
        for x, weight, _ in network:
            x @ weight

    def backward(network: list, *, weights: bool, inputs: int) -> None:
        for layer, (x, weight, gradient) in enumerate(network):
            if weights:
                x.mT @ gradient
            if layer >= inputs:
                gradient @ weight.mT

    def once() -> None:
        for _ in range(2):  # two updates of the critics ...
            for network in (actor, twins, twins):
                forward(network)
            backward(twins, weights=True, inputs=1)
        for network in (actor, critic):  # ... and one of the actor
            forward(network)
        backward(critic, weights=False, inputs=0)
        backward(actor, weights=True, inputs=1)

    return once


def flops_per_s(dtype: torch.dtype, size: int = 2048) -> float:
    """The rate of a large square product: about the most that torch achieves on the processor."""
    square = torch.randn(size, size, dtype=dtype)
    return 2 * size**3 * repeated(lambda: square @ square, 20)


def compare_loop(turns: int = 15) -> dict[str, float]:
    """Measure the parts of the time of the allocator's replay loop, at batch 256; MLPs are 400-300."""
    results: dict[str, float] = {}
    rows = []
    for name in ("paper_dual", "dual"):
        cfg = configure(f"allocator={name}", "allocator.batch_size=256")
        profile = cProfile.Profile()
        profile.runcall(learn, replaying(cfg, turns))
        spent = {
            f"{Path(file).stem}.{function}": seconds
            for (file, _, function), (_, _, _, seconds, _) in vars(pstats.Stats(profile))["stats"].items()
        }
        step, act = spent["allocator.training_step"], spent["allocator._act"]
        buffer = spent["replay.sample"] + spent["replay.add"]
        shares = {
            "environment": (act - spent["replay.add"]) / step,
            "buffer": buffer / step,
            "environment and buffer": (act + spent["replay.sample"]) / step,
        }
        ratio = f"{cfg.allocator.env_steps} x {cfg.allocator.n_copies} : {cfg.allocator.gradient_steps}"
        rows.append({"": name, "env steps : updates": ratio, **{key: f"{share:.1%}" for key, share in shares.items()}})
        results[f"share_of_loop_{name}_environment_and_buffer"] = shares["environment and buffer"]
    table("Replay loop of both agents: parts of its time", rows)
    return results


def compare_compiled(turns: int = 15) -> dict[str, float]:
    """Measure what `callbacks.Compile` gains for an update of both agents, as configured."""
    rows, results = [], dict[str, float]()
    for name in ("paper_dual", "dual"):
        cfg = configure(f"allocator={name}")
        spent: dict[str, list[float]] = {}
        for side, callbacks in {"as it is": [], "compiled": [Compile()]}.items():
            allocator = replaying(cfg, turns)
            updates, times = allocator._learn, spent.setdefault(side, [])

            def timed(experience: object, updates: Callable = updates, times: list[float] = times) -> object:
                started = time.perf_counter()
                logged = updates(experience)
                times.append(time.perf_counter() - started)
                return logged

            allocator._learn = timed  # type: ignore[method-assign, assignment]
            learn(allocator, callbacks)
        # The first turns compile.
        plain, compiled = (1e3 * float(np.median(times[5:])) / cfg.allocator.gradient_steps for times in spent.values())
        first = sum(spent["compiled"][:5])
        row = {"as it is, ms": plain, "compiled, ms": compiled, "ratio": plain / compiled, "to compile, s": first}
        rows.append({"": name, **row})
        results |= {f"update_ms_{name}": plain, f"update_ms_{name}_compiled": compiled}
    table(f"An update of both agents, {torch.get_num_threads()} threads", rows)
    return results


def replaying(cfg: DictConfig, turns: int) -> LearningAllocator:
    """An allocator that is ready to learn from the first turn on."""
    return instantiate(cfg.allocator, _partial_=True, _convert_="all")(
        scenario=Scenario(),
        mean_users=torch.full((1, 1), 20.0),
        bandwidth_options_hz=[20e6],
        vm_options=[12],
        steps_per_epoch=turns,
        learning_starts=0,
    )


def learn(allocator: LearningAllocator, callbacks: Sequence[pl.Callback] = ()) -> None:
    """Make an epoch of turns."""
    bare_trainer(max_epochs=1, limit_val_batches=0, accelerator="cpu", callbacks=list(callbacks)).fit(allocator)


def repeated(call: Callable[[], object], repeats: int = 300) -> float:
    """The number of calls per second."""
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return repeats / (time.perf_counter() - started)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="per task and side")
    parser.add_argument("--tasks", nargs="*", default=list(STEPS), choices=list(STEPS), help="all if not given")
    parser.add_argument("--skip-returns", action="store_true", help="measure speed alone")
    parser.add_argument("--skip-speed", action="store_true", help="measure returns alone")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if BF16 not in PRECISIONS:
        print("bfloat16 is left out: this processor has no products in it and would take many times as long")
    results: dict[str, float] = {}
    if not given.skip_speed:
        results |= compare_speed() | compare_loop() | compare_compiled()
    for name in [] if given.skip_returns else given.tasks:
        results |= compare_returns(name, given.seeds)
    finish(results)


if __name__ == "__main__":
    main()
