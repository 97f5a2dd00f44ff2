"""What can be driven: models behind the Open Inference Protocol, and any other HTTP URL.

A query's number goes with it, so that the server's log can name it: in a header, and as the ``id`` of the protocol.
"""

from __future__ import annotations

import re
import socket
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from mipplan.core import Fault, Faults, InputError, shown, split_url, text_problem
from mipplan.profiling import HEADER_LENGTH, OipModel, SubjectError, SubjectRequest, axes_faults, oip_model

#: The number of a query, in the request.
QUERY_HEADER = "Mipplan-Query"
#: The branches that a query took, as a JSON object, in an answer of a server that knows them.
ROUTE_HEADER = "Mipplan-Route"
#: Stands in the body for the number of the query.
_PLACEHOLDER = b"{query}"
_METHODS = ("GET", "POST", "PUT")
#: What HTTP takes as a header; with anything else each query would fail by itself, after the run had begun.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
#: These say where a body ends, and which query it is.
_OWN_HEADERS = ("content-length", "transfer-encoding", QUERY_HEADER.lower())
#: A server that does not take a connection within this time before the run is not there.
_CONNECT_S = 5.0


class Target(Protocol):
    """Where queries go."""

    @property
    def url(self) -> str:
        """Where they go."""

    @property
    def method(self) -> str:
        """Of HTTP."""

    def request(self, query: int) -> tuple[bytes | None, Mapping[str, str]]:
        """Return body and headers of a query."""

    def fault(self, body: bytes, headers: Mapping[str, str]) -> str | None:
        """Say in few words, the same for all such answers, what is wrong with one; None if nothing is."""


@dataclass(frozen=True)
class TargetRequest:
    """What `mipplan.drive` is asked to send, and where: its parameters of these names."""

    url: str
    model: str | None = None
    method: str | None = None
    body: str | None = None
    headers: Mapping[str, str] | None = None
    inputs: str | None = None
    axes: Mapping[str, int] | None = None

    @property
    def is_oip(self) -> bool:
        """Whether a model of the Open Inference Protocol is meant."""
        split = split_url(self.url)
        return self.model is not None or (split is not None and "/v2/models/" in split.path)

    def check(self) -> None:
        """Find out what can be found out without asking anybody.

        Raises `InputError` with everything that does not go together, and headers that no request can have.
        """
        faults, method = Faults(), self.method
        if split_url(self.url) is None:
            faults.add(Fault("target", f"expected http://HOST:PORT…, found {shown(self.url)}"))
        of_http, of_oip = {"method": method, "body": self.body}, {"inputs": self.inputs, "axes": self.axes}
        for name, given in (of_http if self.is_oip else of_oip).items():
            if given:
                faults.add(Fault(name, _NOT_OIP if self.is_oip else _ONLY_OIP))
        texts = {"model": self.model, "body": self.body, "inputs": self.inputs}
        problems = {name: text_problem(given) for name, given in texts.items() if given is not None}
        faults.add(*(Fault(name, problem) for name, problem in problems.items() if problem is not None))
        faults.add(*(axes_faults(self.axes) if self.axes is not None else ()))
        is_known = isinstance(method, str) and method.upper() in _METHODS
        if not self.is_oip and method is not None and not is_known:
            faults.add(Fault("method", f"expected one of {', '.join(_METHODS)}, found {shown(method)}"))
        headers = {} if self.headers is None else self.headers
        if not isinstance(headers, Mapping):
            faults.add(Fault("headers", f"expected a mapping of names to values, found {shown(headers)}"))
            headers = {}
        for name, value in headers.items():
            if not isinstance(name, str) or _HEADER_NAME.fullmatch(name) is None:
                what = f"expected a name of HTTP, such as X-Key, found {shown(name)}"
                faults.add(Fault(f"headers.{name}", what))
            elif name.lower() in _OWN_HEADERS:
                faults.add(Fault(f"headers.{name}", "is written by what sends the query"))
            if not isinstance(value, str) or _HEADER_VALUE.fullmatch(value) is None:
                told = "expected signs of Latin-1, without line breaks or other control characters"
                faults.add(Fault(f"headers.{name}", f"{told}, found {shown(value)}"))
        faults.check()


def find_target(asked: TargetRequest) -> Target:
    """Find out what a URL leads to, and ask it what it takes.

    Raises
    ------
    InputError
        With everything that does not go together, or if nothing answers there.
    """
    asked.check()
    url, body, headers = asked.url, asked.body, dict(asked.headers or {})
    split = urllib.parse.urlsplit(url)
    if not asked.is_oip:
        port = split.port or (443 if split.scheme == "https" else 80)
        _check_answers(split.hostname or "", port, url)
        method = asked.method or ("GET" if body is None else "POST")
        return HttpTarget(url, method.upper(), None if body is None else body.encode(), headers)
    at = url.rstrip("/")
    if asked.model is not None:
        folder = re.split(r"/v2(?:/|$)", split.path.rstrip("/"))[0]
        at = f"{split.scheme}://{split.netloc}{folder}/v2/models/{urllib.parse.quote(asked.model, safe='')}"
    request = SubjectRequest(
        "oip", at, axes=dict(asked.axes or {}), inputs=asked.inputs, timeout_s=_CONNECT_S
    )
    return OipTarget.of(at, oip_model(request, headers), headers)


_NOT_OIP = "is for other URLs: what a model of the Open Inference Protocol takes is known from the server"
_ONLY_OIP = "is for models of the Open Inference Protocol: give --model NAME, or http://…/v2/models/NAME"


def _check_answers(host: str, port: int, url: str) -> None:
    """Find out before the run, not by thousands of errors, that nobody listens."""
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise InputError.one("target", f"nothing takes connections at {url}: {reason}") from None


@dataclass(frozen=True)
class HttpTarget:
    """Any URL; an answer is good if its status is."""

    url: str
    method: str
    body: bytes | None
    headers: Mapping[str, str]

    def request(self, query: int) -> tuple[bytes | None, Mapping[str, str]]:
        """Return the body with the number of the query in it, where its place is marked."""
        number = str(query)
        body = None if self.body is None else self.body.replace(_PLACEHOLDER, number.encode())
        return body, {**self.headers, QUERY_HEADER: number}

    def fault(self, body: bytes, headers: Mapping[str, str]) -> str | None:
        """Take any answer."""
        del body, headers
        return None


@dataclass(frozen=True)
class OipTarget:
    """One model of a server that speaks the Open Inference Protocol v2; each query is a batch of one."""

    url: str
    method: str
    model: OipModel
    document: bytes  # Without its opening brace.
    tensors: bytes
    headers: Mapping[str, str]

    @classmethod
    def of(cls, at: str, model: OipModel, headers: Mapping[str, str]) -> OipTarget:
        """Write the request once; queries differ by their number alone."""
        try:
            document, tensors, own = model.written(1)
        except SubjectError as error:
            raise InputError.one("target", str(error)) from None
        return cls(f"{at}/infer", "POST", model, document[1:], tensors, {**headers, **own})

    def request(self, query: int) -> tuple[bytes | None, Mapping[str, str]]:
        """Return the tensors, with the number of the query as their id."""
        head = b'{"id": "%d", ' % query + self.document
        headers = {**self.headers, QUERY_HEADER: str(query)}
        if HEADER_LENGTH in headers:
            headers[HEADER_LENGTH] = str(len(head))
        return head + self.tensors, headers

    def fault(self, body: bytes, headers: Mapping[str, str]) -> str | None:
        """Say what keeps it from being an answer to a batch of one."""
        try:
            self.model.check(1, body, headers.get(HEADER_LENGTH))
        except SubjectError as error:
            return str(error)
        return None
