"""What a run refuses after its settings are known: figures, the folder it would go to, its data."""

from pathlib import Path

from torch import nn

from genmodels import parallel, run_files, torchrun
from genmodels.data.images import ImageData
from genmodels.errors import require
from genmodels.formatting import format_setting
from genmodels.registry import select
from genmodels.run_folder import RESULTS, Run
from genmodels.run_name import number_settings
from genmodels.settings import TrainSettings, read_settings
from genmodels.user_errors import UserError


def check_figures(settings: TrainSettings, model: nn.Module) -> None:
    """Raise ValueError for figures, asked for by name, that cannot be had from the model."""
    if settings.figures:
        from genmodels.figures.registry import FIGURES, RENAMED  # imports matplotlib

        select("figures", settings.figures, FIGURES, model, RENAMED)


def refuse_other_settings(folder: Path, settings: TrainSettings) -> None:
    """Raise UserError where the folder holds a run with other settings, naming these."""
    before = number_settings(read_settings(folder))
    if not before:
        refuse_results_without_settings(folder)
        return
    now = number_settings(settings.as_dict())
    different = []
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            was, is_now = format_setting(before.get(key)), format_setting(now.get(key))
            different.append(f"{key} ({was} there, {is_now} now)")
    if different:
        raise UserError(
            f"{folder} holds a run with other settings: {', '.join(different[:6])}. Choose another "
            "hydra.run.dir, or overwrite=true to lose that run"
        )


def refuse_results_without_settings(folder: Path) -> None:
    """Raise UserError where the folder holds results of nobody knows which settings."""
    left = [name for name in RESULTS if (folder / name).exists()]
    if left:
        raise UserError(
            f"{folder} holds a run without its {run_files.CONFIG} ({', '.join(left)}). Choose "
            "another hydra.run.dir, or overwrite=true to lose that run"
        )


def refuse_several_processes(settings: TrainSettings) -> None:
    """Raise ValueError where the processes that torchrun started cannot share the work."""
    processes = torchrun.processes()
    require(
        settings.batch_size % processes == 0,
        "batch_size",
        settings.batch_size,
        f"a multiple of {processes}, the number of processes, each of which takes its share",
    )
    for name in ("preview", "doctor"):
        require(
            processes == 1 or not getattr(settings, name),
            name,
            "true",
            "asked of one process, without torchrun",
        )


def refuse_data(run: Run, data: ImageData, settings: TrainSettings) -> None:
    """Raise ValueError for too few images, and for others than those that the run began with."""
    if not parallel.all_equal(data.checksum):
        raise UserError(
            "the processes that torchrun started have read different data: dataset.root must hold "
            "the same files on each machine"
        )
    if not parallel.all_equal(number_settings(settings.as_dict())):
        raise UserError(
            "the processes that torchrun started have different settings: give each the same, and "
            "name those that a machine decides (precision=fp32)"
        )
    if not settings.overwrite:
        refuse_other_data(run, data)
    require(
        settings.batch_size <= len(data.train),
        "batch_size",
        settings.batch_size,
        f"at most {len(data.train)}, the number of training images",
    )


def refuse_other_data(run: Run, data: ImageData) -> None:
    """Raise UserError where a run began with other images than those that are there now."""
    before = run.summary.get("data")
    if before not in (None, data.checksum):
        raise UserError(
            f"{run.folder} began with other data (checksum {before}, now {data.checksum}). Put "
            "those back, choose another hydra.run.dir, or overwrite=true to lose that run"
        )
