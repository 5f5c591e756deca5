"""Traffic prediction: attention, networks with one forward signature, and the LightningModule that fits them."""

from sliceoff.predictor.attention import full_attention as full_attention
from sliceoff.predictor.attention import prob_sparse_attention as prob_sparse_attention
from sliceoff.predictor.baselines import LastValue as LastValue
from sliceoff.predictor.baselines import SeasonalNaive as SeasonalNaive
from sliceoff.predictor.dlinear import DLinear as DLinear
from sliceoff.predictor.ensemble import Ensemble as Ensemble
from sliceoff.predictor.export import export as export
from sliceoff.predictor.forecaster import Forecaster as Forecaster
from sliceoff.predictor.forecaster import unsuited as unsuited
from sliceoff.predictor.informer import Informer as Informer
from sliceoff.predictor.intervals import error_quantiles as error_quantiles
from sliceoff.predictor.itransformer import ITransformer as ITransformer
from sliceoff.predictor.linear import Linear as Linear
from sliceoff.predictor.losses import QuantileLoss as QuantileLoss
from sliceoff.predictor.mlp import MLP as MLP
from sliceoff.predictor.patchtst import PatchTST as PatchTST
from sliceoff.predictor.recurrent import Recurrent as Recurrent
from sliceoff.predictor.seasonal_mlp import SeasonalMLP as SeasonalMLP
from sliceoff.predictor.sizes import Sizes as Sizes
from sliceoff.predictor.sparse_tsf import SparseTSF as SparseTSF
from sliceoff.predictor.transfer import Transferred as Transferred
from sliceoff.predictor.transfer import transferred as transferred
from sliceoff.predictor.transfer import untrained as untrained
from sliceoff.predictor.transformer import Transformer as Transformer
