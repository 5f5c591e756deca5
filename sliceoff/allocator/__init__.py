"""The learning allocator: TD3 with dual distillation (Eqs. 20-28, Algorithm 3), its networks and decoders."""

from sliceoff.allocator.agents import Agents as Agents
from sliceoff.allocator.allocator import LearningAllocator as LearningAllocator
from sliceoff.allocator.decoder import Decoder as Decoder
from sliceoff.allocator.decoder import Packing as Packing
from sliceoff.allocator.decoder import Paper as Paper
from sliceoff.allocator.decoder import Prices as Prices
from sliceoff.allocator.networks import MLPNetwork as MLPNetwork
from sliceoff.allocator.networks import Network as Network
from sliceoff.allocator.networks import SetNetwork as SetNetwork
from sliceoff.allocator.perspectives import Perspectives as Perspectives
from sliceoff.allocator.perspectives import traffic_levels as traffic_levels
from sliceoff.allocator.replay import ReplayBuffer as ReplayBuffer
from sliceoff.allocator.replay import Transition as Transition
