"""Makes the tables of docs/settings.md and docs/commands.md from the code; ``tests/test_docs.py`` holds them current.

Run it after changing a setting or a command: ``python docs/tables.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer.main
from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ninefold.cli import COMMANDS, app
from ninefold.settings import Settings

HERE = Path(__file__).parent
_HOME, _USECASES = Path("/<home>"), Path("/<usecases>")


class _Defaults(Settings):
    """The settings where nobody has set anything."""

    model_config = SettingsConfigDict(toml_file=None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, and nothing else."""
        return (init_settings,)


def settings_rows() -> list[tuple[str, str, str]]:
    """Every setting: its name in the environment, its default, and what it means."""
    return list(_settings(_Defaults(home=_HOME, usecases=_USECASES), "NINEFOLD_"))


def _settings(group: BaseModel, prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in type(group).model_fields.items():
        value = getattr(group, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, f"{prefix}{name.upper()}__")
            continue
        meaning = field.description or ""
        if choices := [choice for choice in get_args(field.annotation) if isinstance(choice, str)]:
            meaning = f"{meaning} One of {', '.join(f'`{choice}`' for choice in choices)}."
        yield prefix + name.upper(), _default(value), meaning


def _default(value: Any) -> str:
    if value is None or isinstance(value, SecretStr):
        return "none"
    if value == _HOME:
        return "`.ninefold`"
    if value == _USECASES:
        return "`usecases`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`".replace(f"{_HOME}", "<home>")


def settings_table() -> str:
    """The settings as a Markdown table."""
    lines = ["| environment | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in settings_rows()]
    return "\n".join(lines)


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that can be run, subcommands included: its words and its Click command."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("ninefold", [], resilient_parsing=True)
    for name in COMMANDS:
        _, command, _ = group.resolve_command(context, [name])
        subcommands = getattr(command, "commands", None)
        if subcommands is None:
            yield f"ninefold {name}", command
        else:
            yield from ((f"ninefold {name} {word}", subcommand) for word, subcommand in subcommands.items())


def command_pages() -> str:
    """The commands as Markdown: what each does, its arguments and its options."""
    return "\n\n".join(_page(words, command) for words, command in commands())


def _page(words: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
    usage = " ".join([words, *(_argument(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
    text = re.sub(r"\s+", " ", command.help or "")
    page = f"### {words}\n\n{text}\n\n`{usage}`"
    if command.params:
        rows = [(f"`{_argument(p)}`", p) for p in arguments] + [(_option(p), p) for p in options]
        page += "\n\n| | default | |\n|---|---|---|\n"
        page += "\n".join(f"| {name} | {_value(p)} | {p.help} |" for name, p in rows)
    return page


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper().replace("...", "")
    name += "..." if parameter.nargs == -1 else ""
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any) -> str:
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.opts[0].rpartition('-')[2].upper()}"
    repeated = ", repeatable" if parameter.multiple and "repeatable" not in parameter.help else ""
    return f"`{parameter.opts[0]}{value}`{repeated}"


def _value(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.param_type_name == "argument" or parameter.is_flag or parameter.default in (None, "", ()):
        return ""
    return f"`{parameter.default}`"


PAGES = {"settings.md": settings_table, "commands.md": command_pages}
"""Page → what stands between its markers."""

_MARKED = re.compile(r"(<!-- made by docs/tables.py -->\n).*(\n<!-- end -->)", re.DOTALL)


def filled(name: str) -> str:
    """A page's text with its table as the code has it now."""
    table = PAGES[name]()
    return _MARKED.sub(lambda found: found[1] + table + found[2], (HERE / name).read_text())


if __name__ == "__main__":
    for page in PAGES:
        (HERE / page).write_text(filled(page))
