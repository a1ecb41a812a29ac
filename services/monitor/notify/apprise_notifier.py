"""Sends messages with apprise (https://github.com/caronc/apprise): mail, chat, SMS, JSON and a hundred more kinds.

These properties of apprise 2.2 explain this module:
- Its retries (`?retry=`) and its record of who got a message (`is_delivered`) are in `Apprise.notify`, and end with
  that call. A plugin's own `notify` tries once; therefore the outbox retries, also after a restart.
- A mail to several targets is sent to each separately, and is reported as failed if one fails. Therefore each target
  becomes a delivery of its own, and so do `cc` and `bcc`, which would otherwise get a copy of each mail.
- A plugin answers only true or false; the reason is in its log, with URLs. This module captures that log, and removes
  secrets from it.
- `privacy=True` hides passwords and tokens, but neither the path of a webhook nor headers; this module hides those.
- Plugins resolve names and follow redirects themselves, so addresses are checked when a plugin connects.
- Importing apprise takes 0.3 s and 35 MB; it is imported in a thread, when it is first needed.
"""

import asyncio
import functools
import hashlib
import logging
import re
import threading
import warnings
from collections.abc import Callable, Collection
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from services.monitor.notify.message import Message, cleaned, signed
from services.monitor.notify.notifier import Address, NotSent
from shared.security.outgoing import AddressGuard

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

SEND_S = 15.0
THREADS = 4
ERROR_LONGEST = 300
LOAD_LOCK = threading.Lock()
WEBHOOKS = frozenset({"json", "jsons", "xml", "xmls", "form", "forms"})
EXCEPTION = re.compile(r"\w+ Exception: ")  # apprise logs caught exceptions at DEBUG, between other lines


class AppriseNotifier:
    """Sends messages in daemon threads, so that the process can end without waiting for a server that hangs.
    `timeout_s` limits one read or write; a whole send takes at most a few times as long. `threads` limits the sends at
    the same time. `guard` decides which addresses may be called. URLs in `trusted` (from SLIPWAY_NOTIFY, which the
    operator sets) may lead to any address.
    """

    def __init__(
        self,
        guard: AddressGuard,
        *,
        trusted: Collection[str] = (),
        timeout_s: float = SEND_S,
        threads: int = THREADS,
    ) -> None:
        self._guard = guard
        self._trusted = tuple(trusted)
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(threads)

    async def addresses(self, url: str) -> list[Address]:
        return await asyncio.to_thread(_addresses, url)

    async def send(self, url: str, message: Message, delivery_id: str) -> None:
        async with self._slots:
            await _in_daemon(lambda: self._send(url, message, delivery_id))

    def _send(self, url: str, message: Message, delivery_id: str) -> None:
        if any(url == address.url for trusted in self._trusted for address in _trusted_addresses(trusted)):
            _send(url, message, delivery_id, self._timeout_s)
            return
        with self._guard.guarding() as refused:
            try:
                _send(url, message, delivery_id, self._timeout_s)
            except NotSent as error:
                if refused:
                    raise NotSent(refused[0]) from error
                raise


async def _in_daemon(call: Callable[[], Answer]) -> Answer:
    """Runs `call` in a daemon thread, which does not keep the process alive. Waits for its end without blocking the
    event loop; returns its result or raises its exception.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Answer] = loop.create_future()

    def settle(answer: Answer | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(answer)  # type: ignore[arg-type]

    def run() -> None:
        answer, error = None, None
        try:
            answer = call()
        except Exception as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, answer, error)

    threading.Thread(target=run, name="send", daemon=True).start()
    return await done


class _LogCapture(logging.Handler):
    """Collects the lines that apprise logs in each thread, as the reason of a failure, and keeps them out of the
    monitor's log.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._thread = threading.local()

    def begin(self) -> list[str]:
        """Returns a list to which the lines are appended that this thread logs from now on."""
        self._thread.lines = []
        return self._thread.lines  # type: ignore[no-any-return]

    def emit(self, record: logging.LogRecord) -> None:
        lines: list[str] = getattr(self._thread, "lines", [])
        text = record.getMessage()
        if record.levelno >= logging.WARNING or (record.levelno == logging.DEBUG and EXCEPTION.match(text)):
            lines.append(text)


def _apprise() -> tuple[Any, _LogCapture]:
    with LOAD_LOCK:  # a type of address may seem unknown while another thread loads plugins
        return _loaded()


@functools.cache
def _loaded() -> tuple[Any, _LogCapture]:
    capture = _LogCapture()
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(capture)
    with warnings.catch_warnings():
        # On Python 3.11, its mail plugin imports `imghdr`; with warnings as errors, the plugin would be missing.
        warnings.simplefilter("ignore", DeprecationWarning)
        import apprise

        apprise.Apprise.instantiate("json://localhost")  # makes apprise load every plugin
    return apprise, capture


def _plugin(url: str) -> Any:
    """Returns apprise's plugin for the URL; None if apprise does not understand the URL."""
    apprise, capture = _apprise()
    capture.begin()
    try:
        return apprise.Apprise.instantiate(url, suppress_exceptions=True)
    except Exception as error:
        log.warning("apprise could not read an address: %s", type(error).__name__)
        return None


def _addresses(url: str) -> list[Address]:
    plugin = _plugin(url)
    try:
        found = [_address(one) for one in _single_targets(plugin)] if plugin else []
    except Exception as error:  # a faulty plugin must not hold up all other messages
        log.warning("apprise could not split an address: %s", type(error).__name__)
        found = []
    if not found:
        shown = f"{url.partition('://')[0]}://…" if "://" in url else "…"
        return [Address(url, _hash(url), shown, "", f"{shown} is no address that apprise knows; see its list of URLs")]
    return list({address.key: address for address in reversed(found)}.values())[::-1]


@functools.cache
def _trusted_addresses(url: str) -> list[Address]:
    return _addresses(url)


def _single_targets(plugin: Any) -> list[Any]:
    """Returns one plugin for each target of the plugin; the plugin itself if it does not hold its targets as a list."""
    targets = getattr(plugin, "targets", None)
    if not isinstance(targets, list) or not targets:
        return [plugin]
    all_targets = list(targets)
    if _is_mail(plugin):
        copies = sorted(plugin.cc) + sorted(plugin.bcc)
        plugin.cc, plugin.bcc = set(), set()
        all_targets += [(plugin.names.get(copy, False), copy) for copy in copies]
    plugins = []
    for target in all_targets:
        plugin.targets = [target]
        one = _plugin(plugin.url())
        if one is None or getattr(one, "targets", None) != [target]:
            plugin.targets = targets
            return [plugin]
        plugins.append(one)
    return plugins


def _address(plugin: Any) -> Address:
    url = str(plugin.url())
    parts = urlsplit(url)
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    if _is_mail(plugin):
        key = f"mail:{plugin.targets[0][1].lower()}" if len(plugin.targets) == 1 else url
        server = f"{parts.scheme}://{plugin.smtp_host}:{plugin.port}"
    else:
        key = url
    return Address(url, _hash(key), _redacted_url(plugin), _hash(server)[:8])


def _redacted_url(plugin: Any) -> str:
    """Returns the URL for display. Its parameters, and the path of a webhook, are left out, because either may be a
    token.
    """
    parts = urlsplit(str(plugin.url(privacy=True)))
    path = "/****" if parts.scheme in WEBHOOKS and parts.path.strip("/") else unquote(parts.path)
    return cleaned(f"{parts.scheme}://{parts.netloc}{path}".rstrip("/"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_mail(plugin: Any) -> bool:
    return str(plugin.url()).startswith(("mailto://", "mailtos://"))


def _send(url: str, message: Message, delivery_id: str, timeout_s: float) -> None:
    """Sends the message; blocks the thread. Raises NotSent if the recipient's server does not accept it."""
    apprise, capture = _apprise()
    plugin = _plugin(url)
    if plugin is None:
        raise NotSent("this is not an address that apprise knows")
    plugin.socket_connect_timeout = min(plugin.socket_connect_timeout, timeout_s)
    plugin.socket_read_timeout = min(plugin.socket_read_timeout, timeout_s)
    if plugin.overflow_mode == apprise.OverflowMode.UPSTREAM:
        plugin.overflow_mode = apprise.OverflowMode.TRUNCATE  # a service refuses what is too long for it
    if isinstance(getattr(plugin, "headers", None), dict):
        plugin.headers["X-Slipway-Delivery"] = delivery_id
    message = signed(message, delivery_id)
    html = plugin.resolve_format() == apprise.NotifyFormat.HTML
    lines = capture.begin()
    try:
        accepted = plugin.notify(
            title=message.subject,
            body=message.html if html else message.text,
            body_format=apprise.NotifyFormat.HTML if html else apprise.NotifyFormat.TEXT,
        )
    except Exception as error:
        accepted = False
        lines.append(f"{type(error).__name__}: {error}")
    if not accepted:
        raise NotSent(_reason(lines, plugin))


def _reason(lines: list[str], plugin: Any) -> str:
    text = "; ".join(dict.fromkeys(" ".join(cleaned(line).split()) for line in lines))
    return redacted(text or "the service did not take it", str(plugin.url()), _redacted_url(plugin))


def redacted(text: str, url: str, shown: str) -> str:
    """Returns the text, at most 300 characters, without those parts of the URL that are missing in `shown`, as these
    are secrets. Parameter values of less than 8 characters stay, since they are words like `yes`.
    """
    parts = urlsplit(url)
    path = re.split(r"[/:@]", f"{parts.netloc}{parts.path}")
    values = [value for _, value in parse_qsl(parts.query) if len(value) >= 8]
    secrets = {unquote(part) for part in [*path, *values] if len(part) >= 3} - {*re.split(r"[/:@]", shown), "upstream"}
    for secret in sorted(secrets, key=len, reverse=True):
        for form in (secret, quote(secret), quote(secret, safe="")):
            text = text.replace(form, "****")
    return text[:ERROR_LONGEST]
