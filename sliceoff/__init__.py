"""Traffic-cognitive network slicing and edge offloading; and the market beside them."""

from importlib.util import find_spec

if find_spec("gymnasium") is not None:  # an extra
    import gymnasium

    # Names only: nothing of ours is loaded before `gymnasium.make("sliceoff/Region-v0")`.
    gymnasium.register(
        "sliceoff/Region-v0",
        entry_point="sliceoff.region.gym:RegionEnv",
        vector_entry_point="sliceoff.region.gym:RegionVectorEnv",
    )
