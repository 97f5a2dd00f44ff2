"""Pipelines: stages that run models, and the edges along which their tokens flow."""

from mipplan.pipeline.fanout import FanOut
from mipplan.pipeline.model import Edge, Join, Pipeline, Stage

__all__ = ["Edge", "FanOut", "Join", "Pipeline", "Stage"]
