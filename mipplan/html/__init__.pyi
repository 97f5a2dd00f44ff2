from .page import Page as Page
from .page import Section as Section
from .page import Sheet as Sheet
from .reports import report as report
