"""A session seen through its config.pbtxt: fewer outputs, narrower shapes, tensors reshaped on the way in and out.

Only ever stands before another session; a model whose file says the same as its configuration goes without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from gateway.errors import InferenceFailed, InvalidModel
from gateway.inference.session import RunStop, Session
from gateway.inference.signature import Signature, display_shape
from gateway.inference.triton_config import DeclaredTensor, TritonModelConfig
from gateway.messages import Array, TensorSpec

Sizes = tuple[int, ...]


class _Form(msgspec.Struct, frozen=True):
    """How one tensor changes between its two sides; -1 in `here` fills -1 in `there`, in order."""

    here: Sizes
    there: Sizes


class DeclaredSession:
    """A session with the signature that its configuration declares; see Session."""

    def __init__(
        self, session: Session, signature: Signature, inputs: dict[str, _Form], outputs: dict[str, _Form]
    ) -> None:
        """Stand before a session.

        Args:
            inputs, outputs: Those that change their shape: from the caller's to the model's, from the model's back.
        """
        self._session = session
        self._inputs = inputs
        self._outputs = outputs
        self._names = tuple(signature.output_by_name)
        self.signature = signature
        self.providers = session.providers

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        """Compute `outputs` (all that are declared when empty), in order; see Session.run."""
        fed = {
            name: _reshaped(array, self._inputs[name]) if name in self._inputs else array
            for name, array in inputs.items()
        }
        names = outputs or self._names
        arrays = self._session.run(fed, names, stop)
        try:
            return [
                _reshaped(array, self._outputs[name]) if name in self._outputs else array
                for name, array in zip(names, arrays, strict=True)
            ]
        except ValueError as exc:
            raise InferenceFailed(f"an output has not the shape that config.pbtxt gives it: {exc}") from exc


def declared_session(session: Session, config: TritonModelConfig) -> Session:
    """Return the session as the configuration shows it to callers.

    Raises: InvalidModel: the configuration does not fit the file, naming the tensor and both shapes.
    """
    signature = session.signature
    undeclared = [
        spec.name for spec in signature.inputs if spec.name not in {tensor.name for tensor in config.declared_inputs}
    ]
    if config.declared_inputs and undeclared:
        raise InvalidModel(f"config.pbtxt: input '{undeclared[0]}' of the file is not declared")
    inputs, fed = _declare("input", signature.inputs, config.declared_inputs, config)
    outputs, given = _declare("output", signature.outputs, config.declared_outputs, config)
    seen = Signature.of(inputs, outputs)
    if not fed and not given and seen == signature:
        return session
    back = {name: _Form(form.there, form.here) for name, form in given.items()}
    return DeclaredSession(session, seen, fed, back)


def _declare(
    role: str, specs: Sequence[TensorSpec], declared: Sequence[DeclaredTensor], config: TritonModelConfig
) -> tuple[Sequence[TensorSpec], dict[str, _Form]]:
    """Return the tensors as callers see them, and those whose shape changes on the way."""
    if not declared:
        return specs, {}
    known = {spec.name: spec for spec in specs}
    seen: list[TensorSpec] = []
    forms: dict[str, _Form] = {}
    for tensor in declared:
        spec = known.get(tensor.name)
        where = f"config.pbtxt: {role} '{tensor.name}'"
        if spec is None:
            raise InvalidModel(f"{where} is not in the file, expected one of {', '.join(map(repr, known))}")
        if tensor.datatype not in ("", spec.datatype):
            raise InvalidModel(f"{where} is {tensor.datatype}, the file says {spec.datatype}")
        if tensor.dims is None:
            seen.append(spec)
            continue
        rows = spec.shape[:1] if config.batches else ()
        own = (*rows, *(tensor.dims if tensor.reshape is None else tensor.reshape))
        if len(own) != len(spec.shape) or any(size not in (-1, got) for size, got in zip(spec.shape, own, strict=True)):
            field, after = ("dims" if tensor.reshape is None else "reshape"), (" after the rows" if rows else "")
            raise InvalidModel(
                f"{where} has {field} {list(own[len(rows) :])}{after}, the file says {display_shape(spec)}"
            )
        shown = (*rows, *tensor.dims)
        if tensor.reshape is None:
            seen.append(_narrowed(spec, shown))
            continue
        if shown.count(-1) != own.count(-1) or _elements(shown) != _elements(own):
            raise InvalidModel(f"{where}: dims {list(tensor.dims)} cannot be reshaped to {list(tensor.reshape)}")
        seen.append(_reframed(spec, shown, has_rows=bool(rows)))
        forms[tensor.name] = _Form(shown, own)
    return seen, forms


def _narrowed(spec: TensorSpec, shape: Sizes) -> TensorSpec:
    axes = tuple(axis if size < 0 else "" for axis, size in zip(spec.axes, shape, strict=True))
    return msgspec.structs.replace(spec, shape=shape, axes=axes)


def _reframed(spec: TensorSpec, shape: Sizes, *, has_rows: bool) -> TensorSpec:
    """Give a tensor another shape; only the name of its rows outlives that."""
    rows = spec.axes[:1] if has_rows else ()
    return msgspec.structs.replace(spec, shape=shape, axes=(*rows, *("" for _ in shape[len(rows) :])))


def _reshaped(array: Array, form: _Form) -> Array:
    free = iter([got for got, size in zip(array.shape, form.here, strict=True) if size < 0])
    return array.reshape([next(free) if size < 0 else size for size in form.there])


def _elements(shape: Sizes) -> int:
    return int(np.prod([size for size in shape if size >= 0], dtype=np.int64))
