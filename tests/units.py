"""A region in other units: what is decided in it must not change."""

from dataclasses import replace

from sliceoff.region import RegionState, Scenario


def scenario_in(scenario: Scenario, *, bits=1.0, seconds=1.0, money=1.0) -> Scenario:
    """With `bits` new units in a bit (and in a cycle), `seconds` in a second, `money` in one of money."""
    return replace(
        scenario,
        short_slot_s=scenario.short_slot_s * seconds,
        deadline_s=scenario.deadline_s * seconds,
        data_bits=[size * bits for size in scenario.data_bits],
        vm_hz=scenario.vm_hz * bits / seconds,
        max_bandwidth_hz=scenario.max_bandwidth_hz * bits / seconds,
        price=scenario.price * money,
    )


def state_in(state: RegionState, *, bits=1.0, seconds=1.0, money=1.0) -> RegionState:
    """A state in the units of `scenario_in`; it holds no money."""
    return state._replace(
        tasks=state.tasks._replace(data_bits=state.tasks.data_bits * bits),
        backlog_s=state.backlog_s * seconds,
        bandwidth_hz=state.bandwidth_hz * bits / seconds,
    )
