"""Edge regions: physics (Eqs. 1-10), environment, observations, allocation rules."""

from sliceoff.region.allocation import Allocator as Allocator
from sliceoff.region.allocation import check_allocation as check_allocation
from sliceoff.region.bounds import upper_bound as upper_bound
from sliceoff.region.environment import RegionEnvironment as RegionEnvironment
from sliceoff.region.environment import utilisation as utilisation
from sliceoff.region.observation import Observation as Observation
from sliceoff.region.observation import observe as observe
from sliceoff.region.observation import region_features as region_features
from sliceoff.region.observation import user_features as user_features
from sliceoff.region.optimum import Optimum as Optimum
from sliceoff.region.optimum import optimum as optimum
from sliceoff.region.rules import Equal as Equal
from sliceoff.region.rules import Greedy as Greedy
from sliceoff.region.rules import LookaheadGreedy as LookaheadGreedy
from sliceoff.region.rules import Proportional as Proportional
from sliceoff.region.rules import Random as Random
from sliceoff.region.rules import normalise as normalise
from sliceoff.region.scenario import Scenario as Scenario
from sliceoff.region.serve import bandwidth_work as bandwidth_work
from sliceoff.region.serve import execution_work as execution_work
from sliceoff.region.serve import serve as serve
from sliceoff.region.serve import task_efficiency as task_efficiency
from sliceoff.region.state import Allocation as Allocation
from sliceoff.region.state import Outcome as Outcome
from sliceoff.region.state import RegionState as RegionState
from sliceoff.region.state import Tasks as Tasks
