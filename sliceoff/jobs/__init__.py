"""The jobs that `main.py` runs, chosen by `job=<name>`. A job is called with the run's parts and directory."""

from sliceoff.jobs.export import Export as Export
from sliceoff.jobs.finetune import Finetune as Finetune
from sliceoff.jobs.fit_allocator import FitAllocator as FitAllocator
from sliceoff.jobs.fit_predictor import FitPredictor as FitPredictor
from sliceoff.jobs.forecast import Forecast as Forecast
from sliceoff.jobs.market import Market as Market
from sliceoff.jobs.market_bridge import MarketBridge as MarketBridge
from sliceoff.jobs.report import Report as Report
from sliceoff.jobs.seeds import Seeds as Seeds
from sliceoff.jobs.simulate import Simulate as Simulate
