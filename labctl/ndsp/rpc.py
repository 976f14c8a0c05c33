"""Serve methods to ARTIQ programs: sipyco's ``pc_rpc`` protocol, over PYON of either version as the client asks.

After the banner the server names its targets; the client picks one, is told its methods, and calls them, a JSON or PYON
line each way. Source: ARTIQ.md section 3; m-labs/sipyco, pc_rpc.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from labctl.errors import LabError, WireError
from labctl.ndsp import pyon
from labctl.ndsp.lines import Connection, LineServer

BANNER = "ARTIQ pc_rpc"
VERSION_2 = "pyon_v2"
TERMINATE = "terminate"


@dataclass(frozen=True, slots=True)
class Method:
    """What a client can call.

    call:        takes the arguments, returns the result
    parameters:  their names, in order
    doc:         for people
    """

    call: Callable[..., Any]
    parameters: tuple[str, ...] = ()
    doc: str = ""


class RpcServer:
    """Serves targets, one call at a time on each.

    targets:      name (no spaces) -> its methods by name
    description:  shown by ``sipyco_rpctool``
    terminate:    called when a client asks the server to end, as a controller manager does
    """

    def __init__(
        self,
        targets: Mapping[str, Mapping[str, Method]],
        description: str,
        hosts: Sequence[str] = ("127.0.0.1",),
        port: int = 0,
        terminate: Callable[[], None] | None = None,
    ) -> None:
        bad = [name for name in targets if not name or " " in name]
        if bad:
            raise WireError(f"a target cannot be called {bad[0]!r}: ARTIQ separates names by spaces")
        self._targets = targets
        self._description = description
        self._terminate = terminate
        self._calling = {name: threading.Lock() for name in targets}
        self._server = LineServer(BANNER, self._handle, hosts, port)
        self.port = self._server.port

    def close(self) -> None:
        """End every connection; a call under way is finished first."""
        self._server.close()

    def _handle(self, connection: Connection) -> None:
        hello = {
            "targets": sorted(self._targets),
            "description": self._description,
            "features": [VERSION_2],
        }
        if not connection.send(pyon.encode(hello, 2)):  # the same in both versions
            return
        asked = (connection.receive() or "").split(" ")
        methods = self._targets.get(asked[0])
        if methods is None or (len(asked) > 1 and asked[1:] != [VERSION_2]):
            return
        version = 2 if len(asked) > 1 else 1
        names = {*methods, *([TERMINATE] if self._terminate else [])}
        going = connection.send(pyon.encode(names, version))
        while going and (line := connection.receive()) is not None:
            going = connection.send(self._answer(asked[0], line, version))

    def _answer(self, target: str, line: str, version: int) -> str:
        try:
            request = pyon.decode(line, version)
            return pyon.encode({"status": "ok", "ret": self._act(target, request)}, version)
        except Exception as error:  # noqa: BLE001  (whatever a method raises belongs to the client)
            return pyon.encode({"status": "failed", "exception": packed(error)}, version)

    def _act(self, target: str, request: Any) -> Any:
        asked = cast("dict[str, Any]", request) if isinstance(request, dict) else {}
        methods = self._targets[target]
        if asked.get("action") == "get_rpc_method_list":
            return self._documented(methods)
        if asked.get("action") != "call":
            raise WireError(
                f"unknown action {asked.get('action')!r}; this server knows call and get_rpc_method_list"
            )
        name, arguments, named = asked.get("name"), asked.get("args", ()), asked.get("kwargs", {})
        if name == TERMINATE and self._terminate is not None:
            self._terminate()
            return None
        method = methods.get(str(name))
        if method is None:
            raise AttributeError(f"{target} has no method {name!r}; it has {', '.join(sorted(methods))}")
        with self._calling[target]:
            return method.call(*map(native, arguments), **{key: native(one) for key, one in named.items()})

    def _documented(self, methods: Mapping[str, Method]) -> dict[str, Any]:
        every = {**methods}
        if self._terminate is not None:
            every[TERMINATE] = Method(self._terminate, doc="Terminate the server.")
        return {
            "docstring": self._description,
            "methods": {
                name: (
                    {
                        "args": ["self", *method.parameters],
                        "varargs": None,
                        "varkw": None,
                        "defaults": None,
                        "kwonlyargs": [],
                        "kwonlydefaults": None,
                        "annotations": {},
                    },
                    method.doc,
                )
                for name, method in every.items()
            },
        }


def packed(error: BaseException) -> dict[str, Any]:
    """An exception as it travels: one of Python's own by its name, any other as a remote exception that tells its name."""
    name, text = type(error).__name__, str(error)
    if isinstance(error, LabError) or getattr(builtins, name, None) is not type(error):
        return {"class": "GenericRemoteException", "message": f"{name}: {text}", "traceback": []}
    return {"class": name, "message": text, "traceback": []}


def native(value: Any) -> Any:
    """A number or list of Python's own for what an ARTIQ kernel sends: numpy scalars, arrays."""
    return value.tolist() if hasattr(value, "tolist") else value
