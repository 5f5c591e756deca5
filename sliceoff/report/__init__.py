"""Reports of runs: figures, and one self-contained HTML page."""

from sliceoff.report.comparison import comparison as comparison
from sliceoff.report.comparison import gain as gain
from sliceoff.report.comparison import headline as headline
from sliceoff.report.comparison import profit_blocks as profit_blocks
from sliceoff.report.fan import forecast_fan as forecast_fan
from sliceoff.report.figures import fates as fates
from sliceoff.report.figures import fates_over_time as fates_over_time
from sliceoff.report.figures import forecast as forecast
from sliceoff.report.figures import learning_curves as learning_curves
from sliceoff.report.figures import money_by_hour as money_by_hour
from sliceoff.report.figures import money_map as money_map
from sliceoff.report.figures import profit_by_stack as profit_by_stack
from sliceoff.report.figures import profit_over_time as profit_over_time
from sliceoff.report.figures import tasks_done as tasks_done
from sliceoff.report.figures import wall_time as wall_time
from sliceoff.report.groups import differences as differences
from sliceoff.report.page import figures_of as figures_of
from sliceoff.report.page import page as page
from sliceoff.report.page import svg as svg
from sliceoff.report.simulation import simulation_figures as simulation_figures
from sliceoff.report.simulation import simulation_page as simulation_page
from sliceoff.report.summary import forecast_errors as forecast_errors
from sliceoff.report.summary import summarise as summarise
