"""What distinguishes runs' configs; groups of runs that differ only in their seed, labelled by it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonpath, relpath
from pathlib import Path
from re import sub
from typing import Any

_EVERYWHERE = ("experiment", "debug")  # config groups whose options set keys of all others


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        settings: the part of its config that decides results: dotted key -> text.
        choices: the options that its config was composed of: config group -> option.
        numbers: those of its summary; None if one is not finite.
    """

    path: Path
    seed: int
    settings: Mapping[str, str]
    choices: Mapping[str, str]
    numbers: Mapping[str, float | None]


def settings_of(config: Mapping[str, Any]) -> dict[str, str]:
    """A flat config's values as they are written on the command line."""
    return {key: _text(value) for key, value in config.items()}


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups of runs whose settings are equal except for the seed and values made from it, in the order given.

    A saved config is resolved, so `${seed}` is a number there. A value counts as made from it if its key is named
    `seed` or `path`, or if it contains a slash, and it contains the run's seed.
    """
    groups: list[list[Run]] = []
    for run in runs:
        equals = next((group for group in groups if all(_repeats(run, other) for other in group)), None)
        if equals is None:
            groups.append([run])
        else:
            equals.append(run)
    return groups


def labels(groups: Sequence[Sequence[Run]], single: str) -> list[str]:
    """A name for every group: the overrides that distinguish it from the others, as on the command line.

    An option of a config group, such as `predictor=gru`, stands for all keys that it sets, and a class for its
    arguments; these are named only if they distinguish groups with the same option or class.

    Args:
        groups: as `grouped` returns them.
        single: the name if there is only one group.
    """
    parts = _names([_settings(group) for group in groups], [group[0].choices for group in groups])
    names = [" ".join(part) or single for part in parts]
    if len(set(names)) < len(names):  # a label must not stand for two groups
        names = [f"{number}: {name}" for number, name in enumerate(names, 1)]
    return names


def differences(settings: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    """The classes and keys in which runs' settings differ, one row each, one column per run; "" where one has no such.

    A class stands for its arguments. Rivals are left out: of several runs, only the first's are shown.

    Args:
        settings: label -> settings, as in `Run`.
    """
    kept = [{key: value for key, value in each.items() if not _within("rivals", key)} for each in settings.values()]
    return [
        {"config key": name} | {label: value or "" for label, value in zip(settings, values, strict=True)}
        for name, values in _distinctions(kept, [{}])
    ]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_text(item) for item in value)}]"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _repeats(run: Run, other: Run) -> bool:
    if run.settings.keys() != other.settings.keys():
        return False
    return all(
        its == other.settings[key] or _unseeded(key, its, run.seed) == _unseeded(key, other.settings[key], other.seed)
        for key, its in run.settings.items()
    )


def _unseeded(key: str, value: str, seed: int) -> str:
    """The value with `${seed}` in place of the seed, if it is a value that may contain the seed."""
    if key.rpartition(".")[2] in ("seed", "path") or "/" in value:
        return sub(rf"(?<!\d){seed}(?!\d)", "${seed}", value)
    return value


def _settings(group: Sequence[Run]) -> dict[str, str]:
    """The group's common settings; values that may contain the seed have `${seed}`, unless several runs agree."""
    first, *others = group
    return {
        key: value
        if others and all(run.settings[key] == value for run in others)
        else _unseeded(key, value, first.seed)
        for key, value in first.settings.items()
    }


def _names(settings: Sequence[Mapping[str, str]], choices: Sequence[Mapping[str, str]]) -> list[tuple[str, ...]]:
    """The parts of every group's name: what distinguishes it from all others, then from those with the same parts."""
    names: list[tuple[str, ...]] = [() for _ in settings]
    for name, values in _distinctions(settings, choices):
        names = [
            (*before, f"no {name}" if value is None else f"{name}={value}")
            for before, value in zip(names, values, strict=True)
        ]
    for parts in set(names):
        alike = [index for index, other in enumerate(names) if other == parts]
        if 1 < len(alike) < len(names):
            further = _names([settings[index] for index in alike], [choices[index] for index in alike])
            for index, more in zip(alike, further, strict=True):
                names[index] += more
    return names


def _distinctions(
    settings: Sequence[Mapping[str, str]], choices: Sequence[Mapping[str, str]]
) -> Iterator[tuple[str, list[str | None]]]:
    """Names and values of what differs, without what is within a difference named before."""
    said: list[str] = []
    for place, name, values in _differing(settings, choices):
        if not any(_within(other, place) for other in said):
            said.append(place)
            yield name, values


def _differing(
    settings: Sequence[Mapping[str, str]], choices: Sequence[Mapping[str, str]]
) -> Iterator[tuple[str, str, list[str | None]]]:
    """Options, classes and keys that differ, the most general first: the key that each sets, its name, its values."""
    every = dict.fromkeys(key for each in settings for key in each)
    keys = [key for key in every if len({each.get(key) for each in settings}) > 1]
    options = sorted((_place(group), group) for group in choices[0] if len({each.get(group) for each in choices}) > 1)
    for place, group in sorted(options, key=lambda option: (option[0] != "", option[0].count("."))):
        chosen = [each.get(group) for each in choices]
        if None not in chosen and any(_within(place, key) for key in keys):
            yield place, group, ["null" if option == "None" else option for option in chosen]
    classes = sorted((key for key in keys if key.endswith("._target_")), key=lambda key: key.count("."))
    for key in classes:
        name = key.removesuffix("._target_")
        yield name, name, _named([each.get(key) for each in settings])
    for key in keys:
        if key not in classes:
            yield key, key, _short([each.get(key) for each in settings])


def _place(group: str) -> str:
    """The key below which a config group's options set keys; "" for the whole config."""
    return "" if group in _EVERYWHERE else group.rpartition("@")[2].replace("/", ".")


def _within(place: str, key: str) -> bool:
    return not place or key == place or key.startswith(f"{place}.")


def _short(values: Sequence[str | None]) -> list[str | None]:
    """Paths relative to their common directory."""
    files = [value for value in values if value is not None and value.startswith("/")]
    if len(files) < len(values):
        return list(values)
    directory = commonpath([str(Path(file).parent) for file in files])
    if directory == "/":
        return list(values)
    return [relpath(file, directory) for file in files]


def _named(classes: Sequence[str | None]) -> list[str | None]:
    """Class names without modules, unless two would then be equal."""
    names = [None if path is None else path.rpartition(".")[2] for path in classes]
    return names if len(set(names)) == len(set(classes)) else list(classes)
