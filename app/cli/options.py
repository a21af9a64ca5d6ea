"""What the commands share: an option, and an exit code."""

import click

# Done, but some images failed, or nothing was found.
INCOMPLETE = 3

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
