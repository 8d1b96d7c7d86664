"""Pickles, as far as weights need them: their opcodes are obeyed by a small machine that can call nothing.

`pickletools` takes a pickle apart and runs nothing of it. The machine below knows mappings, lists, tuples, plain values
and the names in `torch_names`; each other name is refused before anything is made of it. Python's own unpickler is not
used: even with names of its own choice it obeys opcodes that take any amount of memory.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distill_queue.shared.line import shortened

#: Opcodes that are obeyed at the most: of some ten thousand tensors, a second.
MOST_OPCODES = 1_000_000
#: Characters of a name in a message.
LONGEST_NAME = 100

#: What torch.save writes for mappings.
MAPPINGS = frozenset(
    ("collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict", "__builtin__.dict")
)
#: What stands beside weights and is passed over: counts, paths, times, options of the training.
PASSED_OVER = frozenset(
    (
        *(
            f"{module}.{name}"
            for module in ("builtins", "__builtin__")
            for name in (
                "bool",
                "bytearray",
                "bytes",
                "complex",
                "float",
                "frozenset",
                "int",
                "list",
                "set",
                "str",
                "tuple",
            )
        ),
        *(
            f"{module}.{name}"
            for module in ("numpy.core.multiarray", "numpy._core.multiarray")
            for name in ("_reconstruct", "scalar")
        ),
        *(f"datetime.{name}" for name in ("date", "datetime", "timedelta")),
        *(
            f"{module}.{name}"
            for module in ("pathlib", "pathlib._local")
            for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath")
        ),
        "_codecs.encode",
        "argparse.Namespace",
        "lightning.fabric.utilities.data.AttributeDict",
        "lightning_fabric.utilities.data.AttributeDict",
        "numpy.dtype",
        "numpy.ndarray",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "torch.Size",
        "torch.device",
        "torch.torch_version.TorchVersion",
    )
)


class Damaged(ValueError):
    """No pickle, or one that ends too early; the message says what is wrong."""


class Refused(ValueError):
    """A pickle that asks for more than weights need; the message says for what."""


@dataclass(frozen=True, slots=True)
class Global:
    """The name of something that a pickle would have imported: `module.name`."""

    name: str


class PassedOver:
    """Something that stands beside weights, of which nothing is kept."""


#: Makes a value of the name of a function or class and its arguments.
Make = Callable[[str, tuple[Any, ...]], Any]
#: Makes a value of a persistent id.
Fetch = Callable[[Any], Any]


def values_of(data: bytes, known: Callable[[str], bool], make: Make, fetch: Fetch) -> Any:
    """The value that a pickle describes, of plain values and of what `make` and `fetch` return.

    Args:
        data: the pickle.
        known: whether `make` takes a name, beside those of mappings and of what is passed over.
        make: called for each call of a known function or class; its result stands for the call's.
        fetch: called for each persistent id, which is how torch names the numbers of a tensor.

    Raises:
        Damaged: it is no whole pickle.
        Refused: it names something else, or is too long.

    """
    machine = _Machine(known, make, fetch)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count == MOST_OPCODES:
                raise Refused(f"its pickle has more than {MOST_OPCODES:,} opcodes")
            machine.obey(opcode.name, argument)
        return machine.stack.pop()
    except (Refused, Damaged):
        raise
    except (ValueError, LookupError, TypeError) as error:  # As of an empty stack, or a number without an end.
        raise Damaged(f"its pickle is damaged ({shortened(str(error), LONGEST_NAME)})") from error


class _Machine:
    """A stack of values, and what the pickle remembers of them."""

    def __init__(self, known: Callable[[str], bool], make: Make, fetch: Fetch) -> None:
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._known, self._make, self._fetch = known, make, fetch

    def obey(self, opcode: str, argument: Any) -> None:
        """Do what an opcode says."""
        steps = self._pushes, self._remembers, self._collects, self._fills, self._makes, self._drops
        if not any(step(opcode, argument) for step in steps):
            raise Refused(f"its pickle has the opcode {opcode}, which torch.save never writes")

    def _pushes(self, opcode: str, argument: Any) -> bool:
        """Push a plain value, or something empty; return whether the opcode says so, as those that follow do."""
        match opcode:
            case _ if opcode in _PLAIN:
                self._push(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self._push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode])
            case "EMPTY_LIST" | "EMPTY_DICT":
                self._push([] if opcode == "EMPTY_LIST" else {})
            case "EMPTY_SET":
                self._push(PassedOver())
            case "DUP":
                self._push(self.stack[-1])
            case _:
                return False
        return True

    def _remembers(self, opcode: str, argument: Any) -> bool:
        """Remember the last value, or push one that is remembered."""
        match opcode:
            case "BINGET" | "LONG_BINGET" | "GET":
                self._push(self._memo[int(argument)])
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self._memo[int(argument)] = self.stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self.stack[-1]
            case _:
                return False
        return True

    def _collects(self, opcode: str, _: Any) -> bool:
        """Make a tuple, a list or a mapping of the last values."""
        match opcode:
            case "MARK":
                self._below.append(self.stack)
                self.stack = []
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                length = 0 if opcode == "EMPTY_TUPLE" else int(opcode[-1])
                self._push(tuple(self._popped(length)))
            case "TUPLE":
                self._push(tuple(self._since_mark()))
            case "LIST":
                self._push(self._since_mark())
            case "DICT":
                self._push(_filled({}, self._since_mark()))
            case "FROZENSET":
                self._since_mark()
                self._push(PassedOver())
            case _:
                return False
        return True

    def _fills(self, opcode: str, _: Any) -> bool:
        """Put the last values into the list or mapping before them."""
        match opcode:
            case "APPEND":
                item = self._popped(1)
                _extend(self.stack[-1], item)
            case "APPENDS" | "ADDITEMS":
                items = self._since_mark()
                _extend(self.stack[-1], items)
            case "SETITEM":
                pair = self._popped(2)
                _filled(self.stack[-1], pair)
            case "SETITEMS":
                items = self._since_mark()
                _filled(self.stack[-1], items)
            case _:
                return False
        return True

    def _makes(self, opcode: str, argument: Any) -> bool:
        """Name a function or class, stand for its call, or fetch a tensor's numbers."""
        match opcode:
            case "GLOBAL":
                self._push(self._global(*str(argument).split(" ", 1)))
            case "STACK_GLOBAL":
                self._push(self._global(*self._popped(2)))
            case "REDUCE" | "NEWOBJ":
                self._push(self._called(*self._popped(2)))
            case "NEWOBJ_EX":
                of, arguments, _ = self._popped(3)
                self._push(self._called(of, arguments))
            case "BINPERSID":
                self._push(self._fetch(self.stack.pop()))
            case _:
                return False
        return True

    def _drops(self, opcode: str, _: Any) -> bool:
        """Drop values that nothing is made of, or do nothing."""
        match opcode:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "POP":
                self.stack.pop() if self.stack else self._since_mark()
            case "POP_MARK":
                self._since_mark()
            case "BUILD":
                self.stack.pop()  # Attributes beside what was made, which weights have none of.
            case _:
                return False
        return True

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _popped(self, count: int) -> list[Any]:
        """The last values, taken off the stack."""
        if len(self.stack) < count:
            raise IndexError("it takes more than there is")
        found = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return found

    def _since_mark(self) -> list[Any]:
        """The values since the last mark, taken off with it."""
        found, self.stack = self.stack, self._below.pop()
        return found

    def _global(self, module: object, name: object) -> Global:
        full = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "something without a name"
        if full not in MAPPINGS and full not in PASSED_OVER and not self._known(full):
            raise Refused(
                f"it asks for {shortened(full, LONGEST_NAME)!r}, which weights do not need and nothing here runs"
            )
        return Global(full)

    def _called(self, of: object, arguments: object) -> Any:
        """What a call stands for; nothing is called."""
        if not isinstance(of, Global) or not isinstance(arguments, tuple):
            if isinstance(of, PassedOver):
                return PassedOver()
            raise TypeError("a call of what is no function")
        if of.name in MAPPINGS:
            pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
            return _filled({}, [each for pair in pairs for each in (pair if len(pair) == 2 else ())])
        if of.name in PASSED_OVER:
            return PassedOver()
        return self._make(of.name, arguments)


#: Opcodes that bring a plain value along.
_PLAIN = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)


def _extend(target: object, items: list[Any]) -> None:
    if isinstance(target, list):
        target += items
    elif not isinstance(target, PassedOver):
        raise TypeError("items for what is no list")


def _filled(target: Any, items: list[Any]) -> Any:
    """A mapping with further items, keys and values in turn; keys that are no text and no number are passed over."""
    if isinstance(target, PassedOver):
        return target
    if not isinstance(target, dict) or len(items) % 2:
        raise TypeError("items for what is no mapping")
    # No tuple as a key: to hash one that is nested deeply would end the process.
    pairs = zip(items[::2], items[1::2], strict=True)
    target.update((key, value) for key, value in pairs if isinstance(key, str | int | float))
    return target
