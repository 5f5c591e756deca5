"""What a person looks at after a run: figures, and one self-contained HTML page."""

from sliceoff.report.figures import fates as fates
from sliceoff.report.figures import forecast as forecast
from sliceoff.report.figures import learning_curves as learning_curves
from sliceoff.report.figures import profit_over_time as profit_over_time
from sliceoff.report.figures import tasks_done as tasks_done
from sliceoff.report.page import page as page
