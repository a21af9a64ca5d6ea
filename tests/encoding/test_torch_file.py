"""Reading PyTorch's files of before 2020 without torch: tensors, and nothing that could do harm."""

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.encoding.torch_file import MAGIC, PROTOCOL, read_tensors
from app.problems import UnusableEncoder

SIZES = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2}}


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def whole(value: int) -> bytes:
    """An integer of any size."""
    encoded = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(whole(value) for value in values) + b"t"


def tensor(
    *,
    key: str = "1",
    count: int = 6,
    offset: int = 0,
    shape: tuple[int, ...] = (2, 3),
    strides: tuple[int, ...] = (3, 1),
    storage: str = "torch\nFloatStorage",
    function: str = "torch._utils\n_rebuild_tensor_v2",
) -> bytes:
    """The opcodes of a tensor, as PyTorch writes them."""
    kept = b"(" + text("storage") + f"c{storage}\n".encode() + text(key) + text("cpu")
    kept += whole(count) + b"NtQ"
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    arguments = b"(" + kept + whole(offset) + numbers(*shape) + numbers(*strides) + hooks + b"t"
    return f"c{function}\n".encode() + arguments + b"R"


def state(value: bytes, name: bytes = text("layer.weight")) -> bytes:
    """The opcodes of a dictionary with one item."""
    versions = b"}" + text("_metadata") + b"}s"
    return b"\x80\x02ccollections\nOrderedDict\n)R" + name + value + b"s" + versions + b"b."


HUGE = 2**62
VALUES = np.arange(6, dtype="<f4")


def file_of(
    folder: Path,
    pickled: bytes,
    *,
    keys: object = ("1",),
    magic: object = MAGIC,
    storage: bytes = struct.pack("<q", 6) + VALUES.tobytes(),
) -> Path:
    """A file as PyTorch wrote it, but for what is given."""
    path = folder / "weights.pth"
    heads = [pickle.dumps(value, 2) for value in (magic, PROTOCOL, SIZES)]
    tail = pickle.dumps(list(keys) if isinstance(keys, tuple) else keys, 2)
    path.write_bytes(b"".join([*heads, pickled, tail, storage]))
    return path


def test_a_tensor_is_read(tmp_path: Path) -> None:
    tensors = read_tensors(file_of(tmp_path, state(tensor())))
    assert list(tensors) == ["layer.weight"]
    assert tensors["layer.weight"].tolist() == VALUES.reshape(2, 3).tolist()
    assert tensors["layer.weight"].dtype == np.float32


def test_strides_and_offsets_count(tmp_path: Path) -> None:
    transposed = read_tensors(file_of(tmp_path, state(tensor(shape=(3, 2), strides=(1, 3)))))
    assert transposed["layer.weight"].tolist() == VALUES.reshape(2, 3).T.tolist()
    part = read_tensors(file_of(tmp_path, state(tensor(offset=4, shape=(2,), strides=(1,)))))
    assert part["layer.weight"].tolist() == [4, 5]
    single = read_tensors(file_of(tmp_path, state(tensor(shape=(1, 6), strides=(HUGE, 1)))))
    assert single["layer.weight"].tolist() == [VALUES.tolist()]
    scalar = read_tensors(file_of(tmp_path, state(tensor(offset=3, shape=(), strides=()))))
    assert scalar["layer.weight"].tolist() == 3


def test_integers_are_read(tmp_path: Path) -> None:
    storage = struct.pack("<q", 2) + np.array([7, 8], "<i8").tobytes()
    value = tensor(count=2, shape=(2,), strides=(1,), storage="torch\nLongStorage")
    read = read_tensors(file_of(tmp_path, state(value), storage=storage))
    assert read["layer.weight"].tolist() == [7, 8]


def canary(folder: Path) -> str:
    return f"touch {folder / 'done'}"


# Each is a pickle that harms whoever unpickles it, given a shell command.
ATTACKS: dict[str, Callable[[str], bytes]] = {
    "os.system": lambda command: b"cos\nsystem\n(" + text(command) + b"tR.",
    "posix.system": lambda command: b"cposix\nsystem\n(" + text(command) + b"tR.",
    "eval": lambda command: (
        b"cbuiltins\neval\n(" + text(f"__import__('os').system({command!r})") + b"tR."
    ),
    "eval of Python 2": lambda command: (
        b"c__builtin__\neval\n(" + text(f"__import__('os').system({command!r})") + b"tR."
    ),
    "a chain of getattr": lambda command: (
        b"cbuiltins\ngetattr\n(cos\npath\n" + text("os") + b"tR(" + text(command) + b"tR."
    ),
    "a dotted name": lambda command: (
        b"\x80\x04" + text("torch._utils") + text("os.system") + b"\x93(" + text(command) + b"tR."
    ),
    "a name with a line break": lambda command: (
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n(" + text(command) + b"tR."
    ),
    "INST": lambda command: b"(" + text(command) + b"ios\nsystem\n.",
    "OBJ": lambda command: b"(cos\nsystem\n" + text(command) + b"o.",
    "NEWOBJ": lambda command: b"csubprocess\nPopen\n(" + text(command) + b"t\x81.",
    "a copyreg extension": lambda command: b"\x82\x01(" + text(command) + b"tR.",
    "a reduced state": lambda command: pickle.dumps(Popen(command), 2),
    "an allowed function called with another": lambda command: (
        b"ctorch._utils\n_rebuild_tensor_v2\n(cos\nsystem\n" + text(command) + b"tR."
    ),
    "state set on a name": lambda command: (
        b"ctorch\nFloatStorage\n}" + text("__reduce__") + text(command) + b"sb."
    ),
    "a call of a storage": lambda command: b"ctorch\nFloatStorage\n(" + text(command) + b"tR.",
    "a foreign persistent id": lambda command: text(command) + b"Q.",
    "a persistent id in text": lambda command: b"P" + command.encode() + b"\n.",
}


class Popen:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (self.command,)


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("place", ["state", "magic", "value", "keys"])
def test_a_pickle_that_would_run_something_is_refused(
    tmp_path: Path, name: str, place: str
) -> None:
    attack = ATTACKS[name](canary(tmp_path))
    if place == "value":
        path = file_of(tmp_path, state(attack.removesuffix(b".")))
    elif place == "state":
        path = file_of(tmp_path, attack)
    else:
        path = file_of(tmp_path, state(tensor()))
        first = pickle.dumps(MAGIC, 2)
        last = pickle.dumps(["1"], 2)
        replaced = first if place == "magic" else last
        path.write_bytes(path.read_bytes().replace(replaced, attack))
    with pytest.raises(UnusableEncoder, match=r"weights\.pth is not a file of tensors"):
        read_tensors(path)
    assert not (tmp_path / "done").exists()


def test_the_attacks_would_work_on_an_unpickler(tmp_path: Path) -> None:
    pickle.loads(ATTACKS["os.system"](canary(tmp_path)))  # noqa: S301
    assert (tmp_path / "done").exists()


MALFORMED: dict[str, bytes] = {
    "a storage of more numbers than there are": state(tensor(count=HUGE)),
    "a storage of negative length": state(tensor(count=-1)),
    "a shape larger than its storage": state(tensor(shape=(3, 3))),
    "a huge shape": state(tensor(shape=(HUGE, HUGE))),
    "a huge shape of one number repeated": state(tensor(shape=(HUGE,), strides=(0,))),
    "strides that leave the storage": state(tensor(shape=(2, 2), strides=(HUGE, 1))),
    "an offset that leaves the storage": state(tensor(offset=5)),
    "a negative offset": state(tensor(offset=-1)),
    "a negative stride": state(tensor(shape=(6,), strides=(-1,))),
    "a negative size": state(tensor(shape=(-2, -3))),
    "fewer strides than sizes": state(tensor(strides=(1,))),
    "a shape that is a number": state(tensor()).replace(numbers(2, 3), whole(6)),
    "another storage": state(tensor(storage="torch\nHalfStorage")),
    "another function": state(tensor(function="torch._utils\n_rebuild_parameter")),
    "a name that is a number": state(tensor(), whole(5)),
    "a name that is a list": state(tensor(), b"]"),
    "a number instead of a tensor": state(whole(1)),
    "a storage instead of a tensor": state(
        b"("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + text("1")
        + text("cpu")
        + whole(6)
        + b"NtQ"
    ),
    "a list instead of a dictionary": b"].",
    "nothing": b".",
    "two values": b"}}.",
    "items without a mark": b"}" + text("a") + whole(1) + b"u.",
    "an odd number of items": b"}(" + text("a") + b"u.",
    "an item of a list": b"]" + text("a") + whole(1) + b"s.",
    "a value appended to a dictionary": b"}(" + whole(1) + b"e.",
    "a mark as a value": b"}" + text("a") + b"(s.",
    "a memo that was never put": b"h\x05.",
    "a text longer than the file": b"X\xff\xff\xff\x7fabc.",
    "a text that is no text": b"X\x02\x00\x00\x00\xff\xff.",
    "a number longer than the file": b"\x8b\xff\xff\xff\x7f\x01.",
    "an unknown opcode": b"\xff.",
    "no end": b"}" * 10,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnusableEncoder, match="is not a file of tensors"):
        read_tensors(file_of(tmp_path, MALFORMED[name]))


@pytest.mark.parametrize(
    ("keys", "storage"),
    [
        (("2",), struct.pack("<q", 6) + VALUES.tobytes()),
        (("1", "1"), (struct.pack("<q", 6) + VALUES.tobytes()) * 2),
        ((), b""),
        (1, b""),
        (([],), b""),
        (("1",), struct.pack("<q", 5) + VALUES.tobytes()),
        (("1",), struct.pack("<q", -6) + VALUES.tobytes()),
        (("1",), struct.pack("<q", 6) + VALUES.tobytes()[:-1]),
        (("1",), b"\x06"),
    ],
)
def test_storages_that_are_not_as_declared_are_refused(
    tmp_path: Path, keys: object, storage: bytes
) -> None:
    with pytest.raises(UnusableEncoder, match="is not a file of tensors"):
        read_tensors(file_of(tmp_path, state(tensor()), keys=keys, storage=storage))


def test_a_huge_storage_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = file_of(tmp_path, state(tensor(count=HUGE)), storage=struct.pack("<q", HUGE))
    with pytest.raises(UnusableEncoder, match="does not have the length it claims"):
        read_tensors(path)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, state(tensor()))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UnusableEncoder):
            read_tensors(path)


@pytest.mark.parametrize("magic", [5, "text", {}])
def test_another_file_is_refused(tmp_path: Path, magic: object) -> None:
    with pytest.raises(UnusableEncoder, match="does not begin as"):
        read_tensors(file_of(tmp_path, state(tensor()), magic=magic))
    with pytest.raises(UnusableEncoder):
        read_tensors(tmp_path / "missing.pth")
    zipped = tmp_path / "zip.pth"
    zipped.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UnusableEncoder):
        read_tensors(zipped)


def test_an_endless_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableEncoder, match="longer than any"):
        read_tensors(file_of(tmp_path, b"}" * 1_100_000 + b"."))


def test_nested_tuples_cost_nothing(tmp_path: Path) -> None:
    # Each tuple holds the one before twice: hashing or comparing it would take 2 ** 200 steps.
    nested = b")" + b"q\x00h\x00\x86" * 200
    with pytest.raises(UnusableEncoder):
        read_tensors(file_of(tmp_path, state(tensor(), nested)))
