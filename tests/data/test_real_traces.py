"""The pipeline on real traffic gives the figures that a plain script gave (shared/data/INDEX.md)."""

import pytest
import torch

from sliceoff.data import Scaler, TrafficDataModule, read_wide_csv


@pytest.mark.parametrize(
    ("name", "last", "yesterday"),
    [("PobleSec", (1.139, 0.804), (0.807, 0.679)), ("LesCorts", (0.753, 0.627), (0.260, 0.396))],
)
def test_reference_figures(real_data, name, last, yesterday):
    """10-minute means, 70/10/20, 24 steps ahead, standardised: MSE and MAE of two rules that need no fitting."""
    trace = read_wide_csv(real_data / "lte" / f"{name}.csv", columns=["rnti_count"], resample_s=600)
    datamodule = TrafficDataModule(trace, input_length=288, horizon=24, batch_size=512)
    scaler = Scaler(1)
    scaler.fit(datamodule.train_values)
    histories, futures = zip(
        *((scaler.transform(w.history), scaler.transform(w.future)) for w in datamodule.test_dataloader()), strict=True
    )
    history, future = torch.cat(histories), torch.cat(futures)

    def errors(forecast):
        return ((forecast - future) ** 2).mean().item(), (forecast - future).abs().mean().item()

    assert errors(history[:, -1:]) == pytest.approx(last, rel=0.01)
    assert errors(history[:, -144:-120]) == pytest.approx(yesterday, rel=0.01)


def test_files_as_they_are(real_data):
    week = read_wide_csv(real_data / "lte" / "week_users.csv")
    assert (week.values.shape, week.step_s) == ((1008, 4), 600)
    users = read_wide_csv(real_data / "lte" / "PobleSec.csv", columns=["rnti_count"], gaps="error")
    assert (users.values.shape, users.step_s) == ((19_909, 1), 120)
    coding = read_wide_csv(real_data / "lte" / "LesCorts.csv", columns=["mcs_up"])  # has empty cells
    assert len(coding.times) == 8615
    transformer = read_wide_csv(real_data / "ett" / "ETTh1.csv", negative="allow")
    assert (transformer.values.shape, transformer.step_s) == ((17_420, 7), 3600)
    datamodule = TrafficDataModule(transformer, 96, 24, split=[8640, 2880, 2880])
    assert len(datamodule.heldout_windows) == 2880 - 23
