"""Options in groups, in the plain help of a command."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class PanelCommand(TyperCommand):
    """A command that lists options under the panel that they name (`rich_help_panel`), the others first.

    Typer does this only where it draws boxes, which a log or a pipe does not want.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:  # Click's, which Typer brings or requires
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                heading = getattr(param, "rich_help_panel", None) or usual
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
