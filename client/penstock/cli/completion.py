"""`penstock completion`: the script that makes a shell complete commands and live names."""

from __future__ import annotations

import click

from penstock.cli.commands import Verb


@click.command(
    "completion",
    cls=Verb,
    outputs=(),
    local=True,
    examples='bash:  eval "$(penstock completion bash)"       in ~/.bashrc\n'
    'zsh:   eval "$(penstock completion zsh)"        in ~/.zshrc\n'
    "fish:  penstock completion fish | source        in config.fish",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    Names of topics and groups are asked of the broker, for 250 ms at most.
    """
    from click.shell_completion import get_completion_class

    root = ctx.find_root().command
    generator = get_completion_class(shell)
    assert generator is not None
    click.echo(generator(root, {}, "penstock", "_PENSTOCK_COMPLETE").source())
