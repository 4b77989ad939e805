"""The `t4dm` command. It imports nothing heavy before a verb needs it, so that `--help` answers at once."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from t4dm.cli_store import store_app
from t4dm.errors import T4DMError

app = typer.Typer(
    name="t4dm",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train language models that remember awake and consolidate asleep.\n\n"
    "Start here: [bold]t4dm train experiment=first_night[/bold]",
    rich_markup_mode="rich",
)
HYDRA = {"allow_extra_args": True, "ignore_unknown_options": True}
SWEEP = "sweep"
configs_app = typer.Typer(
    no_args_is_help=True, help="Look at the configs. Example: t4dm configs ls experiment"
)


class StudyGroup(TyperGroup):
    """`study block`, `rank_search` and `retrieval` are verbs; anything else after `study` is Hydra's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Nothing typed means the sweep table, which says what it lacks."""
        return super().parse_args(ctx, args or [SWEEP])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb, or the sweep table with every word."""
        return super().resolve_command(ctx, args if args[0] in self.commands else [SWEEP, *args])


study_app = typer.Typer(
    cls=StudyGroup,
    context_settings=HYDRA,
    help="Gather the runs of a sweep into one table, mean and spread over seeds; or look into a block; or "
    "search for a LoRA rank; or measure how well a store finds what answers a question.\n\n"
    "Example: t4dm study runs=outputs/train/first_night\n\n"
    "Example: t4dm study block 'Ann lives in Rome.'\n\n"
    "Example: t4dm study rank_search --text book.txt\n\n"
    "Example: t4dm study retrieval",
)
runs_app = typer.Typer(no_args_is_help=True, help="Look at run folders. Example: t4dm runs ls")
app.add_typer(study_app, name="study")
app.add_typer(configs_app, name="configs")
app.add_typer(runs_app, name="runs")
app.add_typer(store_app, name="store")

Roots = Annotated[Path, typer.Option(help="where the run folders are")]
OUTPUTS = Path("outputs")


def _hydra(verb: str, context: typer.Context) -> None:
    sys.argv = [f"t4dm {verb}", *context.args]
    # as __main__, so that whoever relaunches this process relaunches the app and not the bare command
    runpy.run_module(f"t4dm.apps.{verb}", run_name="__main__", alter_sys=True)


@app.command(context_settings=HYDRA)
def train(context: typer.Context) -> None:
    """Train, remember, sleep; then evaluate and write the report.

    Example: t4dm train experiment=first_night seed=2

    Sweep: t4dm train -m experiment=first_night ablation=none,no_memory seed=1,2

    Go on: t4dm train resume=outputs/train/first_night/RUN

    Overrides are Hydra's: key=value, group=choice. All of them: t4dm train --cfg job
    """
    _hydra("train", context)


@app.command(context_settings=HYDRA)
def evaluate(context: typer.Context) -> None:
    """Measure recall of a finished run again, on new episodes or longer distances.

    Example: t4dm evaluate run=outputs/train/first_night/RUN
    """
    _hydra("evaluate", context)


@app.command(context_settings=HYDRA)
def generate(context: typer.Context) -> None:
    """Continue a prompt with a trained model and its memories.

    Example: t4dm generate run=outputs/train/first_night/RUN prompt='Where does Ann live?'
    """
    _hydra("generate", context)


@app.command()
def chat(
    run: Annotated[Path, typer.Argument(help="a run folder with a checkpoint")],
    session: Annotated[str, typer.Option(help="whose memories")] = "chat",
    store: Annotated[
        str, typer.Option(help="copy (of the checkpoint's), run (the run's own), or a store's folder")
    ] = "copy",
    write: Annotated[bool, typer.Option(help="offer what is read to the write gate")] = True,
    said: Annotated[bool, typer.Option(help="offer the model's own words too")] = False,
    context: Annotated[
        int | None,
        typer.Option(help="tokens of earlier turns shown again; 0 where left out and no chat template"),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="of an answer")] = 64,
    stop: Annotated[
        list[str] | None, typer.Option(help="a text that ends an answer; its first sentence where left out")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token")] = 0.0,
    top_p: Annotated[float, typer.Option(help="only the fewest tokens that reach this probability")] = 1.0,
    min_p: Annotated[float, typer.Option(help="only tokens this often as probable as the first")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="above 1 shuns what was said")] = 1.0,
    seed: Annotated[int, typer.Option(help="of the answers")] = 1234,
    out: Annotated[Path | None, typer.Option(help="a new folder; a dated one where left out")] = None,
) -> None:
    """Talk to a trained model; each turn shows what it recalled and what it wrote down. Reads a pipe too.

    Example: t4dm chat outputs/train/first_night/RUN

    Go on: t4dm chat outputs/train/first_night/RUN --store outputs/chat/CHAT_RUN/store
    """
    from t4dm.apps import chat as chatting
    from t4dm.model.sampling import Sampler

    sampler = Sampler(
        temperature=temperature, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    folder = chatting.chat(
        run,
        session=session,
        store=store,
        write=write,
        said=said,
        context=context,
        max_new_tokens=max_new_tokens,
        stop=stop or (),
        sampler=sampler,
        seed=seed,
        out=out,
    )
    typer.echo(f"chat: {folder}")


@app.command()
def trace(
    run: Annotated[Path, typer.Argument(help="a run folder with a checkpoint")],
    text: Annotated[str, typer.Argument(help="what is read, in quotes")],
    session: Annotated[str | None, typer.Option(help="whose memories; the newest where left out")] = None,
    position: Annotated[
        int | None, typer.Option(help="the token, from 0, to look at; the last where left out")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="of the answer")] = 8,
    budget: Annotated[float, typer.Option(help="the most that is recorded, MiB")] = 256.0,
    out: Annotated[Path | None, typer.Option(help="a new folder; a dated one where left out")] = None,
) -> None:
    """Show one text from token to output: every layer's stream, LoRAs, logit lens, blocks, recalls and what
    the heads read, in a file and on one page.

    Example: t4dm trace outputs/train/first_night/RUN 'What is the color of Anna?'
    """
    from t4dm.apps import trace as tracing

    typer.echo(
        tracing.trace_run(
            run,
            text,
            session=session,
            position=position,
            max_new_tokens=max_new_tokens,
            budget_mib=budget,
            out=out,
        )
    )


@app.command(context_settings=HYDRA)
def sleep(context: typer.Context) -> None:
    """Put a run's store to sleep once: replay, cluster, prune, compact.

    Example: t4dm sleep run=outputs/train/first_night/RUN
    """
    _hydra("sleep", context)


@study_app.command(SWEEP, context_settings=HYDRA, hidden=True)
def study(context: typer.Context) -> None:
    """Gather the runs of a sweep into one table, mean and spread over seeds.

    Example: t4dm study runs=outputs/train/first_night
    """
    _hydra("study", context)


@study_app.command("block")
def study_block(
    text: Annotated[str, typer.Argument(help="what is read, in quotes")],
    run: Annotated[
        Path | None, typer.Option(help="a run folder whose model reads it; the shipped one where left out")
    ] = None,
    blocks: Annotated[str, typer.Option(help="which blocks, such as 0,3; all where left out")] = "",
    seed: Annotated[int | None, typer.Option(help="of the fresh stack; 1234 where left out")] = None,
    out: Annotated[Path | None, typer.Option(help="a new folder; a dated one where left out")] = None,
) -> None:
    """Show what happens inside each cortical block while a text is read: spikes, membranes, gates, attention,
    rates, prediction error and goodness, on one page.

    Example: t4dm study block 'Ann lives in Rome.'

    Example: t4dm study block 'Ann lives in Rome.' --run outputs/train/first_night/RUN --blocks 0
    """
    from t4dm.apps import study_block as studying

    typer.echo(studying.study_block(text, run=run, blocks=blocks, seed=seed, out=out))


@study_app.command("retrieval")
def study_retrieval(
    data: Annotated[
        Path | None,
        typer.Option(help="LoCoMo's folder; locomo in $T4DM_DATA or ../shared/data where left out"),
    ] = None,
    split: Annotated[str, typer.Option(help="which conversations: dev or heldout")] = "dev",
    weights: Annotated[
        Path | None, typer.Option(help="weights.json of an earlier study; chosen anew where left out")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="file of vectors; one among the outputs where left out")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="a new folder; a dated one where left out")] = None,
) -> None:
    """Store LoCoMo's conversations, and measure how well text, vectors and edges find the turns that answer
    its questions: recall, nDCG, by category, with intervals; weights from the other conversations.

    Example: t4dm study retrieval

    Example: t4dm study retrieval --split heldout --weights outputs/study/retrieval/RUN/weights.json
    """
    from t4dm.apps import study_retrieval as studying

    studying.show(studying.study_retrieval(data=data, split=split, weights=weights, cache=cache, out=out))


@study_app.command("rank_search")
def study_rank_search(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="of every training, such as model=qwen25_05b")
    ] = None,
    text: Annotated[
        list[Path] | None, typer.Option(help="a text whose held-out part gives the perplexity")
    ] = None,
    ranks: Annotated[str, typer.Option(help="comma-separated")] = "8,16,32,64",
    targets: Annotated[str, typer.Option(help="sets of layers: qv, attention, all")] = "qv,attention,all",
    seeds: Annotated[str, typer.Option(help="comma-separated; several give intervals")] = "1234",
    out: Annotated[
        Path | None,
        typer.Option(help="a folder, also of a search that was stopped; a dated one where left out"),
    ] = None,
) -> None:
    """Train one model for each LoRA rank and set of layers, each in a process of its own: perplexity, recall,
    memory and time as a table, a picture, and a recommendation. Start it again with --out to go on.

    Example: t4dm study rank_search --text book.txt

    Example: t4dm study rank_search --text book.txt --ranks 8,64 --targets qv --seeds 1,2,3
    """
    from t4dm.apps import study_rank_search as studying

    page = studying.study_rank_search(
        text=text or [], ranks=ranks, targets=targets, seeds=seeds, overrides=overrides or [], out=out
    )
    typer.echo(page)


@configs_app.command("ls")
def configs_ls(group: Annotated[str, typer.Argument(help="a group; all where left out")] = "") -> None:
    """List the configs, each with its first line.

    Example: t4dm configs ls experiment
    """
    from t4dm.apps import config_verbs

    typer.echo(config_verbs.listing(group))


@configs_app.command("show")
def configs_show(
    name: Annotated[str, typer.Argument(help="a file, as in `configs ls`, or an app")],
    overrides: Annotated[list[str] | None, typer.Argument(help="overrides, for an app")] = None,
) -> None:
    """Print one config file; with overrides, the composed config of an app.

    Example: t4dm configs show experiment/first_night

    Example: t4dm configs show train experiment=first_night seed=2
    """
    from t4dm.apps import config_verbs

    typer.echo(config_verbs.shown(name, overrides or []))


@configs_app.command("check")
def configs_check(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="overrides; every experiment where none")
    ] = None,
    app_name: Annotated[str, typer.Option("--app", help="the app whose config it is")] = "train",
) -> None:
    """Bind every class of a config to its arguments; tell all errors at once.

    Example: t4dm configs check experiment=first_night trainer.max_epochs=3
    """
    from t4dm.apps import config_verbs

    typer.echo(config_verbs.checked(app_name, overrides))


@configs_app.command("copy")
def configs_copy(folder: Annotated[Path, typer.Argument(help="a new folder")]) -> None:
    """Copy all configs to a folder of yours; use them with --config-dir.

    Example: t4dm configs copy mine && t4dm train --config-dir mine experiment=my_own
    """
    from t4dm.apps import config_verbs

    typer.echo(config_verbs.copied(folder))


@runs_app.command("ls")
def runs_ls(root: Roots = OUTPUTS) -> None:
    """List all runs: folder, status, seed, nights, recall by arm, time.

    Example: t4dm runs ls --root outputs/train
    """
    from t4dm.apps import run_verbs

    run_verbs.ls(root)


@runs_app.command("show")
def runs_show(run: Annotated[Path, typer.Argument(help="a run folder")]) -> None:
    """Print what a run was and its closing table.

    Example: t4dm runs show outputs/train/first_night/RUN
    """
    from t4dm.apps import run_verbs

    run_verbs.show(run)


@runs_app.command("diff")
def runs_diff(
    one: Annotated[Path, typer.Argument(help="a run folder")],
    other: Annotated[Path, typer.Argument(help="another")],
) -> None:
    """Print where two runs differ: configs, versions, results.

    Example: t4dm runs diff outputs/train/first_night/RUN1 outputs/train/first_night/RUN2
    """
    from t4dm.apps import run_verbs

    run_verbs.diff(one, other)


@runs_app.command("report")
def runs_report(run: Annotated[Path, typer.Argument(help="a run folder")]) -> None:
    """Write report.html of a run again and print its path.

    Example: t4dm runs report outputs/train/first_night/RUN
    """
    from t4dm.apps import run_verbs

    typer.echo(run_verbs.report(run))


RunFolder = Annotated[Path, typer.Argument(help="a run folder", metavar="RUN")]
NewFolder = Annotated[Path, typer.Argument(help="a new folder", metavar="OUT")]


@app.command()
def export(run: RunFolder, out: NewFolder) -> None:
    """Write what a run learnt to a folder that can be shared: LoRA, stack, config, model card.

    Memories stay with the run; the language model is named, not copied.

    Example: t4dm export outputs/train/first_night/RUN my_model
    """
    from t4dm.apps import handing_on

    typer.echo(handing_on.export(run, out))


@app.command()
def merge(run: RunFolder, out: NewFolder) -> None:
    """Write a run's language model with its LoRA merged into plain weights, and say how far the logits moved.

    The weights are those it was trained on: 4-bit ones are dequantised first.

    Example: t4dm merge outputs/train/first_night/RUN my_language_model
    """
    from t4dm.apps import handing_on

    typer.echo("\n".join(handing_on.merged(run, out).lines()))


@app.command()
def doctor() -> None:
    """Print versions, devices, free memory and disk, and which experiments fit this machine.

    Example: t4dm doctor
    """
    from t4dm.apps import doctor as diagnosis

    diagnosis.run()


def main() -> None:
    """The console script: a user's mistake costs one line and exit code 1."""
    try:
        app()
    except T4DMError as error:
        sys.stderr.write(f"t4dm: {error}\n")
        raise SystemExit(getattr(error, "exit_code", 1)) from None
    except BrokenPipeError:  # `t4dm runs ls | head`
        sys.stderr.close()
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
