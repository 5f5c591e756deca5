"""Builds one object from its part of a config; what goes wrong is told in one line that names the config key."""

import re
from collections.abc import Mapping
from pydoc import locate
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from sliceoff.checks import annotated
from sliceoff.config import choices, options
from sliceoff.errors import InputError, OptionError, under, worded

# Packages that only an extra of SliceOff installs, and that extra.
EXTRAS = {"gymnasium": "region", "botorch": "market", "gpytorch": "market", "cryptography": "market"}

# What classes raise for arguments that they cannot use, and Hydra where `_args_` is no list.
_MISUSE = TypeError | ValueError | ImportError | AttributeError | MisconfigurationException | InstantiationException


def built(cfg: DictConfig, kind: type, key: str, **added: Any) -> Any:
    """`build`, and check that something is chosen and makes a `kind` (a class or a protocol).

    Raises:
        InputError: as `build`; or nothing is chosen, or it makes something else.
    """
    if OmegaConf.select(cfg, key) is None:
        group = key.rpartition(".")[2]
        choice = group if group == key else f"{group}@{key}"
        choice = choice if choice in (group, *choices()) else f"+{choice}"
        raise InputError(f"{key} has no value; choose one with {choice}={'|'.join(options(group))}")
    made = build(cfg, key, **added)
    if not isinstance(made, kind):
        target = OmegaConf.select(cfg, f"{key}._target_")
        raise InputError(f"{key}: {target} makes a {type(made).__name__}, which is no {kind.__name__} (see its docs)")
    return made


def build(cfg: DictConfig, key: str, *, partial: bool = False, **added: Any) -> Any:
    """Instantiate the config node at `key` (with `partial`, as a `functools.partial`).

    `added` bypasses Hydra, which would turn a dataclass into a dict.

    Raises:
        InputError: it cannot be built; the message names the key.
    """
    node = OmegaConf.select(cfg, key, throw_on_missing=True)
    try:
        _check_types(key, OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node)
        made = instantiate(node, _convert_="all", _partial_=partial or bool(added))
    except InstantiationException as error:
        cause, key = error.__cause__, _full_key(error) or key
        if isinstance(cause, OptionError):
            raise cause.under(key) from None
        if isinstance(cause, InputError):
            raise cause from None
        if missing := missing_extra(str(cause or error)):
            raise InputError(f"{key}: {missing}") from error
        if isinstance(cause, _MISUSE | None):
            raise InputError(f"{key}: {worded(cause or error)}") from error
        raise cause from None
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} has no value; set {error.full_key}=...") from error
    except (OmegaConfBaseException, TypeError) as error:  # Hydra raises TypeError for a wrong `_recursive_`
        raise InputError(f"{key}: {worded(error)}") from error
    with under(key):
        return made(**added) if added else made


def missing_extra(error: str) -> str | None:
    """What to install if `error` says that a package of one of `EXTRAS` is missing, else None."""
    found = re.search(r"No module named '(\w+)", error)
    if found is None or (extra := EXTRAS.get(found[1])) is None:
        return None
    return f"needs {found[1]}, which comes with an extra: pip install -e '.[{extra}]'"


def _check_types(key: str, node: Any) -> None:
    """Check the arguments of Lightning's and torch's own classes in a part of the config: they are not checked there.

    Raises:
        InputError: an argument does not have the type that its annotation says.
    """
    if isinstance(node, Mapping):
        target = str(node.get("_target_"))
        if target.startswith(("lightning.", "torch.optim.")) and callable(cls := locate(target)):
            annotated(key, cls, {name: value for name, value in node.items() if not isinstance(value, Mapping | list)})
        for name, value in node.items():
            _check_types(f"{key}.{name}", value)


def _full_key(error: InstantiationException) -> str | None:
    """The config key of the node that Hydra was instantiating."""
    found = re.search(r"full_key: (\S+)\s*$", str(error))
    return found and found[1]
