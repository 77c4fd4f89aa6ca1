"""JavaScript of the pages, run by node, and pages, run by Chromium without a window."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None
)
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
SECONDS = 120  # after which a page or a script hangs


def run_node(script: str, value: Any) -> Any:
    """What a script prints as json; it finds `value`, a json of it, as `input`."""
    code = 'const input = JSON.parse(require("fs").readFileSync(0, "utf8"));\n' + script
    done = subprocess.run(
        ["node", "-e", code],
        input=json.dumps(value),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_in_page(page: Path, script: str, *, width: int = 1400, height: int = 1000) -> Any:
    """Open a page, run the body of an async function in it; returns what that returns, as json.

    Fails where the page or the script throws.
    """
    program = f"""
<script>
const failures = [];
// pages that nobody sees are hardly ever drawn
window.requestAnimationFrame = draw => setTimeout(() => draw(performance.now()), 16);
addEventListener("error", event => failures.push(event.message));
</script>
{page.read_text(encoding="utf-8")}
<script>
const wait = milliseconds => new Promise(done => setTimeout(done, milliseconds));
(async () => {{ {script} }})().catch(error => failures.push(String(error))).then(result => {{
  const outcome = document.createElement("output");
  outcome.id = "outcome";
  outcome.textContent = JSON.stringify({{ result, failures }});
  document.documentElement.append(outcome);
}});
</script>"""
    copy = page.with_name(f"tested-{page.name}")
    copy.write_text(program, encoding="utf-8")
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            f"--user-data-dir={page.parent / 'browser'}",
            *(f"--window-size={width},{height}", "--virtual-time-budget=20000", copy.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    found = re.search(r'<output id="outcome">(.*?)</output>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    outcome = json.loads(html.unescape(found[1]))
    assert outcome["failures"] == []
    return outcome["result"]
