from .entries import ENTRY_KINDS as ENTRY_KINDS
from .entries import check_entries as check_entries
from .entries import schedule_entries as schedule_entries
from .result import DaySchedule as DaySchedule
from .result import StageSchedule as StageSchedule
from .scheduling import check_bin as check_bin
from .scheduling import check_switch as check_switch
from .scheduling import schedule as schedule
