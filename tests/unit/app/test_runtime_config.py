"""The file in which upstream's tools look for what an agent can do."""

import json
from pathlib import Path

from cilium.app.runtime_config import NAME, write_runtime_config
from cilium.settings import from_values


def test_it_says_what_the_settings_say_and_is_written_anew(tmp_path: Path) -> None:
    write_runtime_config(tmp_path, from_values({}))
    assert json.loads((tmp_path / NAME).read_text())["EnableHealthChecking"] is True
    write_runtime_config(tmp_path, from_values({"healthChecking": False}))
    assert json.loads((tmp_path / NAME).read_text())["EnableHealthChecking"] is False
    assert [path.name for path in (tmp_path / NAME).parent.iterdir()] == ["agent-runtime-config.json"]
