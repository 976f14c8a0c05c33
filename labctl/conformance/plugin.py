"""The pytest plugin that labctl installs: adds the kit's options and fixtures when ``labctl.conformance`` is to be run."""

from __future__ import annotations

import pytest


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Load the kit only for its own tests, so that nobody else sees its options."""
    if any(argument.partition("::")[0].startswith("labctl.conformance") for argument in args):
        from labctl.conformance import kit

        early_config.pluginmanager.register(kit, "labctl-conformance-kit")
