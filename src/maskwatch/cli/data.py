"""`maskwatch data …`: what is done with a data set before a training."""

from __future__ import annotations

import typer

from maskwatch.cli.data_check import check
from maskwatch.cli.data_convert import convert
from maskwatch.cli.data_fetch import fetch
from maskwatch.cli.data_show import show
from maskwatch.cli.data_split import split
from maskwatch.cli.data_stats import stats

data_app = typer.Typer(
    name="data",
    help="Check, count, show, split, convert and fetch data sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for verb in (check, stats, show, split, convert, fetch):
    data_app.command()(verb)
