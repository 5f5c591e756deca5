"""One self-contained HTML page: no script, no link to anything outside the file."""

import html
import io
import warnings
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

Section = tuple[str, str, Figure | None]
"""Heading, explanation and figure."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin: 2.2rem 0 .4rem; font-size: 1.15rem; } p { max-width: 46rem; }
.about { color: #666; margin-top: .2rem; } .headline { font-size: 1.25rem; margin: 1.2rem 0; }
table { border-collapse: collapse; font-size: .92rem; } td, th { padding: .25rem .7rem .25rem 0; text-align: right; }
td:first-child, th:first-child { text-align: left; } th { border-bottom: 1px solid #999; font-weight: 600; }
.headline + table tr.main td { font-weight: 600; }
.details { color: #555; font-size: .85rem; margin-top: 1.2rem; }
svg { max-width: 100%; height: auto; } td { white-space: nowrap; }
"""


def figures_of(sections: Sequence[Section]) -> dict[str, Figure | None]:
    """The sections' figures by heading, for loggers that store figures."""
    return {heading: figure for heading, _, figure in sections}


def page(
    title: str,
    about: str,
    headline: str,
    rows: Sequence[Mapping[str, object]],
    sections: Sequence[Section],
    details: Sequence[Mapping[str, object]] = (),
) -> str:
    """A report as a self-contained HTML page.

    Args:
        rows: the table under the headline, all with the same keys; the first row is shown in bold.
        details: a second, smaller table under the first.
        sections: those without a figure are left out.
    """
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="about">{html.escape(about)}</p>',
        f'<p class="headline">{html.escape(headline)}</p>',
        _table(rows),
        f'<div class="details">{_table(details)}</div>' if details else "",
    ]
    for heading, text, figure in sections:
        if figure is not None:
            body.append(f"<h2>{html.escape(heading)}</h2><p>{html.escape(text)}</p>{svg(figure)}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{''.join(body)}</body></html>\n"
    )


def svg(figure: Figure) -> str:
    """A figure as SVG, whose text stays text: in the reader's fonts, which have more characters than matplotlib's."""
    file = io.StringIO()
    # A fixed salt and no metadata: the same results give the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sliceoff"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = file.getvalue()
    return text[text.index("<svg") :]


def _table(rows: Sequence[Mapping[str, object]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    lines = [
        f"<tr{' class=main' if index == 0 else ''}>"
        + "".join(f"<td>{_cell(value)}</td>" for value in row.values())
        + "</tr>"
        for index, row in enumerate(rows)
    ]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.1f}"
    return html.escape(str(value))
