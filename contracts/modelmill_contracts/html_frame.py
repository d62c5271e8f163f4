"""The frame of pages for people: each is one HTML file that needs nothing else, and the parts that pages share.

A page has no script and loads nothing, and says so to the browser.  The same facts give the same bytes.
"""

import html
from collections.abc import Iterable

STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5d6b7c;--line:#dfe4ea;--card:#fff;--ground:#f4f6f8;--bar:#4a7fc1;
--before:#d9822b;--warn:#b3261e;--warn-ground:#fbe9e7}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa7b5;--line:#313a45;--card:#1d232b;--ground:#13171c;
--bar:#6b9fe0;--before:#f0a04b;--warn:#ff9d93;--warn-ground:#43211e}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
main{max-width:1280px;margin:0 auto;padding:20px 16px 48px}
h1{font-size:22px;margin:0 0 4px}code{font-size:13px;color:var(--soft);overflow-wrap:anywhere}
p{margin:6px 0;color:var(--soft);overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;margin:16px 0}
.fact,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}
.fact b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.fact span{color:var(--soft);font-size:13px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:12px}
.card h2{font-size:16px;margin:0;overflow-wrap:anywhere}.card.moved{border-color:var(--warn)}
.head{display:flex;justify-content:space-between;gap:8px;align-items:start;margin-bottom:6px}
.type{font-size:12px;color:var(--soft);border:1px solid var(--line);border-radius:99px;padding:1px 8px;flex:none}
.change{display:inline-block;font-size:13px;color:var(--soft)}
.moved .change{color:var(--warn);background:var(--warn-ground);border-radius:6px;padding:1px 6px}
svg{display:block;width:100%;height:84px;margin:6px 0 2px;border-bottom:1px solid var(--line)}
rect{fill:var(--bar)}path{fill:none;stroke:var(--before);stroke-width:1.5;vector-effect:non-scaling-stroke}
.ends{display:flex;justify-content:space-between;font-size:12px;color:var(--soft);font-variant-numeric:tabular-nums}
dl{display:grid;grid-template-columns:repeat(4,auto);gap:0 10px;margin:8px 0 0;font-size:13px}
dt{color:var(--soft);grid-row:1}dd{margin:0;grid-row:2;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.value{display:grid;grid-template-columns:minmax(60px,38%) 1fr 56px;gap:8px;align-items:center;
font-size:13px;margin:3px 0}
.value>span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}.value em{color:var(--soft)}
.track{position:relative;height:12px;background:var(--ground);border-radius:3px}
.track i{position:absolute;inset:0 auto 0 0;background:var(--bar);border-radius:3px}
.track u{position:absolute;top:-2px;bottom:-2px;width:2px;background:var(--before)}
.value>b{font-weight:400;text-align:right;font-variant-numeric:tabular-nums}
.none{margin:14px 0}
"""


def document(title: str, heading: str, name: str, body: str, style: str = "") -> str:
    """A page.  `title`, `heading` and `name` are text; `body` is HTML, `style` is added to what all pages have."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline'\">"
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head><body><main>"
        f"<h1>{html.escape(heading)}</h1><code>{html.escape(name)}</code>"
        f"{body}</main></body></html>\n"
    )


def facts(shown: Iterable[tuple[str, str]]) -> str:
    """Large values over small words, both HTML."""
    cells = (f'<div class="fact"><b>{value}</b><span>{words}</span></div>' for value, words in shown)
    return '<div class="facts">' + "".join(cells) + "</div>"


def bar(name: str, share: float, value: str, mark: str = "") -> str:
    """One line: a name, a bar as long as the share of its track, and a value; all HTML."""
    return (
        f'<div class="value"><span>{name}</span><div class="track"><i style="width:{share * 100:.1f}%"></i>{mark}</div>'
        f"<b>{value}</b></div>"
    )


def share(part: int, whole: int) -> str:
    """A percentage, as HTML."""
    if not part or not whole:
        return "0&nbsp;%"
    found = part / whole * 100
    return f"{found:.1f}&nbsp;%" if found >= 0.1 else "&lt;0.1&nbsp;%"
