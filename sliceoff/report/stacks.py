"""The stacks in a simulation's table; the first is the main one, which the others are compared with."""

import polars


def by_stack(table: polars.DataFrame) -> dict[str, polars.DataFrame]:
    """Every stack's rows by its name, in the table's order."""
    return {str(name): rows for (name,), rows in table.group_by("stack", maintain_order=True)}


def main_stack(table: polars.DataFrame) -> str:
    """The first stack's name."""
    return str(table["stack"][0])


def of_main(table: polars.DataFrame) -> polars.DataFrame:
    """The first stack's rows."""
    return table.filter(polars.col("stack") == main_stack(table))
