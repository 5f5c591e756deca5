"""The config of a run: what of it is in force, what `config.yaml` holds of it, and what decides the run's results."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import reduce
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from sliceoff.config import choices, read_config

FITTED_WINDOWS = ("input_length", "horizon", "calendar")
"""Options of `windows` that a fitted predictor's checkpoint holds."""

# What a checkpoint of `init` replaces in the config.
BROUGHT = {
    "init.checkpoint": ("predictor", *(f"windows.{name}" for name in FITTED_WINDOWS)),
    "init.predictor": ("predictor",),
}

# Keys of a config that cannot change a run's results: where it is written, its loggers, and what makes it faster.
_IDLE = (
    *("defaults", "run_dir", "logger", "logger.*", "threads", "job.workers", "job.regions_per_batch"),
    *("job.checkpoint_s", "trainer.*.enable_progress_bar", "trainer.*.enable_model_summary"),
    *("callbacks.*.progress", "callbacks.*.progress.*"),
)


def in_force(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config without the keys that a checkpoint replaces."""
    content = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    content.pop("hydra", None)  # of `configure`
    for checkpoint, keys in BROUGHT.items():
        if OmegaConf.select(cfg, checkpoint) is not None:
            for *above, key in (key.split(".") for key in keys):
                reduce(dict.__getitem__, above, content).pop(key, None)
    return content


def saved(cfg: DictConfig) -> dict[str, Any]:
    """The config in force, without the keys that say where a run is written and whether it is resumed."""
    content = in_force(cfg)
    content["run_dir"] = f"runs/{content['job']['name']}/${{now:%Y-%m-%d_%H-%M-%S}}"
    content["init"] = {
        key: value for key, value in content["init"].items() if key not in ("mode", "run") and value is not None
    }
    return content


def repeatable(cfg: DictConfig) -> str:
    """The text of `config.yaml`: `--config-dir RUN --config-name config` repeats the run in a new directory."""
    content = saved(cfg)
    defaults = {"defaults": [{"init": "scratch"}, {"hydra": "default"}, "_self_"]}
    left_out = {"hydra", "init"} | cfg.keys() - content.keys()
    header = "".join(
        f"# {group}={choice}\n"
        for group, choice in sorted(choices().items())
        if group.partition("/")[0] not in left_out
    )
    return header + OmegaConf.to_yaml(OmegaConf.create({**defaults, **content}))


def config_of(run: Path) -> dict[str, Any]:
    """The config that a run was started with.

    Raises:
        InputError: its `config.yaml` is missing or broken.
    """
    return read_config(run / "config.yaml")


def choices_of(run: Path) -> dict[str, str]:
    """The options that a run's config was composed of: group -> option, from the head of its `config.yaml`.

    Empty if the run was not started from the command line.
    """
    head = takewhile(lambda line: line.startswith("# "), (run / "config.yaml").read_text(encoding="utf-8").splitlines())
    return {group: choice for group, _, choice in (line.removeprefix("# ").partition("=") for line in head)}


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's config that can change its results: dotted key -> value; files of `init` by absolute path."""
    return {
        key: str(Path(str(value)).resolve()) if key.startswith("init.") else value
        for key, value in _flat("", config)
        if not any(fnmatch(key, idle) for idle in _IDLE)
    }


def _flat(key: str, node: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, Mapping):
        yield key, node
        return
    for name, value in node.items():
        yield from _flat(f"{key}.{name}".lstrip("."), value)
