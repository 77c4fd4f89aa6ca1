"""The benchmarks still run: nothing else imports them."""

import sys
from collections.abc import Callable
from pathlib import Path

import commands
import conv_vae
import data_scale
import dcgan
import large_report
import measure
import memory_mapped
import mlp_vae
import pytest
import table
import threads

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "loop",
    [
        lambda: mlp_vae.measure_tutorial(2),
        lambda: mlp_vae.measure_ours(True, "fp32", 3),
        lambda: conv_vae.measure_tutorial(1),
        lambda: conv_vae.measure_ours(False, "bf16", 3),
    ],
)
def test_loops_are_measured(
    loop: Callable[[], measure.Measurement], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlp_vae, "IMAGES", 1000)
    assert loop().images_per_second > 0


def test_arithmetic_is_counted() -> None:
    """Forwards, and backwards twice as much, but for the gradient of the images."""
    measured = mlp_vae.measure_ours(False, "fp32", 3)
    layers = [784 * 400, 400 * 40, 20 * 400, 400 * 784]
    assert measured.flops == 2 * (3 * sum(layers) - layers[0])
    assert measured.peak_memory > 100e6
    assert measure.peak_flops("fp32") > 1e9


def test_the_table_names_its_loops() -> None:
    assert list(table.loops()) == ["MLP VAE", "conv VAE", "DCGAN 64x64"]
    assert table.processor()
    assert dcgan.random_images(1).shape == (256, 3, 64, 64)


def test_commands_are_timed(cache: Path) -> None:
    arguments = ["model=vae_mlp", "model.widths=[8]", "max_steps=8", f"dataset.cache='{cache}'"]
    with threads.busy_processes(1):
        assert commands.seconds_per_step([*arguments, "threads=1"]) > 0


def test_data_of_any_size(tmp_path: Path) -> None:
    data_scale.write(3000, tmp_path)
    assert data_scale.measure(3000, tmp_path).startswith("| 3,000 |")
    assert memory_mapped.random_images(2000, tmp_path).test_start == 1000


def test_reports_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["large_report.py", "2"])
    large_report.main()
    assert "2 jobs:" in capsys.readouterr().out
