"""What a person sees while a study runs: a picture that redraws itself, or a line per event where none can be drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from hpo_service.domain.decide.measure import measure_of
from hpo_service.domain.trial.endings import LABELS, STYLES
from hpo_service.domain.trial.states import StudyState, TrialState
from hpo_service.presentation.events import events, trial_name
from hpo_service.presentation.formatting import configuration, duration, measured
from hpo_service.presentation.outlook import outlook, planned_stages
from hpo_service.service.studies.snapshot import StageView, StudySnapshot, TrialView
from hpo_service.service.workers import Activity

EVENTS = 4
"""Events shown under the picture."""
MOST_RUNNING = 8
"""Running trials shown one by one."""
_FIXED_LINES = 16
_NARROW = 100
_ONLY_IF_ANY = (TrialState.INFEASIBLE, TrialState.CANCELLED)


class LiveView:
    """Shows a study's progress on a console, for as long as it is entered.

    On a terminal one picture is redrawn at every update. Elsewhere (CI, a file) each event is a line. With
    `quiet` nothing is written at all. Time is read from the snapshots.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console, self._quiet = console, quiet
        self._live: Live | None = None
        self._snapshot: StudySnapshot | None = None
        self._began: float | None = None
        self._events: deque[str] = deque(maxlen=EVENTS)
        self._activities: Mapping[str, Activity] = {}

    def __enter__(self) -> LiveView:
        if not self._quiet and self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="ellipsis")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def update(self, snapshot: StudySnapshot, note: str = "") -> None:
        """Show the study as it is now; `note` is one more event."""
        self._began = snapshot.now if self._began is None else self._began
        happened = [*([note] if note else []), *self._happened(snapshot)]
        self._snapshot = snapshot
        for line in happened:
            self._say(line)
        self._redraw()

    def working(self, activities: Mapping[str, Activity]) -> None:
        """Know what workers say that they do; drawn with the next look at the study."""
        self._activities = activities

    def note(self, line: str) -> None:
        """Add an event that is not in the study itself, such as a worker that was started again."""
        self._say(line)
        self._redraw()

    def log(self, line: str) -> None:
        """Print a line of a worker's log, above the picture where there is one."""
        self._console.print(Text(line, style="dim"), soft_wrap=True)

    def _happened(self, snapshot: StudySnapshot) -> list[str]:
        drawn = self._live is not None
        return [event.text for event in events(self._snapshot, snapshot) if not (drawn and event.minor)]

    def _say(self, line: str) -> None:
        self._events.append(line)
        if self._live is None and not self._quiet:
            self._console.print(Text(f"{self._elapsed:>9}  {line}"), soft_wrap=True)

    @property
    def _elapsed(self) -> str:
        if self._snapshot is None or self._began is None:
            return duration(0)
        return duration(self._snapshot.now - self._began)

    def _redraw(self) -> None:
        if self._live is not None and self._snapshot is not None:
            room, width = self._console.height - _FIXED_LINES, self._console.width
            lines, so_far = list(self._events), self._elapsed
            picture = draw(self._snapshot, lines, self._activities, elapsed=so_far, rows=room, width=width)
            self._live.update(picture, refresh=True)


def draw(
    snapshot: StudySnapshot,
    lines: list[str],
    activities: Mapping[str, Activity] | None = None,
    *,
    elapsed: str = "",
    rows: int = MOST_RUNNING,
    width: int = _NARROW,
) -> RenderableType:
    """Draw a study: its stages, the best so far, what runs, the time left and the last events.

    `activities` are what workers do, by their ids: shown of trials that have not got anywhere yet.
    """
    bar = 18 if width >= _NARROW else 10
    page = Table.grid(Column(no_wrap=False), padding=0, expand=True)
    page.add_row(_title(snapshot))
    page.add_row(_stages(snapshot, bar))
    page.add_row(_best(snapshot))
    measure = measure_of(snapshot.spec)
    running = [t for t in snapshot.current.trials if t.state is TrialState.RUNNING]
    if running and not snapshot.state.final:
        reported = "loss " if measure.metric else ""
        page.add_row(_running(running, activities or {}, max(1, min(MOST_RUNNING, rows)), bar, reported))
    so_far = f"  ({elapsed} so far)" if elapsed and not snapshot.state.final else ""
    page.add_row(_indented(Text(f"{outlook(snapshot)}{so_far}", style="bold"), mark=" "))
    for line in lines:
        page.add_row(_indented(Text(line, style="dim"), mark="·"))
    return page


def _title(snapshot: StudySnapshot) -> Text:
    text = Text()
    text.append(snapshot.name, style="bold")
    text.append("   ")
    for place, stage in enumerate(planned_stages(snapshot.spec)):
        view = snapshot.stage(stage)
        current = view is snapshot.current and not snapshot.state.final
        text.append(" ▸ " if place else "", style="dim")
        style = "bold reverse cyan" if current else "green" if view is not None and not view.open else "dim"
        text.append(f" {stage} " if current else str(stage), style=style)
    if snapshot.state is not StudyState.ACTIVE:
        text.append(f"   {snapshot.state}", style="bold red" if snapshot.state is StudyState.FAILED else "bold")
    return text


def _stages(snapshot: StudySnapshot, bar: int) -> Table:
    states = [s for s in STYLES if s not in _ONLY_IF_ANY or any(view.count(s) for view in snapshot.stages)]
    numbers = [Column(justify="right", no_wrap=True) for _ in range(len(states) + 1)]
    grid = Table.grid(Column(no_wrap=True), Column(no_wrap=True), *numbers, padding=(0, 1))
    grid.add_row("", "", "", *(Text(LABELS[state], style="dim") for state in states))
    for stage, planned in planned_stages(snapshot.spec).items():
        view = snapshot.stage(stage)
        total, ended = (view.budget, view.ended) if view else (planned, 0)
        progress = _bar(ended, max(1, total), bar)
        counts = [Text()] * len(states) if view is None else [_count(view, state) for state in states]
        grid.add_row(f"  {stage}", progress, f"{ended}/{total}", *counts)
    return grid


def _bar(completed: float, total: float, width: int) -> ProgressBar:
    # plain colours: those of the library's theme turn grey on terminals with sixteen
    return ProgressBar(total=total, completed=completed, width=width, complete_style="cyan", finished_style="green")


def _count(view: StageView, state: TrialState) -> Text:
    count = view.count(state)
    if state is TrialState.WAITING and view.open:
        count += max(0, view.budget - view.tally.total)
    return Text(str(count), style=STYLES[state] if count else "dim")


def _best(snapshot: StudySnapshot) -> Table:
    direction = snapshot.spec.search.direction
    found = next(((v, b) for v in reversed(snapshot.stages) if (b := v.best(direction)) is not None), None)
    grid = Table.grid(Column(no_wrap=True), Column(ratio=1), padding=(0, 1))
    if found is None:
        grid.add_row(Text("  best so far", style="dim"), Text("nothing has run to the end yet", style="dim"))
        return grid
    view, best = found
    measure = measure_of(snapshot.spec)
    named = f"{measure.name} " if measure.metric else ""
    text = Text(f"{named}{measured(best.value)}", style="bold green")
    text.append(f"  {trial_name(view, best)}  {configuration(best.parameters)}", style="not bold default")
    grid.add_row(Text("  best so far", style="dim"), text)
    return grid


def _running(trials: list[TrialView], activities: Mapping[str, Activity], rows: int, bar: int, reported: str) -> Group:
    grid = Table.grid(
        Column(justify="right", no_wrap=True, width=7),
        Column(no_wrap=True, width=bar),
        Column(justify="right", no_wrap=True, width=4),
        Column(justify="right", no_wrap=True, width=8 + len(reported)),
        Column(no_wrap=True, overflow="ellipsis", ratio=1),
        padding=(0, 1),
        expand=True,
    )
    for trial in trials[:rows]:
        again = f"attempt {trial.attempt}  " if trial.attempt > 1 else ""
        doing = _doing(trial, activities)
        grid.add_row(
            Text(f"#{trial.number}", style="cyan"),
            _bar(trial.progress, 1.0, bar),
            f"{trial.progress:.0%}",
            f"{reported}{measured(trial.reported)}",
            Text.assemble(again, (f"{doing}  ", "yellow") if doing else "", _brief(trial)),
        )
    if len(trials) <= rows:
        return Group(grid)
    return Group(grid, Text(f"  and {len(trials) - rows} more", style="dim"))


def _doing(trial: TrialView, activities: Mapping[str, Activity]) -> str:
    said = activities.get(trial.worker or "")
    # what was said before the trial began is of the one before it, or of waiting for this one
    return said.text if said and not trial.progress and said.at >= (trial.started_at or 0.0) else ""


def _brief(trial: TrialView) -> str:
    first = {k: v for k, v in trial.parameters.items() if k in ("learning_rate", "lora_rank")}
    rest = {k: v for k, v in trial.parameters.items() if k not in first}
    name = f"{trial.label}: " if trial.label else ""
    return f"{name}{configuration({**first, **rest})}"


def _indented(text: Text, mark: str) -> Table:
    grid = Table.grid(Column(no_wrap=True), Column(ratio=1, no_wrap=False), padding=(0, 1))
    grid.add_row(Text(mark, style="dim"), text)
    return grid
