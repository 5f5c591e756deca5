"""Traffic-cognitive network slicing and edge offloading, and a market for edge computing."""

from importlib.util import find_spec

if find_spec("gymnasium") is not None:  # an optional dependency
    import gymnasium

    # By name only: the environments are imported by `gymnasium.make("sliceoff/Region-v0")`.
    gymnasium.register(
        "sliceoff/Region-v0",
        entry_point="sliceoff.region.gym:RegionEnv",
        vector_entry_point="sliceoff.region.gym:RegionVectorEnv",
    )
