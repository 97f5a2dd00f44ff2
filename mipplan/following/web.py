"""One request over HTTP, with a time limit for all of it and a limit for the answer; needs no package."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence

from mipplan.core import Fault, InputError, MipplanError, shown, split_url

#: Larger answers are refused.
_MOST_BYTES = 64 * 2**20
#: So much of an error's text is told.
_TOLD = 200


class WebError(MipplanError):
    """No good answer came; the message says why."""


def check_metrics_urls(urls: object) -> None:
    """Find out before looking whether these may be addresses of metrics; raises `InputError` with all that are none."""
    if isinstance(urls, str) or not isinstance(urls, Sequence):
        raise InputError.one("metrics", f"expected a list of http://HOST:PORT/…, found {shown(urls)}")
    InputError.raise_if(
        Fault("metrics", f"expected http://HOST:PORT/…, found {shown(url)}")
        for url in urls
        if split_url(url) is None
    )


def fetch(
    url: str,
    *,
    method: str = "GET",
    document: object = None,
    content_type: str = "application/json",
    token: str | None = None,
    timeout_s: float = 5.0,
) -> bytes:
    """Send one request and return the answer's body.

    Parameters
    ----------
    url : str
    method : str
    document : object, optional
        Sent as JSON.
    content_type : str
        Of what is sent.
    token : str, optional
        Sent as ``Authorization: Bearer``.
    timeout_s : float
        For connecting, sending and the whole answer.

    Raises
    ------
    WebError
        If no answer comes in time, it is not whole, is too large, or its status is not 2xx.
    """
    ends = time.monotonic() + timeout_s
    parts = split_url(url)
    if parts is None:
        raise WebError(f"expected http://HOST:PORT/…, found {shown(url)}")
    connects = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    body = None if document is None else json.dumps(document).encode()
    headers = {"Content-Type": content_type} if body is not None else {}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    # Without a port the end of an address of IPv6 would be taken for it.
    connection = connects(parts.hostname or "", parts.port or connects.default_port, timeout=timeout_s)
    try:
        connection.request(method, path, body, headers)
        with connection.getresponse() as answer:
            data = _read(connection, answer, ends)
    except TimeoutError:
        raise WebError(f"{url}: no whole answer within {timeout_s:g} s") from None
    except http.client.IncompleteRead as error:
        raise WebError(f"{url}: the answer breaks off after {len(error.partial):,} bytes") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WebError(
            f"{url}: {getattr(error, 'strerror', None) or str(error) or type(error).__name__}"
        ) from None
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        text = data[:_TOLD].decode("utf-8", "replace").strip()
        raise WebError(f"{url}: answers {answer.status} {text}".rstrip())
    return data


def fetch_json(url: str, **settings: object) -> Mapping[str, object]:
    """Send one request as `fetch` does, and return the JSON object that is answered; an empty one for no body.

    Raises `WebError` also if the answer is no JSON object.
    """
    data = fetch(url, **settings)  # type: ignore[arg-type]
    try:
        found = json.loads(data) if data.strip() else {}
    except (ValueError, RecursionError):
        raise WebError(f"{url}: the answer is no JSON") from None
    if not isinstance(found, dict):
        raise WebError(f"{url}: expected a JSON object, found {shown(found)}")
    return found


def _read(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse, ends: float) -> bytes:
    """Read all of an answer; the limit holds for the whole, not for each piece."""
    pieces, size = [], 0
    while True:
        left_s = ends - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(left_s)
        piece = answer.read1(2**16)
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        if size > _MOST_BYTES:
            raise ValueError(f"the answer is larger than {_MOST_BYTES // 2**20} MiB")
    if answer.length:  # `read1` does not tell that some is missing
        raise http.client.IncompleteRead(b"".join(pieces), answer.length)
    return b"".join(pieces)
