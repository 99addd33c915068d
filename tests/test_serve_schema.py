"""The service keeps to its description: schemathesis asks what /openapi.json allows and what it forbids."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
pytest.importorskip("schemathesis", reason="asks what a description allows")

from serving import TOKEN, command

EXAMPLES = 40

# A string of bytes is all that a schema can say of a picture, so most of what it allows is none: 422.
LEFT_OUT = "positive_data_acceptance"


@pytest.mark.slow
def test_schemathesis_finds_nothing(tiny_model: Path, tmp_path: Path) -> None:
    with command(tiny_model, token=TOKEN) as service:
        done = subprocess.run(
            [
                sys.executable, "-m", "schemathesis.cli", "run", f"{service.address}/openapi.json",
                "--header", f"Authorization: Bearer {TOKEN}", "--max-examples", str(EXAMPLES), "--seed", "1",
                "--exclude-checks", LEFT_OUT, "--phases", "examples,coverage,fuzzing", "--no-color",
                "--generation-database", "none", "--suppress-health-check", "all",
            ],
            cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "110"}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Tested: 7" in done.stdout
        assert service.stop() == 0
        assert "Traceback" not in service.process.stderr.read()
