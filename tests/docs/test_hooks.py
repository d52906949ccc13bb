"""Generated pages have every command, option and public name; a site that needs the network is refused."""

import segbalance
from scripts.docs import hooks
from segbalance.runtime.command_line import CommandParser
from segbalance.runtime.verbs import VERBS
from segbalance.train.config import TrainConfig


def test_a_page_for_every_command_and_a_line_for_each_option():
    before = CommandParser.format_help
    pages = hooks.pages()
    assert CommandParser.format_help is before, "commands show their help again"
    assert {f"reference/commands/{verb}.md" for verb in VERBS} <= set(pages)
    for verb in VERBS:
        assert f"]({verb}.md)" in pages[hooks.COMMANDS]
        assert f"\n# {verb}\n" in "\n" + pages[f"reference/commands/{verb}.md"]
    train = pages["reference/commands/train.md"]
    options = [name for name in TrainConfig().options() if name != "filled_in"]
    assert (
        len(options) > 40
        and [name for name in options if f"\n`--{name}`{{ #train--{name} }}" not in train] == []
    )
    assert "`--batch_size`{ #train--batch_size } default `32`\n:   Images a step" in train
    assert "SUPPRESS" not in train and "--print_shtab" not in train


def test_every_public_name_is_taken_from_its_docstring():
    text = hooks.names_page()
    for name, module in segbalance.PUBLIC.items():
        assert f'<span id="{name}"></span>\n\n::: segbalance.{module}.{name}\n' in text


def test_text_is_no_markup():
    assert hooks.plain("a_b <c> \\d+ | `x_y` with --some_option") == (
        "a&#95;b &#60;c&#62; &#92;d+ &#124; `x_y` with `--some_option`"
    )
    assert hooks.plain("over\n  two lines") == "over two lines"


def test_what_a_site_would_load_from_elsewhere_is_found(tmp_path):
    (tmp_path / "index.html").write_text(
        '<a href="https://example.org">a link</a><link rel="canonical" href="https://example.org/">'
        '<link rel="stylesheet" href="own.css"><script src="https://cdn.example.org/x.js"></script>'
    )
    (tmp_path / "own.css").write_text(
        "@font-face{src:url(//fonts.example.org/f.woff)} b{background:url(a.png)}"
    )
    assert hooks.foreign_loads(tmp_path) == [
        "index.html: https://cdn.example.org/x.js",
        "own.css: //fonts.example.org/f.woff",
    ]
