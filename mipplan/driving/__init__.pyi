from .driving import DriveParams as DriveParams
from .driving import check_drive as check_drive
from .driving import drive as drive
from .result import Drive as Drive
from .targets import QUERY_HEADER as QUERY_HEADER
from .targets import ROUTE_HEADER as ROUTE_HEADER
from .targets import Target as Target
from .targets import find_target as find_target
