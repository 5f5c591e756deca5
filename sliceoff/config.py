"""The configs and how one is composed; light, so that help, completion and typos need not wait for torch."""

from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from sliceoff.errors import InputError, one_line

# In a wheel the configs lie inside the package, in a checkout beside it.
_PACKAGE = Path(__file__).resolve().parent
CONFIGS = next(path for path in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if path.is_dir())


def configure(*overrides: str) -> DictConfig:
    """The config that `main.py OVERRIDES...` would run, for notebooks and tests.

    Raises:
        HydraException: an override names nothing that exists.
    """
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("main", overrides=list(overrides))


def read_config(file: Path) -> DictConfig:
    """A config from its file.

    Raises:
        InputError: the file is missing or broken.
    """
    try:
        config = OmegaConf.load(file)
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise InputError(f"{file} cannot be read ({one_line(error, 160)}); mend it, or name another") from error
    if not isinstance(config, DictConfig):
        raise InputError(f"{file} holds no keys and values; mend it, or name another")
    return config


def options(group: str) -> list[str]:
    """The options of a config group; none where there is no such group."""
    return sorted(file.stem for file in (CONFIGS / group).glob("*.yaml")) if group else []
