"""Traffic: traces, their readers and checks, the synthetic default, windows over them."""

from sliceoff.data.calendar import calendar_features as calendar_features
from sliceoff.data.checks import Source as Source
from sliceoff.data.checks import check_order as check_order
from sliceoff.data.datamodule import TrafficDataModule as TrafficDataModule
from sliceoff.data.grid import Policy as Policy
from sliceoff.data.grid import check_cells as check_cells
from sliceoff.data.grid import to_trace as to_trace
from sliceoff.data.readers import read_long_csv as read_long_csv
from sliceoff.data.readers import read_long_parquet as read_long_parquet
from sliceoff.data.readers import read_milan as read_milan
from sliceoff.data.readers import read_npz as read_npz
from sliceoff.data.readers import read_wide_csv as read_wide_csv
from sliceoff.data.readers import read_wide_parquet as read_wide_parquet
from sliceoff.data.readers.table import existing as existing
from sliceoff.data.scaling import Scaler as Scaler
from sliceoff.data.synthetic import synthetic_trace as synthetic_trace
from sliceoff.data.trace import Trace as Trace
from sliceoff.data.windows import Window as Window
from sliceoff.data.windows import Windows as Windows
from sliceoff.data.windows import as_gathered as as_gathered
