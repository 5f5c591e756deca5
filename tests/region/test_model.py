"""Eqs. 1-10 against numbers worked by hand."""

import math

import pytest
import torch

from sliceoff.region import model, queues

pytestmark = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def test_gain_and_efficiency(dtype):
    # 1e-4 * 100^-3 = 1e-10; 0.1 W * 1e-10 / 1e-13 W = 100; log2(101) = 6.6582...
    gain = model.channel_gain(torch.tensor([[100.0]], dtype=dtype), 1e-4, 3.0)
    assert gain.item() == pytest.approx(1e-10)
    efficiency = model.spectral_efficiency(gain, 0.1, 1e-13)
    assert efficiency.dtype == dtype
    assert efficiency.item() == pytest.approx(6.658211, rel=1e-6)


def test_eq1_rate_and_eq2_upload(dtype):
    # b B log2(1 + 3): 0.25 * 8 MHz * 2 = 4 Mbit/s; 1 Mbit in 0.25 s; nothing without a share
    efficiency = model.spectral_efficiency(torch.tensor([[3.0, 3.0]], dtype=dtype), 1.0, 1.0)
    rate = model.uplink_rate(torch.tensor([[0.25, 0.0]], dtype=dtype), torch.tensor([8e6], dtype=dtype), efficiency)
    assert rate.tolist() == [pytest.approx([4e6, 0.0])]
    assert model.upload_time(torch.full((1, 2), 1e6, dtype=dtype), rate).tolist() == [[0.25, math.inf]]


def fifo(vm, arrival, execution, backlog, dtype, *, joins=None, **options):
    options = {"deadline_s": 1.0, "queue": "lindley", "late_tasks": "run"} | options
    times = [torch.tensor([x], dtype=dtype) for x in (arrival, execution)]
    joins = torch.ones(1, len(vm), dtype=torch.bool) if joins is None else torch.tensor([joins])
    return queues.fifo(torch.tensor([vm]), *times, joins, torch.tensor([backlog], dtype=dtype), **options)


def test_eq3_waiting_by_lindley_and_as_printed(dtype):
    # VM 0 is busy until 0.3: user 1 arrives 0.1, waits 0.2, done 0.5; user 0 arrives 0.4, waits 0.1, done 0.7;
    # user 2 arrives 0.9 and waits 0. User 3 is alone on VM 1.
    arguments = ([0, 0, 0, 1], [0.4, 0.1, 0.9, 0.2], [0.2, 0.2, 0.05, 0.6], [0.3, 0.0], dtype)
    lindley = fifo(*arguments)
    assert lindley.wait_s.tolist() == [pytest.approx([0.1, 0.2, 0.0, 0.0], abs=1e-6)]
    assert lindley.busy_until_s.tolist() == [pytest.approx([0.95, 0.8])]
    paper = fifo(*arguments, queue="paper")
    assert paper.wait_s.tolist() == [pytest.approx([0.5, 0.3, 0.7, 0.0], abs=1e-6)]
    assert paper.busy_until_s.tolist() == [pytest.approx([0.75, 0.6])]


def test_late_tasks_are_turned_away_in_queue_order(dtype):
    # User 0 fits (done 0.7), user 1 does not (0.7 + 0.4), user 2 still does (0.7 + 0.2), user 3 arrives too late.
    queued = fifo([0] * 4, [0.1, 0.2, 0.3, 0.95], [0.6, 0.4, 0.2, 0.1], [0.0], dtype, late_tasks="drop")
    assert queued.admitted.tolist() == [[True, False, True, False]]
    assert queued.wait_s.tolist() == [pytest.approx([0.0, 0.5, 0.4, 0.0], abs=1e-6)]
    assert queued.busy_until_s.tolist() == [pytest.approx([0.9])]


def test_ties_are_served_in_the_order_of_users(dtype):
    assert fifo([0, 0, 0], [0.2, 0.2, 0.2], [0.1, 0.2, 0.3], [0.0], dtype).wait_s.tolist() == [
        pytest.approx([0.0, 0.1, 0.3], abs=1e-6)
    ]


def test_eq4_execution_and_eq5_completion(dtype):
    # 1 Mbit * 300 cycle/bit / 5 GHz = 0.06 s
    execution = model.execution_time(torch.tensor([1e6], dtype=dtype), torch.tensor([300.0], dtype=dtype), 5e9)
    assert execution.item() == pytest.approx(0.06)
    completion = model.completion_time(torch.tensor([0.3], dtype=dtype), torch.tensor([0.2], dtype=dtype), execution)
    assert completion.item() == pytest.approx(0.56)


def test_eq6_revenue(dtype):
    on_time = torch.tensor([[True, True, False]])
    revenue = model.task_revenue(on_time, torch.tensor([[1.0, 3.0, 2.0]], dtype=dtype), 0.05)
    assert revenue.tolist() == [pytest.approx([0.05, 0.15, 0.0])]
