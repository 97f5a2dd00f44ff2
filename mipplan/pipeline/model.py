"""The pipeline: a directed acyclic graph of stages, with an optional latency objective."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import networkx as nx

from mipplan.core import (
    NS_PER_S,
    Faults,
    FieldOf,
    InputError,
    LongestPaths,
    Slo,
    duration_text,
    plain,
    seconds_to_ns,
)
from mipplan.documents import AnyPath, Document, FieldPath, read_yaml, shipped_path
from mipplan.pipeline.accuracy import AccuracyRule
from mipplan.pipeline.fanout import Edge
from mipplan.pipeline.laws import (
    SERVER_TIMES,
    STAGGER,
    WINDOW,
    CollectionWindow,
    Discipline,
    Dispatch,
    DispatchLaw,
    Laws,
    ServerTime,
    Stagger,
    read_laws,
)
from mipplan.pipeline.parts import check_arguments, edge_document, edge_fields, stage_document, stage_fields
from mipplan.pipeline.schema import PipelineEntry, parse_pipeline, read_slo

#: Graph attribute that keeps the order of the edges in the file: NetworkX groups edges by their parent.
EDGE_ORDER = "mipplan_edge_order"


class Join(StrEnum):
    """What a stage makes of the tokens of one query that reach it."""

    EACH = "each"
    ALL = "all"


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline."""

    name: str  # Unique in the pipeline.
    model: str  # The model whose profiles apply: of several variants the one that is run.
    hardware: tuple[str, ...] | None = None  # Hardware types allowed, None for all that have a profile.
    # The only batch caps allowed, increasing, None for all measured ones.
    batch_sizes: tuple[int, ...] | None = None
    # Range of batch caps allowed; None for no upper limit.
    batch_min: int = 1
    batch_max: int | None = None
    # Range of replica counts allowed; equal when pinned.
    replicas_min: int = 1
    replicas_max: int | None = None
    # ``EACH``: every token is processed. ``ALL``: one token per query, ready when all have arrived.
    join: Join = Join.EACH
    dispatch: DispatchLaw = DispatchLaw.EAGER  # When the stage's server makes a batch.
    # Of this stage, whatever its law; None for the pipeline's if it is eager, else 0.
    stagger_ns: int | None = None
    window_ns: int | None = None  # The same, but none where the stage is not eager.
    # The models that a plan may choose from, `model` among them; () where none are listed.
    variants: tuple[str, ...] = ()
    accuracies: tuple[float, ...] | None = None  # Of the variants, in (0, 1]; None where the profiles say it.

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the stage may run."""
        return self.variants or (self.model,)

    def accuracy_of(self, model: str) -> float | None:
        """What the pipeline itself says of a variant's accuracy; None where it is for the profiles to say."""
        return None if self.accuracies is None else self.accuracies[self.variants.index(model)]

    def allows_batch(self, cap: int) -> bool:
        """Whether the batch cap `cap` satisfies the stage's restrictions."""
        if self.batch_sizes is not None:
            return cap in self.batch_sizes
        return self.batch_min <= cap and (self.batch_max is None or cap <= self.batch_max)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A pipeline of stages, checked when made.

    Parameters
    ----------
    graph : networkx.DiGraph
        Nodes are stage names. Node attributes ``model``, ``variants``, ``hardware``, ``batch``, ``replicas``, ``join``,
        ``dispatch``, ``stagger``, ``window`` and edge attributes ``delay``, ``probability``, ``fanout`` are written
        exactly as in the file (``delay="1ms"``). The graph is copied and frozen.
    slo_s : float or None
        End-to-end latency objective in seconds.
    name : str
        For reports.
    stagger_s : float
        Seconds between outputs of a batch, at eager stages without a ``stagger`` of their own.
    slo : Slo
        Of which quantile the objective is, over what windows, and further quantiles.
    accuracy : AccuracyRule
        How the accuracies of the variants that stages run make that of the pipeline; also as in the file (``"sum"``).
    window_s : float
        Seconds for which a replica that took a token collects more before the batch begins, at most, at eager stages
        without a ``window`` of their own.
    discipline : Discipline
        Of all queues: which waiting tokens a batch takes first.

    Raises
    ------
    InputError, LongestPaths
        With every fault of the pipeline.

    Notes
    -----
    Two pipelines are equal when their documents are.
    """

    graph: nx.DiGraph[str]
    slo_s: float | None = None
    name: str = "pipeline"
    stagger_s: float = 0.0
    slo: Slo = field(default_factory=Slo)
    accuracy: AccuracyRule = field(default_factory=AccuracyRule)
    window_s: float = 0.0
    discipline: Discipline = Discipline.OLDEST_FIRST
    _stages: dict[str, Stage] = field(init=False, repr=False)
    _edges: tuple[Edge, ...] = field(init=False, repr=False)
    _order: tuple[str, ...] = field(init=False, repr=False)
    _document: Document = field(init=False, repr=False)

    def __post_init__(self) -> None:
        times_s = {time.argument: getattr(self, time.argument) for time in SERVER_TIMES}
        faults = Faults()
        given = (self.graph, self.slo_s, self.slo, self.name, times_s, self.discipline)
        entries = faults.take(lambda: check_arguments(*given))
        if not isinstance(self.graph, nx.DiGraph):
            faults.check()
        graph = copy.deepcopy(nx.DiGraph(self.graph))
        # In file order where it is known; edges added since then follow.
        known = [arc for arc in graph.graph.get(EDGE_ORDER, ()) if graph.has_edge(*arc)]
        arcs = tuple(dict.fromkeys([*known, *graph.edges]))
        raw = {
            **(entries.value if entries else {}),
            # A rule of another pipeline may name stages that this one has not: it is read as from a file.
            "accuracy": rule.to_document() if isinstance(rule := self.accuracy, AccuracyRule) else rule,
            "stages": {name: plain(attributes) for name, attributes in graph.nodes(data=True)},
            "edges": [{**plain(graph.edges[arc]), "from": arc[0], "to": arc[1]} for arc in arcs],
        }
        parsed = faults.take(lambda: parse_pipeline(Document(raw, "pipeline")))
        faults.check()
        entry = parsed.value
        object.__setattr__(self, "accuracy", entry.accuracy)
        object.__setattr__(self, "discipline", Discipline(entry.discipline))
        graph.graph[EDGE_ORDER] = arcs
        # No file and line are known; the name stands for them.
        self._complete(graph, entry, Document(None, f"pipeline {self.name!r}"))

    def _complete(self, graph: nx.DiGraph[str], entry: PipelineEntry, document: Document) -> None:
        """Fill in what follows from the checked entries of the graph."""
        models = {name: raw.model for name, raw in entry.stages.items()}
        edges = tuple(Edge(**edge_fields(raw, models)) for raw in entry.edges)
        parents = Counter(edge.child for edge in edges)
        fields = {
            name: stage_fields(name, raw, parents[name] > 1, entry) for name, raw in entry.stages.items()
        }
        stages = {name: Stage(**own | {"join": Join(own["join"])}) for name, own in fields.items()}
        rank = {name: position for position, name in enumerate(stages)}
        order = tuple(nx.lexicographical_topological_sort(graph, key=rank.__getitem__))
        object.__setattr__(self, "graph", nx.freeze(graph))
        object.__setattr__(self, "_stages", stages)
        object.__setattr__(self, "_edges", edges)
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_document", document)

    @property
    def stages(self) -> Mapping[str, Stage]:
        """Stages by name, in the order of the file."""
        return MappingProxyType(self._stages)

    edges = FieldOf[tuple[Edge, ...]]("_edges")
    """Edges in the order of the file."""
    topological_order = FieldOf[tuple[str, ...]]("_order")
    """Stage names, parents before children, otherwise in the order of the file."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Stages without an incoming edge, where queries enter."""
        children = {edge.child for edge in self._edges}
        return tuple(name for name in self._stages if name not in children)

    @property
    def slo_ns(self) -> int | None:
        """The latency objective in nanoseconds."""
        return None if self.slo_s is None else seconds_to_ns(self.slo_s)

    @property
    def is_random(self) -> bool:
        """Whether any edge draws what it does with a token, as stages run now, so that the seed matters."""
        return any(edge.probability < 1 or not edge.fanout.is_constant_integer for edge in self._edges)

    def incoming(self, name: str) -> tuple[Edge, ...]:
        """Edges into a stage, in the order of the file."""
        return tuple(edge for edge in self._edges if edge.child == name)

    def outgoing(self, name: str) -> tuple[Edge, ...]:
        """Edges out of a stage, in the order of the file."""
        return tuple(edge for edge in self._edges if edge.parent == name)

    def laws(self, dispatch: Dispatch = None, otherwise: Laws | None = None) -> Laws:
        """Return the law of every stage: what is said for all or for those named, else `otherwise` or the file's own.

        Raises
        ------
        InputError
            Listing every stage that there is not, and every word that is no law.
        """
        own = {name: (otherwise or {}).get(name, stage.dispatch) for name, stage in self._stages.items()}
        return own if dispatch is None else own | read_laws(dispatch, self._stages)

    def staggers_ns(self, laws: Laws | None = None, stagger_s: Stagger = None) -> dict[str, int]:
        """Return how far apart the outputs of a batch go on to other stages, of every stage, ns; 0 where none follow.

        As is said for all or for those named, else by the file, under these laws. Raises `InputError` as `staggered`.
        """
        found = self._times_ns(STAGGER, laws, stagger_s)
        parents = {edge.parent for edge in self._edges}
        return {name: stagger_ns if name in parents else 0 for name, stagger_ns in found.items()}

    def windows_ns(self, laws: Laws | None = None, window_s: CollectionWindow = None) -> dict[str, int]:
        """Return for how long a replica of each stage collects a batch, at most, ns; 0 where it is not eager.

        As is said for all or for those named, else by the file. Raises `InputError` as `collecting`.
        """
        return self._times_ns(WINDOW, laws, window_s)

    def _times_ns(
        self, time: ServerTime, laws: Laws | None, given_s: float | Mapping[str, float] | None
    ) -> dict[str, int]:
        """Of every stage: as is given, else its own, else the pipeline's if it is eager, else 0."""
        given = {} if given_s is None else time.read(given_s, self._stages)
        general_s, found = getattr(self, time.argument), dict.fromkeys(self._stages, 0)
        general_ns = seconds_to_ns(general_s) if general_s else 0
        for name, stage in self._stages.items():
            is_eager = (stage.dispatch if laws is None else laws[name]) is DispatchLaw.EAGER
            own_ns = getattr(stage, time.field)
            if is_eager or not time.of_eager_stages:
                otherwise = general_ns if is_eager else 0
                found[name] = given.get(name, otherwise if own_ns is None else own_ns)
        return found

    def staggered(self, stagger_s: Stagger) -> Pipeline:
        """Return the same pipeline with this stagger at all stages, or at those named, whatever their law.

        Raises
        ------
        InputError
            Listing every stage that there is not, and all that is no time from 0 to one second.
        """
        return STAGGER.put(self, stagger_s)

    def collecting(self, window_s: CollectionWindow) -> Pipeline:
        """Return the same pipeline whose eager stages, or those named, collect batches for up to so many seconds.

        Raises
        ------
        InputError
            Listing every stage that there is not, and all that is no time from 0 to a minute.
        """
        return WINDOW.put(self, window_s)

    def asking(
        self, slo: object = None, *, per_s: float | None = None, share: float | None = None
    ) -> Pipeline:
        """Return the same pipeline with another objective, written as in the file, or with other windows.

        ``"300ms"``, or ``{"p99": "300ms", "p50": "100ms", "per": "5min", "share": 0.99}``: quantiles with their limits,
        and windows whose queries must keep them by themselves, all of them or a share.

        Raises `InputError` with every fault.
        """
        made = copy.copy(self)
        try:
            limit_ns, asked = (self.slo_ns, self.slo) if slo is None else read_slo(slo)
        except ValueError as error:
            raise InputError.one("slo", str(error)) from None
        object.__setattr__(made, "slo_s", None if limit_ns is None else limit_ns / NS_PER_S)
        object.__setattr__(made, "slo", asked.over(per_s, share))
        return made

    def longest_paths(self) -> LongestPaths[str]:
        """Return the longest paths through the stages, under weights that change; delays are the lengths of edges."""
        edges = ((edge.parent, edge.child, edge.delay_ns) for edge in self._edges)
        return LongestPaths(self._order, edges)

    def place(self, path: FieldPath) -> str:
        """Write where a field stands, for messages: ``video.yaml:6: stages.detect.model``."""
        return self._document.place(path)

    def to_document(self) -> dict[str, Any]:
        """Write the pipeline in the file syntax, ready for JSON or YAML.

        The form is canonical: what equals a default is left out (a merging stage always names its ``join``),
        so equal pipelines have equal documents.
        """
        document: dict[str, Any] = {"name": self.name}
        if self.slo_ns is not None:
            document["slo"] = self.slo.to_document(self.slo_ns)
        if self.discipline is not Discipline.OLDEST_FIRST:
            document["discipline"] = str(self.discipline)
        for time in SERVER_TIMES:
            if general_s := getattr(self, time.argument):
                document[time.key] = duration_text(seconds_to_ns(general_s))
        if self.accuracy != AccuracyRule():
            document["accuracy"] = self.accuracy.to_document()
        document["stages"] = {
            name: stage_document(stage, len(self.incoming(name)) > 1) for name, stage in self._stages.items()
        }
        document["edges"] = [edge_document(edge) for edge in self._edges]
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | Document, origin: str = "pipeline") -> Pipeline:
        """Make a pipeline from a document in the file syntax.

        Parameters
        ----------
        document : mapping or Document
            As parsed from YAML or JSON; a `Document` also knows lines and its origin.
        origin : str
            What to call a plain mapping in messages.

        Raises
        ------
        InputError
            With every fault of the document.
        """
        if not isinstance(document, Document):
            document = Document(plain(document), origin)
        entry = parse_pipeline(document)
        graph: nx.DiGraph[str] = nx.DiGraph()
        for name, raw in document.value["stages"].items():
            law = {} if entry.dispatch == "eager" else {"dispatch": entry.dispatch}
            said = raw if raw.get("dispatch") is not None else raw | law  # A blank is what the pipeline says.
            graph.add_node(name, **said)
        for raw in document.value.get("edges") or []:
            attributes = {key: value for key, value in raw.items() if key not in ("from", "to")}
            graph.add_edge(raw["from"], raw["to"], **attributes)
        graph.graph[EDGE_ORDER] = tuple((edge.parent, edge.child) for edge in entry.edges)
        pipeline = object.__new__(cls)  # what is read from a document is checked already
        limit_ns, slo = entry.slo or (None, Slo())
        object.__setattr__(pipeline, "slo_s", None if limit_ns is None else limit_ns / NS_PER_S)
        object.__setattr__(pipeline, "slo", slo)
        object.__setattr__(pipeline, "name", entry.name)
        object.__setattr__(pipeline, "stagger_s", entry.stagger / NS_PER_S)
        object.__setattr__(pipeline, "window_s", entry.window / NS_PER_S)
        object.__setattr__(pipeline, "discipline", Discipline(entry.discipline))
        object.__setattr__(pipeline, "accuracy", entry.accuracy)
        pipeline._complete(graph, entry, document)
        return pipeline

    @classmethod
    def read(cls, path: AnyPath) -> Pipeline:
        """Read a pipeline from a YAML file, or the shipped one of a name: ``Pipeline.read("video-monitoring")``.

        Raises
        ------
        InputError
            With every fault, each with its line and field.
        """
        file = shipped_path("pipelines", path) if isinstance(path, str) else path
        return cls.from_document(read_yaml(file))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pipeline) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        slo = "no objective" if self.slo_ns is None else duration_text(self.slo_ns)
        return f"<Pipeline {self.name}: {len(self._stages)} stages, {len(self._edges)} edges, {slo}>"

    def _identity(self) -> str:
        return json.dumps(self.to_document())
