"""Reads the tensors of a PyTorch file of before 2020 (not a zip archive), without torch.

Such a file is four pickles and a list of storage keys, itself a pickle, followed by each storage:
its length as int64, then its numbers. A pickle can call any function of any module, so none is
unpickled: a small interpreter knows the opcodes that make plain containers, numbers and text, two
callables by their names, and nothing else. Whatever it does not know is refused, and so is whatever
claims more than the file holds.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from app.problems import UnusableEncoder

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

# The storages that are known, with the type of their numbers.
STORAGES = {"torch FloatStorage": np.dtype("<f4"), "torch LongStorage": np.dtype("<i8")}
TENSOR, DICT = "torch._utils _rebuild_tensor_v2", "collections OrderedDict"

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
# More nesting and more items than any state dictionary has.
MOST_OPCODES = 1_000_000


class RefusedError(ValueError):
    """What a file holds is neither a tensor nor a plain container."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A global that a pickle named, "module name"; it is compared, never imported."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_MARK = object()


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a saved state dictionary by their names; raises `UnusableEncoder`."""
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    # A malformed pickle makes `pickletools` raise ValueError or its subclasses.
    except (OSError, ValueError) as exc:
        raise UnusableEncoder(f"{path} is not a file of tensors that can be read: {exc}") from exc


def _read(file: BinaryIO, size: int) -> dict[str, NDArray[Any]]:
    if _unpickle(file) != MAGIC or _unpickle(file) != PROTOCOL:
        raise RefusedError("it does not begin as PyTorch's files of that time do")
    _unpickle(file)  # the sizes of the machine's numbers
    tensors = _tensors(_unpickle(file))
    declared = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    arrays: dict[str, NDArray[Any]] = {}
    for key in _list(_unpickle(file)):
        if not isinstance(key, str) or key not in declared or key in arrays:
            raise RefusedError("its storages are not those of its tensors")
        arrays[key] = _numbers(file, declared[key], size)
    return {name: _tensor(tensor, arrays) for name, tensor in tensors.items()}


def _tensors(state: object) -> dict[str, _Tensor]:
    if not isinstance(state, dict):
        raise RefusedError("it holds no dictionary of tensors")
    tensors: dict[str, _Tensor] = {}
    for name, value in cast(dict[str, object], state).items():
        if not isinstance(value, _Tensor):
            raise RefusedError(f"{name[:100]} is no tensor")
        tensors[name] = value
    return tensors


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise RefusedError("it has no list of storages")
    return cast(list[object], value)


def _numbers(file: BinaryIO, storage: _Storage, size: int) -> NDArray[Any]:
    count = int.from_bytes(file.read(8), "little", signed=True)
    length = count * storage.dtype.itemsize
    if count != storage.count or not 0 <= length <= size - file.tell():
        raise RefusedError(f"the storage {storage.key[:100]} does not have the length it claims")
    return np.frombuffer(file.read(length), storage.dtype)


def _tensor(tensor: _Tensor, arrays: dict[str, NDArray[Any]]) -> NDArray[Any]:
    numbers = arrays.get(tensor.storage.key)
    last = sum(
        stride * (size - 1) for stride, size in zip(tensor.strides, tensor.shape, strict=True)
    )
    # A stride of 0 would let a tensor have more numbers than its storage.
    if (
        numbers is None
        or 0 in tensor.shape
        or math.prod(tensor.shape) > len(numbers)
        or tensor.offset + last >= len(numbers)
    ):
        raise RefusedError("a tensor is larger than its storage")
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :],
        tensor.shape,
        # The stride of a single element does not count, and may be any number.
        [
            stride * numbers.itemsize * (size > 1)
            for stride, size in zip(tensor.strides, tensor.shape, strict=True)
        ],
        writeable=False,
    )


def _unpickle(file: BinaryIO) -> Any:
    machine = _Machine()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name == "STOP":
            return machine.result()
        if count > MOST_OPCODES:
            break
        machine.run(opcode.name, argument)
    raise RefusedError("it is longer than any dictionary of tensors")


class _Machine:
    """The stack and memo of one pickle; `run` carries out an opcode or raises `RefusedError`."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._others: dict[str, Callable[[], None]] = {
            "MARK": lambda: self._stack.append(_MARK),
            "EMPTY_DICT": lambda: self._stack.append({}),
            "EMPTY_LIST": lambda: self._stack.append([]),
            "TUPLE": lambda: self._stack.append(tuple(self._to_mark())),
            "APPEND": lambda: self._append(self._pop(1)),
            "APPENDS": lambda: self._append(self._to_mark()),
            "SETITEM": lambda: self._set_items(self._pop(2)),
            "SETITEMS": lambda: self._set_items(self._to_mark()),
            "BINPERSID": self._persistent,
            "REDUCE": self._reduce,
            "BUILD": self._build,
        }

    def run(self, name: str, argument: Any) -> None:
        if name in VALUES:
            self._stack.append(argument)
        elif name in CONSTANTS:
            self._stack.append(CONSTANTS[name])
        elif name in TUPLES:
            self._stack.append(tuple(self._pop(TUPLES[name])))
        elif name == "GLOBAL":
            self._stack.append(_known(argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._pop(1, keep=True)[0]
        elif name in ("BINGET", "LONG_BINGET") and argument in self._memo:
            self._stack.append(self._memo[argument])
        elif name in self._others:
            self._others[name]()
        elif name != "PROTO":
            raise RefusedError(f"it uses {name}, which no file of tensors needs")

    def result(self) -> Any:
        [value] = self._pop(1)
        return value

    def _pop(self, count: int, *, keep: bool = False) -> list[Any]:
        values = self._stack[len(self._stack) - count :] if count else []
        if len(values) < count or any(value is _MARK for value in values):
            raise RefusedError("its stack is out of order")
        if count and not keep:
            del self._stack[-count:]
        return values

    def _to_mark(self) -> list[Any]:
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _MARK:
                values = self._stack[place + 1 :]
                del self._stack[place:]
                return values
        raise RefusedError("its stack is out of order")

    def _append(self, values: list[Any]) -> None:
        [target] = self._pop(1, keep=True)
        if not isinstance(target, list):
            raise RefusedError("it appends to something that is no list")
        target.extend(values)

    def _set_items(self, items: list[Any]) -> None:
        [target] = self._pop(1, keep=True)
        if not isinstance(target, dict) or len(items) % 2:
            raise RefusedError("it sets items of something that is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):
                raise RefusedError("a dictionary has a key that is no text")
            target[key] = value

    def _persistent(self) -> None:
        match self._pop(1):
            case [("storage", _Name(name), str(key), str(), int(count), None)] if name in STORAGES:
                self._stack.append(_Storage(key, STORAGES[name], count))
            case _:
                raise RefusedError("it refers to something that is no storage of numbers")

    def _reduce(self) -> None:
        match self._pop(2):
            case [_Name(name), ()] if name == DICT:
                self._stack.append({})
            case [_Name(name), (_Storage() as storage, int(offset), shape, strides, *_)] if (
                name == TENSOR and offset >= 0 and _are_sizes(shape, strides)
            ):
                self._stack.append(_Tensor(storage, offset, shape, strides))
            case _:
                raise RefusedError(
                    "it calls something else than what makes a dictionary or a tensor"
                )

    def _build(self) -> None:
        """Drop what is set on a dictionary: the versions of its modules."""
        self._pop(1)
        [target] = self._pop(1, keep=True)
        if not isinstance(target, dict):
            raise RefusedError("it sets the state of something that is no dictionary")


def _known(argument: str) -> _Name:
    if argument not in {TENSOR, DICT, *STORAGES}:
        raise RefusedError(f"it names {argument[:100]}, which is no part of a tensor")
    return _Name(argument)


def _are_sizes(shape: object, strides: object) -> bool:
    """Return whether these are as many sizes as strides, and none of them negative."""
    if not (isinstance(shape, tuple) and isinstance(strides, tuple)):
        return False
    pairs = cast(tuple[object, ...], shape), cast(tuple[object, ...], strides)
    numbers = (number for values in pairs for number in values)
    return len(pairs[0]) == len(pairs[1]) and all(isinstance(n, int) and n >= 0 for n in numbers)
