"""What a person at a terminal reads once a model is served: what it takes and gives, and a line to try it with."""

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # numpy comes after the ports are open
    from modelmill_contracts.artifact import Manifest, Tensor
    from modelmill_server.ports import Settings

_LISTED = 12  # tensors
_BOLD, _RESET = "\033[1m", "\033[0m"


def show(settings: "Settings", manifest: "Manifest") -> None:
    """Print it where a person looks; elsewhere the log has said everything."""
    if sys.stdout.isatty():
        print(text(settings, manifest, colours=True), flush=True)


def text(settings: "Settings", manifest: "Manifest", *, colours: bool) -> str:
    host = settings.host
    bold, reset = (_BOLD, _RESET) if colours else ("", "")
    where = host if host not in ("", "0.0.0.0", "::") else "localhost"  # noqa: S104 - compared, not bound
    where = f"[{where}]" if ":" in where else where
    model = f"http://{where}:{settings.port}/v2/models/{settings.name}"
    size = sum(file.size for file in manifest.files if file.name == f"model.{manifest.runtime}")
    lines = [
        f"Serving {bold}{settings.name}{reset}, version {settings.version} ({manifest.runtime}, {size / 1000:,.0f} kB)",
        *_listed("takes", manifest.inputs),
        *_listed("gives", manifest.outputs),
        f"  at     {model}",
        *([] if settings.grpc_port is None else [f"  gRPC   {where}:{settings.grpc_port}"]),
        f"  counts http://{where}:{settings.metrics_port}/metrics",
        "Try it from another terminal:",
        f"  curl {model}/infer --data {shlex.quote(json.dumps(example(manifest)))}",
    ]
    return "\n".join(lines)


def _listed(word: str, tensors: "tuple[Tensor, ...]") -> list[str]:
    lines = [
        f"  {word if not index else '':<6} {tensor.name} {tensor.datatype} {_shape(tensor)}"
        for index, tensor in enumerate(tensors[:_LISTED])
    ]
    if len(tensors) > _LISTED:
        lines.append(f"         and {len(tensors) - _LISTED} more: see its metadata")
    return lines


def _shape(tensor: "Tensor") -> str:
    sizes = ["rows" if axis == 0 else "any" if size == -1 else str(size) for axis, size in enumerate(tensor.shape)]
    if tensor.shape[:1] not in ((), (-1,)):
        sizes[0] = str(tensor.shape[0])
    return f"[{', '.join(sizes)}]"


def example(manifest: "Manifest") -> dict[str, Any]:
    """A request with one row that the model answers."""
    return {"inputs": [_example(tensor) for tensor in manifest.inputs]}


def _example(tensor: "Tensor") -> dict[str, Any]:
    shape = [max(size, 1) for size in tensor.shape]
    count = 1
    for size in shape:
        count *= size
    value: Any = "text" if tensor.datatype == "BYTES" else False if tensor.datatype == "BOOL" else 0
    # FP16 has no JSON form: it is sent as FP32.
    datatype = "FP32" if tensor.datatype == "FP16" else tensor.datatype
    return {"name": tensor.name, "shape": shape, "datatype": datatype, "data": [value] * count}
