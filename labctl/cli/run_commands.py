"""Commands that take runs and show them."""

from __future__ import annotations

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labctl.cli import places, show_text
from labctl.cli.on_signals import on_signals
from labctl.errors import DataError, LabError, RunError

if TYPE_CHECKING:
    from labctl.config import LabConfig
    from labctl.run.runner import Outcome
    from labctl.up.acquire import Acquisition, VirtualLab

runs_option = click.option("--runs", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", envvar="LABCTL_RUNS",
                           help="Folder of run folders. Default: that of the lab that is up, else runs/ here.")  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
set_option = click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="An argument of the sequence; times take a unit (window=60ns). May be repeated.")  # fmt: skip
config_option = click.option("--config", metavar="CONFIG", help="Lab file, or its name in configs/. Default: that of the lab that is up, else the first.")  # fmt: skip
core_option = click.option("--core", type=click.Choice(["sim", "nidaq"]), default="sim", show_default=True, help="What plays it: the lab's own core, or the NI card of [core.nidaq] in the lab file.")  # fmt: skip
CUT_SHORT = "cut short"


@click.command("run")
@click.argument("sequence", required=False)
@set_option
@click.option("--rounds", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Heralded rounds (or shots) to take.")  # fmt: skip
@click.option("--label", default="", metavar="TEXT", help="A note kept with the run.")
@click.option(
    "--resume", type=int, metavar="RID", help="Go on with the next round of a run that was cut short."
)
@click.option("--virtual", is_flag=True, help="Take it on a simulated lab inside this command, in virtual time; none has to be up.")  # fmt: skip
@click.option("--seed", type=int, metavar="N", help="Seed of the simulated world (with --virtual).")
@core_option
@config_option
@runs_option
@json_option
def run_command(
    sequence: str | None,
    pairs: tuple[str, ...],
    rounds: int,
    label: str,
    resume: int | None,
    virtual: bool,
    seed: int | None,
    core: str,
    config: str | None,
    runs: Path | None,
    as_json: bool,
) -> None:
    """Take data: check SEQUENCE against the lab, play it, journal every record, publish the run.

    Ctrl-C ends the run in good order: what was taken is published, the exit code is 130. A run whose process was
    killed goes on with --resume. With --json progress goes to standard error and one JSON object to standard output.

    \b
      labctl run link --rounds 1000
      labctl run link --set alpha=0.1 --set measure=bell --rounds 500 --label "after realignment"
      labctl run fringe --virtual --seed 7
      labctl run --resume 12
    """
    if (sequence is None) == (resume is None):
        raise click.UsageError("give a SEQUENCE, or --resume RID")
    if seed is not None and not virtual:
        raise click.UsageError("--seed needs --virtual; a lab that is up has the seed it was started with")
    from labctl import lab as labs
    from labctl.cli.progress import Progress
    from labctl.run import folder as folders

    with ExitStack() as stack:
        loaded, lab, folder = _place(config, runs, virtual)
        if resume is not None:
            folders.find(folder, resume)
        schedule = labs.schedule(loaded, lab, sequence, places.settings(pairs)) if sequence else None
        if schedule is not None:
            _refuse(schedule, loaded, core)
        taker = _taker(stack, loaded, lab, folder, virtual, seed, core)
        progress = stack.enter_context(Progress(sys.stderr if as_json else None, _noise_rate(folder)))
        interrupted = _end_on_signal(stack, taker, progress)
        if schedule is not None:
            outcome = taker.run(schedule, rounds, progress, label)
        else:
            assert resume is not None
            outcome = taker.resume(resume, progress)
    _print_outcome(outcome, as_json)
    if interrupted:
        click.get_current_context().exit(130)
    if outcome.error or outcome.reason not in ("complete", "stopped"):
        raise RunError(
            f"run {outcome.rid} ended early: {outcome.error or outcome.reason}; what was taken is in {outcome.folder}"
        )


def _place(config: str | None, runs: Path | None, virtual: bool) -> tuple[LabConfig, Path, Path]:
    """Lab, lab folder and runs folder of a run."""
    if virtual:
        loaded, lab = places.load_config(config, simulate=("all",))
        return loaded, lab, runs or places.default_runs(lab)
    if config is not None or places.option("hub"):
        loaded, lab = places.load_config(config)
        return loaded, lab, places.runs_folder(runs)
    running = places.runtime()
    return places.running_config(running), Path(running.lab), runs or Path(running.runs)


def _refuse(schedule: Any, config: LabConfig, core: str) -> None:
    from labctl.up.acquire import refuse

    refuse(schedule, config, core)


def _taker(
    stack: ExitStack, config: LabConfig, lab: Path, runs: Path, virtual: bool, seed: int | None, core: str
) -> Acquisition | VirtualLab:
    from labctl.up.acquire import Acquisition, VirtualLab

    if virtual:
        return stack.enter_context(VirtualLab(config, lab, seed, runs, core))
    return Acquisition(stack.enter_context(places.connect(5.0)), config, lab, runs, core)


def _end_on_signal(stack: ExitStack, taker: Acquisition | VirtualLab, progress: Any) -> list[int]:
    """The first Ctrl-C (or SIGTERM) ends the run in good order, a second one at once; filled when one came."""
    came: list[int] = []

    def end(number: int) -> None:
        if not came:
            came.append(number)
            taker.stop()
            progress.ending()

    stack.enter_context(on_signals(end, signal.SIGINT, signal.SIGTERM, at_once=bool))
    return came


def _noise_rate(runs: Path) -> float | None:
    """Noise per detector from the newest run that measured it, 1/s."""
    from labctl.run import folder as folders

    for path in reversed([*folders.every(runs)]):
        try:
            value = folders.read_json(path).get("results", {}).get("noise_rate", {}).get("value")
        except DataError:
            continue
        if value is not None:
            return float(value)
    return None


def _print_outcome(outcome: Outcome, as_json: bool) -> None:
    figures = {
        r.key: {"label": r.label, "value": r.value.value, "standard_error": r.value.standard_error, "unit": r.value.unit}
        for r in outcome.results
    }  # fmt: skip
    if as_json:
        show_text.print_json(
            {
                "rid": outcome.rid,
                "folder": str(outcome.folder),
                "reason": outcome.reason,
                "error": outcome.error,
                "records": outcome.records,
                "results": figures,
            }
        )
        return
    if outcome.results:
        rows = [(result.label, str(result.value)) for result in outcome.results]
        click.echo(show_text.table(("figure", "value ± standard error"), rows))
    if outcome.tags:
        click.echo(outcome.tags)
    click.echo(str(outcome.folder))


@click.command("runs")
@runs_option
@json_option
def runs_command(runs: Path | None, as_json: bool) -> None:
    """List the runs taken so far, oldest first.

    A run whose process was killed is "cut short", with the records that are safe in its journal; `labctl show RID
    --publish` publishes them, `labctl run --resume RID` goes on.
    """
    from labctl.run import folder as folders

    folder = places.runs_folder(runs)
    found = [_summary(path) for path in folders.every(folder)]
    if as_json:
        show_text.print_json(found)
        return
    if not found:
        click.echo(f"no runs in {folder}; take one with `labctl run SEQUENCE`")
        return
    keys = ("rid", "sequence", "began", "state", "records", "rounds", "label")
    rows = [[str(one.get(key, "")) for key in keys] for one in found]
    click.echo(show_text.table(keys, rows, right=(0, 4, 5)))


def _summary(path: Path) -> dict[str, Any]:
    """One run in a line; a run folder that cannot be read is listed with the reason."""
    from labctl.run import folder as folders

    try:
        about = folders.read_json(path)
        state, records = _state(path, about)
    except LabError as error:
        return {"rid": int(path.name[:6]), "sequence": path.name[7:], "state": f"unreadable: {error}"}
    began = str(about.get("began", ""))[:19].replace("T", " ")
    return {
        "rid": about["rid"],
        "sequence": about["sequence"],
        "began": began,
        "state": state,
        "records": records,
        "rounds": about["rounds"],
        "label": about.get("label", ""),
        "folder": str(path),
    }


def _state(path: Path, about: dict[str, Any]) -> tuple[str, int]:
    """How a run ended and how many records it has, from its journal where run.json does not know yet."""
    from labctl.run import journal

    if about.get("reason") == "complete":
        return "complete", int(about.get("records", 0))
    busy = journal.in_use(path / "journal")
    content = journal.read(path / "journal", journal.forget)
    if content.end is not None and not busy:
        return str(content.end.get("reason", "")), content.count
    return ("running" if busy else CUT_SHORT), content.count


@click.command("show")
@click.argument("rid", type=int)
@runs_option
@json_option
@click.option(
    "--provenance", is_flag=True, help="Also what made it: software, git commit, devices, configuration."
)
@click.option("--publish", "again", is_flag=True, help="Write data.nc, report.html and run.json again from the journal, also for a run cut short.")  # fmt: skip
def show_command(rid: int, runs: Path | None, as_json: bool, provenance: bool, again: bool) -> None:
    """Show run RID: how it ended, its figures and its files."""
    from labctl.run import folder as folders

    path = folders.find(places.runs_folder(runs), rid)
    about = folders.read_json(path)
    state, records = _state(path, about)
    if again:
        if state == "running":
            raise RunError(f"run {rid} is still being taken; publish it when it has ended")
        from labctl.run.publish import publish

        about["reason"] = state
        publish(path, about)
        about = folders.read_json(path)
    if as_json:
        show_text.print_json({**about, "state": state, "records": records, "folder": str(path)})
        return
    _print_run(path, about, state, records)
    if provenance:
        _print_provenance(about)


def _print_run(path: Path, about: dict[str, Any], state: str, records: int) -> None:
    arguments = ", ".join(f"{key}={value}" for key, value in about.get("arguments", {}).items())
    rows = [
        ("run", f"{about['rid']}  {about['sequence']}({arguments})"),
        ("label", about.get("label", "")),
        ("state", f"{state}, {records} of {about['rounds']} records"),
        ("error", about.get("error", "")),
        ("began", about.get("began", "")),
        ("ended", about.get("ended", "")),
        ("seed", "" if about.get("seed") is None else str(about["seed"])),
        ("schedule", f"sha256 {about.get('schedule_sha256', '')[:16]}"),
    ]
    for name, text in rows:
        if text:
            click.echo(f"{name:<9} {text}")
    figures: dict[str, dict[str, Any]] = about.get("results", {})
    if figures:
        click.echo("\n" + show_text.table(("figure", "value ± standard error"), [(one["label"], _estimate(one)) for one in figures.values()]))  # fmt: skip
    if about.get("comparison"):
        click.echo("\n" + comparison_table(about["comparison"]))
    files = sorted(file.name for file in path.iterdir())
    click.echo(f"\n{path}\n  {'  '.join(files)}")
    if "data.nc" not in files:
        click.echo(f"not published yet: `labctl show {about['rid']} --publish`")


def _estimate(figure: dict[str, Any]) -> str:
    from labctl.analysis.value import Estimate

    error = figure["standard_error"]
    return str(Estimate(figure["value"], float("inf") if error is None else error, figure["unit"]))


def comparison_table(rows: list[dict[str, Any]]) -> str:
    """This run beside the published figures."""
    cells = [(str(r["label"]), str(r["this"]), str(r["published"]), str(r["distance"])) for r in rows]
    return show_text.table(("quantity", "this run", "published", "distance in σ"), cells, right=(3,))


def _print_provenance(about: dict[str, Any]) -> None:
    made: dict[str, Any] = about.get("provenance", {})
    git: dict[str, str] = made.get("git", {})
    changed = "with uncommitted changes" if git.get("diff") else "clean"
    click.echo(f"\npython    {made.get('python')} on {made.get('platform')}")
    click.echo(
        f"git       {git.get('commit') or 'no commit'}, {changed if git.get('commit') else 'not a git folder'}"
    )
    for package, version in made.get("packages", {}).items():
        click.echo(f"  {package:<12} {version}")
    before: dict[str, Any] = about.get("devices_before", {})
    after: dict[str, Any] = about.get("devices_after", {})
    names = sorted({*before, *after})
    if names:
        rows = [(name, str(before.get(name, "")), str(after.get(name, ""))) for name in names]
        click.echo("\n" + show_text.table(("device (SI units)", "before", "after"), rows))
    click.echo("\nconfiguration")
    show_text.print_json(about.get("config", {}))
    if git.get("diff"):
        click.echo(f"\nuncommitted changes\n{git['diff']}")
