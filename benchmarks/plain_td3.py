"""A plain TD3 in a single file, as a baseline for speed: separate modules, per-parameter targets, a NumPy ring."""

import copy
from itertools import pairwise

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, flatdim
from torch import nn


def perceptron(n_inputs: int, hidden: tuple[int, ...], n_outputs: int, *last: nn.Module) -> nn.Sequential:
    sizes = (n_inputs, *hidden)
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], n_outputs), *last)


class PlainTD3:
    """TD3 on a gymnasium task with actions in a symmetric box."""

    def __init__(
        self,
        task: gymnasium.Env,
        seed: int,
        hidden: tuple[int, ...],
        batch_size: int,
        *,
        learning_rate: float,
        gamma: float,
        tau: float,
        learning_starts: int,
        exploration_noise: float,
        buffer_size: int,
        policy_delay: int = 2,
        target_policy_noise: float = 0.2,
        target_noise_clip: float = 0.5,
    ):
        torch.manual_seed(seed)
        self.random = np.random.default_rng(seed)
        seen, acts = flatdim(task.observation_space), flatdim(task.action_space)
        assert isinstance(task.action_space, Box)
        self.high = float(task.action_space.high[0])
        self.actor = perceptron(seen, hidden, acts, nn.Tanh())
        self.critics = nn.ModuleList(perceptron(seen + acts, hidden, 1) for _ in range(2))
        self.target_actor, self.target_critics = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=learning_rate)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), lr=learning_rate)
        self.gamma, self.tau, self.batch_size = gamma, tau, batch_size
        self.learning_starts, self.noise, self.policy_delay = learning_starts, exploration_noise, policy_delay
        self.target_noise, self.target_clip = target_policy_noise, target_noise_clip
        self.ring = [np.zeros((buffer_size, n), np.float32) for n in (seen, acts, 1, 1, seen)]
        self.size = self.updates = 0

    def train(self, task: gymnasium.Env, steps: int, seed: int) -> None:
        """Alternate environment steps and updates."""
        seen, _ = task.reset(seed=seed)
        for _ in range(steps):
            if self.size < self.learning_starts:
                action = self.random.uniform(-1, 1, task.action_space.shape).astype(np.float32)
            else:
                with torch.no_grad():
                    action = self.actor(torch.as_tensor(seen)).numpy()
                action = np.clip(action + self.noise * self.random.standard_normal(action.shape), -1, 1)
            following, reward, terminated, truncated, _ = task.step(action * self.high)
            place = self.size % len(self.ring[0])
            for stored, new in zip(self.ring, (seen, action, reward, terminated, following), strict=True):
                stored[place] = new
            self.size += 1
            seen = task.reset()[0] if terminated or truncated else following
            if self.size >= self.learning_starts:
                self.learn()

    def learn(self) -> None:
        """Make one update of the critics, and of the actor if it is due."""
        rows = self.random.integers(min(self.size, len(self.ring[0])), size=self.batch_size)
        seen, action, reward, terminated, following = (torch.from_numpy(stored[rows]) for stored in self.ring)
        with torch.no_grad():
            noise = (torch.randn_like(action) * self.target_noise).clamp(-self.target_clip, self.target_clip)
            then = torch.cat((following, (self.target_actor(following) + noise).clamp(-1, 1)), -1)
            worth = torch.minimum(*(critic(then) for critic in self.target_critics))
            target = reward + self.gamma * (1 - terminated) * worth
        now = torch.cat((seen, action), -1)
        loss = torch.stack([nn.functional.mse_loss(critic(now), target) for critic in self.critics]).sum()
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        self.updates += 1
        if self.updates % self.policy_delay:
            return
        loss = -self.critics[0](torch.cat((seen, self.actor(seen)), -1)).mean()
        self.actor_optimizer.zero_grad()
        loss.backward()
        self.actor_optimizer.step()
        for online, behind in ((self.actor, self.target_actor), (self.critics, self.target_critics)):
            for new, old in zip(online.parameters(), behind.parameters(), strict=True):
                old.data.copy_(self.tau * new.data + (1 - self.tau) * old.data)
