"""The README's Python runs, one block after the other; its commands name things that exist."""

import re
from pathlib import Path

import pytest
from conftest import ROOT, composed

from genmodels import legal

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert len(blocks) == 3 and namespace["pictures"].shape == (16, 1, 28, 28)
    assert -300 < namespace["trainer"].evaluate(namespace["data"].test)["elbo"] < -90
    assert namespace["step"](0.2, at=0.3) == 0 and namespace["step"](0.3, at=0.3) == 1


def test_commands_are_legal() -> None:
    commands = re.findall(
        r"^(?:python|pip install uv && uv run) ?(train|infer)\.py ?([^#\n]*)", README, re.MULTILINE
    )
    assert len(commands) >= 7
    for door, arguments in commands:
        overrides = [
            word.split(",")[0] if "=[" not in word else word
            for word in arguments.split()
            if word[0] != "-"
        ]
        legal.check(composed(door, *overrides), door)


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target
