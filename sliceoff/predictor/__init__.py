"""Traffic prediction: attention, networks behind one forward signature, the LightningModule that fits them."""

from sliceoff.predictor.attention import full_attention as full_attention
from sliceoff.predictor.attention import prob_sparse_attention as prob_sparse_attention
from sliceoff.predictor.baselines import LastValue as LastValue
from sliceoff.predictor.baselines import SeasonalNaive as SeasonalNaive
from sliceoff.predictor.forecaster import Forecaster as Forecaster
from sliceoff.predictor.informer import Informer as Informer
from sliceoff.predictor.linear import Linear as Linear
from sliceoff.predictor.losses import QuantileLoss as QuantileLoss
