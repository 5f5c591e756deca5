"""P1.1, what to rent: offers, demand (Eq. 17), programs in python-mip, rounding, rules."""

from sliceoff.slicing.demand import TaskStatistics as TaskStatistics
from sliceoff.slicing.demand import bandwidth_demand as bandwidth_demand
from sliceoff.slicing.demand import pair_capacity as pair_capacity
from sliceoff.slicing.demand import upload_span as upload_span
from sliceoff.slicing.demand import vm_demand as vm_demand
from sliceoff.slicing.forecast_errors import ForecastErrors as ForecastErrors
from sliceoff.slicing.offers import Offers as Offers
from sliceoff.slicing.offers import discount_price as discount_price
from sliceoff.slicing.offers import rising_price as rising_price
from sliceoff.slicing.profit import Profit as Profit
from sliceoff.slicing.rental import Rental as Rental
from sliceoff.slicing.rental import Slicer as Slicer
from sliceoff.slicing.rental import SlicingRequest as SlicingRequest
from sliceoff.slicing.requirement import FixedKappa as FixedKappa
from sliceoff.slicing.requirement import JointKappa as JointKappa
from sliceoff.slicing.revenue import RevenueTable as RevenueTable
from sliceoff.slicing.revenue import measure_revenue as measure_revenue
from sliceoff.slicing.risk import Newsvendor as Newsvendor
from sliceoff.slicing.risk import newsvendor_miss as newsvendor_miss
from sliceoff.slicing.slicers import Cheapest as Cheapest
from sliceoff.slicing.slicers import Exact as Exact
from sliceoff.slicing.slicers import Fixed as Fixed
from sliceoff.slicing.slicers import LpRounding as LpRounding
from sliceoff.slicing.slicers import Oracle as Oracle
from sliceoff.slicing.slicers import Reactive as Reactive
from sliceoff.slicing.solver import Status as Status
