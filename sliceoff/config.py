"""Find and compose configs. Does not import torch, so that help, completion and errors about typos come at once."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import hydra
from hydra._internal.hydra import Hydra
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from yaml import YAMLError

from sliceoff.errors import InputError, OptionError, near_miss, one_line

# In a wheel the configs lie inside the package, in a checkout beside it.
_PACKAGE = Path(__file__).resolve().parent
CONFIGS = next(path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if path.is_dir())


def configure(*overrides: str, config_dir: str | Path | None = None, config_name: str = "main") -> DictConfig:
    """The config that `main.py OVERRIDES...` would run, for notebooks and tests; `hydra` in it holds the overrides.

    Args:
        overrides: such as `predictor=linear` or `seed=1`.
        config_dir: a directory of your own options, or a run's, as after `--config-dir`.
        config_name: the file to start from, as after `--config-name`: `config` repeats the run in `config_dir`.

    Raises:
        InputError: an override names nothing that exists, or there is no such directory or file.
    """
    for word in overrides:
        if word.startswith("-"):
            raise InputError(f"{word} is for the command line; here, give config_dir=DIR and config_name=NAME")
    check_words(overrides)
    if config_dir is not None and not Path(config_dir).is_dir():
        raise OptionError("config_dir", f"={config_dir} is no directory; name one that holds options or a config")
    try:
        cfg = _composed(overrides, config_dir, config_name)
    except (HydraException, YAMLError) as error:
        raise InputError(explain(error, overrides)) from error
    with open_dict(cfg):  # for `given`, where Hydra has it too
        cfg.hydra = {"overrides": {"task": [word.replace("${", r"\${") for word in overrides]}}
    return cfg


def given(cfg: DictConfig) -> list[str]:
    """The overrides that a config was composed with, by `configure` or on the command line."""
    words = OmegaConf.select(cfg, "hydra.overrides.task")
    if words is None and HydraConfig.initialized():
        words = HydraConfig.get().overrides.task
    return [] if words is None else cast(list[str], OmegaConf.to_container(words))


def choices() -> Mapping[str, Any]:
    """The option of every group that the command line's config was composed of; empty elsewhere."""
    return HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}


def _composed(overrides: Sequence[str], config_dir: str | Path | None = None, config_name: str = "main") -> DictConfig:
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        if config_dir is not None:  # Hydra has no other way to search it as it does after --config-dir
            searched = GlobalHydra.instance().config_loader().get_search_path()
            searched.prepend("command-line", f"file://{Path(config_dir).absolute()}", SearchPathQuery("schema", None))
            GlobalHydra.instance().clear()
            Hydra.create_main_hydra2("app", searched)
        return hydra.compose(config_name, overrides=list(overrides))


def read_config(file: Path) -> dict[str, Any]:
    """Read a config file; interpolations are left unresolved.

    Raises:
        InputError: the file is missing or broken.
    """
    try:
        config = OmegaConf.load(file)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InputError(f"{file} cannot be read ({one_line(error, 160)}); mend it, or name another") from error
    if not isinstance(config, DictConfig):
        raise InputError(f"{file} holds no keys and values; mend it, or name another")
    return {str(key): value for key, value in cast(dict, OmegaConf.to_container(config)).items()}


def options(group: str) -> list[str]:
    """The options of a config group; none where there is no such group."""
    return sorted(file.stem for file in (CONFIGS / group).glob("*.yaml")) if group else []


def check_words(overrides: Sequence[str]) -> None:
    """Refuse overrides for which Hydra would raise a bare ValueError.

    Raises:
        InputError: a word sets nothing, or sets a config group to null, true, false or a number.
    """
    for word in overrides:
        group, _, option = word.partition("=")
        if not group:
            raise InputError(f"{word}: what is to be set? write key=value")
        if re.fullmatch(r"null|true|false|[-+.\d]+", option) and (there := options(group)):
            raise InputError(f"{word}: choose one of {', '.join(there)}")


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """One-line message for a config that Hydra refuses: what is wrong, and the nearest name that exists."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = error.missing_cfg_file.rpartition("/")
        hint = near_miss(option, error.options)
        return f"{group}={option}: no such option{hint} (there are: {', '.join(sorted(error.options))})"
    if isinstance(error, MissingConfigException) and str(error).startswith("Cannot find primary config"):
        return f"there is no config '{error.missing_cfg_file}' to start from; name another, or its directory too"
    if isinstance(error, OverrideParseException) and "=" in error.override:
        key, _, value = error.override.partition("=")
        if " " in key or value.startswith(("[", "{")):
            return f"{error.override} cannot be read; mend its key or brackets"
        return f"{error.override} cannot be read; quote the value twice: '{key}=\"{value}\"'"
    text = one_line(error)
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0]
        if f"'{key}'" not in text:
            continue
        if "=" not in word and not word.startswith("~"):
            return f"{word}: what is to be set? write {word}=VALUE"
        owner, _, part = key.rpartition("/")
        if owner and (CONFIGS / key).is_dir():
            return f"{word}: the chosen {owner} has no {part} to choose; leave it out, or choose another {owner}"
        if key not in (known := _known_keys(overrides, key)):
            hint = near_miss(key, known)
            if hint and key.startswith(("trainer.", "callbacks.")):
                hint += f" (an unlisted option of Lightning: +{word})"
            hint = hint or "; `--help` lists the groups, `--cfg job` every key, +KEY=VALUE adds one"
            return f"{word}: there is no config key '{key}'{hint}"
        if word.startswith("+"):
            return f"{word}: {key} is there already; write {word.lstrip('+')}"
    cause = str(error.__cause__ or "").partition("\n")[0]  # Hydra's own message says which override, its cause why
    return f"{text} ({cause})" if cause and cause not in text else text


def _known_keys(overrides: Sequence[str], unknown: str) -> list[str]:
    """All dotted keys of the config that the other overrides' group choices compose."""
    groups = [
        word.partition(",")[0]  # in a grid, the first value
        for word in overrides
        if "=" in word and not word.startswith(unknown) and (CONFIGS / word.partition("=")[0]).is_dir()
    ]
    try:
        cfg = _composed(groups)
    except HydraException:
        cfg = _composed(())
    return list(_keys(cast(Mapping, OmegaConf.to_container(cfg))))


def _keys(node: Mapping, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")
