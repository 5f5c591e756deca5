"""Checkpoints that rebuild their module from the file alone, loaded with `weights_only=True`.

A module keeps `self.spec`, a plain description of its constructor's arguments (`describe`), and writes it under the key
`"spec"` in `on_save_checkpoint`. `load` builds the module from it; neither the original config nor the data is needed.
"""

import functools
import hashlib
import importlib
import pickle
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from lightning.fabric.utilities.apply_func import apply_to_collection
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import nn

from sliceoff.errors import InputError, one_line
from sliceoff.files import write_whole

Module = TypeVar("Module", bound=nn.Module)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint plugin for local files, but atomic: a file under its final name is always complete.

    Lightning writes to the system's temporary directory and moves the file from there; to another file system, that is
    a copy, which can be interrupted.

    NumPy's numbers, of a learning rate's schedule for example, are written as Python's: `weights_only` loads no others.
    The weights, which are tensors, are left as they are.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {
            name: part if name == "state_dict" else apply_to_collection(part, np.generic, np.generic.item)
            for name, part in checkpoint.items()
        }
        content = BytesIO()
        torch.save(plain, content)
        write_whole(path, content.getbuffer())


def describe(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a call of `cls` in plain containers: numbers, strings, tensors, lists, dicts.

    A `functools.partial` of a class becomes its path and keywords. `build` is the inverse.

    Raises:
        TypeError: an argument is not plain data, so a checkpoint holding it could not be loaded safely.
    """
    return {"class": _path(cls), "arguments": {name: _plain(value, name) for name, value in arguments.items()}}


def build(spec: Mapping[str, Any]) -> nn.Module:
    """Build the module that `describe` described.

    Raises:
        InputError: the class cannot be imported here, is not a torch module or takes other arguments.
    """
    try:
        return revive(spec)()
    except TypeError as error:
        raise InputError(f"the checkpoint is another version's of {spec['class']} ({one_line(error)})") from error


def revive(value: Any) -> Any:
    """Restore one argument from its plain form in a spec; a described class becomes a `functools.partial` of it.

    Raises:
        InputError: a class cannot be imported here or is not a torch module.
    """
    if isinstance(value, Mapping):
        if set(value) == {"class", "arguments"}:
            return functools.partial(
                _locate(value["class"]), **{name: revive(item) for name, item in value["arguments"].items()}
            )
        return {key: revive(item) for key, item in value.items()}
    if isinstance(value, list):
        return [revive(item) for item in value]
    return value


def read(path: str | Path, expect: type[nn.Module] = nn.Module) -> dict[str, Any]:
    """Read a checkpoint (in a run directory, the best one whose module is an `expect`): tensors and plain data only.

    Raises:
        InputError: there is no such file, it is no SliceOff checkpoint, or it holds another kind of module.
    """
    held = []
    for file in find(path):
        content = _content(file)
        cls = _locate(content["spec"]["class"])
        if issubclass(cls, expect):
            return content
        held.append(cls.__name__)
    raise InputError(f"{path} holds a {' and a '.join(held)}, not a {expect.__name__}; give a checkpoint of that kind")


def _content(file: Path) -> dict[str, Any]:
    try:
        zipfile.ZipFile(file).close()  # torch.save writes zip files; for others torch.load warns before it fails
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        OSError,
        RuntimeError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
    ) as error:
        raise InputError(f"{file} {_unloadable(error)}; give a .ckpt file that a SliceOff run wrote") from error
    if not isinstance(content, dict) or "spec" not in content:
        raise InputError(f"{file} holds no SliceOff module; give a .ckpt file that a SliceOff run wrote")
    return content


def _unloadable(error: Exception) -> str:
    """Why a file could not be loaded, in words that follow its name."""
    match error:
        case pickle.UnpicklingError():
            return "is damaged, or holds more than tensors and plain data, which could run any code and is not loaded"
        case OSError():
            return f"cannot be read ({error.strerror})"
        case _:
            return "is no checkpoint, or a damaged one, cut short perhaps"


def find(path: str | Path) -> list[Path]:
    """The checkpoint files at `path`: a file itself, or of a run directory the best of every module that it fitted.

    Raises:
        InputError: there is none.
    """
    path = Path(str(path))
    if path.is_file():
        return [path]
    for folders in ([path / "checkpoints"], [path], sorted((path / "checkpoints").glob("*/"))):
        if found := [file for folder in folders if (file := _best(folder)) is not None]:
            return found
    raise InputError(f"no checkpoint at {path}; give a .ckpt file or a run directory that has checkpoints/best.ckpt")


def _best(folder: Path) -> Path | None:
    files = (folder / "best.ckpt", folder / "last.ckpt")
    return next((file for file in files if file.is_file()), None)


def load(path: str | Path, expect: type[Module]) -> Module:
    """Rebuild the module saved at `path`, in eval mode on the CPU.

    Raises:
        InputError: the file is missing or unreadable, or holds another kind of module than `expect`.
    """
    content = read(path, expect)
    try:
        module = build(content["spec"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    _fill(module, content, f"{path} was written by another version")
    return cast(Module, module)


def load_weights(path: str | Path, module: Module) -> Module:
    """Load the weights saved at `path` into `module`, which keeps its own options, and return it in eval mode.

    The options listed in the module's `weights_need` (dotted names in its spec) must equal those that the weights were
    trained with.

    Raises:
        InputError: the file is missing or unreadable, holds another kind of module, or does not fit.
    """
    content = read(path, type(module))
    saved, current = content["spec"]["arguments"], cast(Any, module).spec["arguments"]
    for name in getattr(module, "weights_need", ()):
        before, now = _item(saved, name), _item(current, name)
        if None not in (before, now) and (place := differing(before, now, name)) is not None:
            key = place.replace(".arguments", "").removesuffix(".class")
            raise InputError(
                f"{path} was trained with {key}={_item(saved, place)}, configured is {_item(current, place)}; "
                f"configure it as the run was"
            )
    _fill(module, content, f"{path} does not fit what is configured")
    return module


def weights_of(content: Mapping[str, Any], part: str) -> dict[str, Any]:
    """A checkpoint's weights of one part of its module, such as `network`, by their names in the part."""
    weights = ((name.partition("."), value) for name, value in content["state_dict"].items())
    return {name: value for (owner, _, name), value in weights if owner == part}


def _fill(module: nn.Module, content: Mapping[str, Any], complaint: str) -> None:
    try:
        module.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        # Torch's first line is only a heading.
        reason = " ".join(str(error).splitlines()[1].split())
        raise InputError(f"{complaint} ({type(module).__name__}: {reason})") from error
    if (what := broken(module)) is not None:
        raise InputError(f"the checkpoint's {what}: its training diverged; give an earlier one")
    module.eval()


def _item(options: Any, name: str) -> Any:
    """Look up an option in a spec's arguments by its dotted name; those of a described class are in its `arguments`."""
    for key in name.split("."):
        options = options.get(key, options.get("arguments", {}).get(key)) if isinstance(options, Mapping) else None
    return options


def fingerprint(*modules: nn.Module) -> str:
    """A hash of the modules' weights and buffers."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in module.state_dict().items():
            digest.update(name.encode())
            if isinstance(value, torch.Tensor):
                digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def broken(module: nn.Module) -> str | None:
    """A message naming the first parameter that is not finite, or None."""
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    # Infinity and NaN survive a norm: one pass over all weights.
    norms = torch._foreach_norm(list(weights.values())) if weights else ()
    if not norms or torch.stack(norms).isfinite().all():  # one check: one synchronisation with the GPU
        return None
    name = next(name for name, norm in zip(weights, norms, strict=True) if not norm.isfinite())
    return f"weight {name} is not finite"


def differing(saved: Any, current: Any, name: str = "") -> str | None:
    """The dotted name of the first place where two descriptions differ; None if they are equal."""
    if isinstance(saved, Mapping) and isinstance(current, Mapping):
        for key in [*saved, *(key for key in current if key not in saved)]:
            inner = f"{name}.{key}".removeprefix(".").removeprefix("arguments.")
            if key not in saved or key not in current:
                return inner
            if (place := differing(saved[key], current[key], inner)) is not None:
                return place
        return None
    if isinstance(saved, torch.Tensor) and isinstance(current, torch.Tensor):
        return None if torch.equal(saved, current) else name
    return None if type(saved) is type(current) and saved == current else name


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, np.generic):  # some are a float or a str too, but are pickled as NumPy's
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str | torch.Tensor):
        return value
    if isinstance(value, functools.partial):
        if value.args or not isinstance(value.func, type):
            raise TypeError(f"argument {name}: only a class with keywords can be described, got {value}")
        return describe(value.func, value.keywords)
    if isinstance(value, type):
        return describe(value, {})
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"argument {name} of type {type(value).__name__} cannot be kept in a checkpoint")


def _locate(path: str) -> type:
    """Import the class that a checkpoint names; only torch modules, so that a file cannot call anything else."""
    module_name, _, name = path.partition(":")
    try:
        cls = functools.reduce(getattr, name.split("."), importlib.import_module(module_name))
    except (ImportError, AttributeError) as error:
        raise InputError(f"the checkpoint needs {path}, which is not installed here; install its package") from error
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise InputError(f"the checkpoint names {path}, which is no torch module; the file cannot be trusted")
    return cls
