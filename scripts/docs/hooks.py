"""The pages that MkDocs makes from the code: one for each command with its options, one of Python names.

They are made anew whenever the site is built, from the commands' own parsers and the names that the package
offers, so they cannot fall behind.
"""

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import segbalance  # noqa: E402
from segbalance.runtime.command_line import CommandParser  # noqa: E402
from segbalance.runtime.verbs import VERBS, typed  # noqa: E402

COMMANDS, NAMES = "reference/commands/index.md", "reference/python.md"
ENTITIES = str.maketrans({character: f"&#{ord(character)};" for character in "\\*_<>[]#|{}"})
FOREIGN = re.compile(
    r"""<(?:script|link|img|iframe|source)\b(?![^>]*\brel="?(?:next|prev|canonical))[^>]*\b(?:src|href)="?((?:https?:)?//[^\s">]+)"""
    r"""|(?:url\(|@import\s)\s*["']?((?:https?:)?//[^\s"')]+)"""
)


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages (an event of MkDocs)."""
    from mkdocs.structure.files import File

    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_post_build(config: Any) -> None:
    """Refuses a site that would load something from the network (an event of MkDocs)."""
    from mkdocs.exceptions import PluginError

    if found := foreign_loads(Path(config["site_dir"])):
        raise PluginError("the site must be readable without a network, but it loads:\n" + "\n".join(found))


def foreign_loads(site: Path) -> list[str]:
    """`page: address` of every script, style, font, picture or frame that a site takes from elsewhere."""
    files = [path for path in sorted(site.rglob("*")) if path.suffix in (".html", ".css")]
    return [
        f"{path.relative_to(site)}: {found[1] or found[2]}"
        for path in files
        for found in FOREIGN.finditer(path.read_text(encoding="utf-8"))
    ]


def pages() -> dict[str, str]:
    """{place in docs/: Markdown} of every generated page."""
    each = {f"reference/commands/{verb}.md": command_page(verb) for verb in VERBS}
    return {COMMANDS: commands_page(), NAMES: names_page()} | each


def commands_page() -> str:
    """The list of all commands."""
    lines = [
        "# Commands",
        "",
        "In a clone, run the file. After `pip install`, run `segbalance` and the verb. Options are the same.",
        "",
        "| in a clone | installed | what it does |",
        "|---|---|---|",
    ]
    for verb, (purpose, file) in VERBS.items():
        clone = f"`python {file}`" if file else "&ndash;"
        lines.append(f"| {clone} | [`segbalance {verb}`]({verb}.md) | {plain(purpose)} |")
    return "\n".join(lines) + "\n"


class _Caught(Exception):
    """Carries a parser out of the command that was about to print its help."""


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The parser that the command itself uses."""
    module = importlib.import_module(f"segbalance.commands.{verb.replace('-', '_')}")
    caught: list[argparse.ArgumentParser] = []

    def catch(parser: argparse.ArgumentParser, *_: Any) -> str:
        caught.append(parser)
        raise SystemExit(0)

    shown, CommandParser.format_help = CommandParser.format_help, catch  # type: ignore[method-assign]
    try:
        module.main(["--help", "all"])
    finally:
        CommandParser.format_help = shown  # type: ignore[method-assign]
    return caught[0]


def command_page(verb: str) -> str:
    """One command: what it does, and each of its options by group."""
    parser = parser_of(verb)
    lines = [
        f"# {verb}",
        "",
        f"```text\n{typed(verb)} [options]\n```",
        "",
        *described(parser.description or ""),
    ]
    for group in parser._action_groups:
        actions = list(filter(is_shown, group._group_actions))
        if actions:
            title = "Options" if group.title in ("options", "optional arguments") else str(group.title)
            lines += [
                f"## {plain(title)}",
                "",
                *(line for action in actions for line in option(verb, action)),
            ]
    return "\n".join(lines) + "\n"


def is_shown(action: argparse.Action) -> bool:
    """Whether an option is one for people, and not --help itself."""
    return argparse.SUPPRESS not in (action.help or "") and action.option_strings[-1:] != ["--help"]


def described(text: str) -> Iterator[str]:
    """A command's description as Markdown; indented and `python ...` lines are commands."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        code = all(re.match(r" |python |segbalance ", line) for line in paragraph.splitlines())
        yield f"```text\n{inspect.cleandoc(paragraph)}\n```" if code else plain(paragraph)
        yield ""


def option(verb: str, action: argparse.Action) -> Iterator[str]:
    """An option as an entry of a definition list, with an anchor of its own."""
    name = action.option_strings[-1]
    yield f"`{name}`{{ #{verb}{name} }} {'*required*' if action.required else default(action)}"
    yield f":   {plain(action.help or '')}{choices(action)}"
    yield ""


def default(action: argparse.Action) -> str:
    """What counts where the option is left out."""
    value = action.default
    if value is None or value == [] or value is argparse.SUPPRESS:
        return ""
    shown = str(value).lower() if isinstance(value, bool) else " ".join(map(str, value)) \
        if isinstance(value, list) else str(value) or '""'  # fmt: skip
    return f"default `{shown}`"


def choices(action: argparse.Action) -> str:
    """The values that an option takes, where they can be counted."""
    values = action.choices or getattr(getattr(action, "_typehint", None), "__args__", ())
    words = [value for value in values if isinstance(value, str | int)]
    return f" One of {', '.join(f'`{word}`' for word in words)}." if len(words) > 1 else ""


def plain(text: str) -> str:
    """Text of ours as Markdown in one line: options and `code` are code, nothing else is markup."""
    parts = re.split(r"(`[^`]+`|(?<!\S)--[a-z_]+)", " ".join(text.split()))
    code, words = parts[1::2], parts[::2]
    shown = [f"`{part.strip('`')}`" for part in code]
    return "".join(word.translate(ENTITIES) + part for word, part in zip(words, [*shown, ""], strict=True))


def names_page() -> str:
    """Every public name of the package, from its docstring."""
    lines = [
        "# Python",
        "",
        "`import segbalance` is quick: each name loads what it needs when you first use it.",
        "",
    ]
    for name in segbalance.__all__:
        lines += [f'<span id="{name}"></span>', "", f"::: segbalance.{segbalance.PUBLIC[name]}.{name}", ""]
    return "\n".join(lines) + "\n"
