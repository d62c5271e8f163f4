"""A page in a real browser, in a frame as wide as a phone or a desk's screen, and what a script of ours sees in it."""

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

_FRAME = """<!doctype html><title>frame</title><iframe id=f width=WIDTH height=900 srcdoc="PAGE"></iframe>
<pre id=out></pre><script>
document.getElementById("f").addEventListener("load", event => {
  const page = event.target.contentDocument;
  const one = page.querySelector.bind(page), all = page.querySelectorAll.bind(page);
  const boxes = selector => [...all(selector)].map(part => part.getBoundingClientRect());
  document.getElementById("out").textContent = JSON.stringify({
    title: page.title, text: page.body.innerText, scripts: all("script").length,
    wide: page.scrollingElement.scrollWidth - page.scrollingElement.clientWidth,
    inside: [...all(".card *")].filter(part => !part.closest(".scroll") || part.matches(".scroll"))
      .every(part => part.getBoundingClientRect().right <= part.closest(".card").getBoundingClientRect().right + 1),
    loaded: page.defaultView.performance.getEntriesByType("resource").length,
    LOOK
  });
});
</script>"""


def seen(chromium: str, tmp_path: Path, page: str, width: int, look: str) -> dict[str, Any]:
    """What the browser made of the page; `look` are more members of the object, in JavaScript.

    There `one` and `all` find elements of the page by a selector, and `boxes` where they are drawn.
    """
    frame = tmp_path / "frame.html"
    parts = {"WIDTH": str(width), "LOOK": look, "PAGE": html.escape(page)}
    frame.write_text(re.sub("|".join(parts), lambda part: parts[part[0]], _FRAME))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}/browser"]
    options += ["--virtual-time-budget=5000", "--window-size=1400,1000", "--dump-dom", frame.as_uri()]
    done = subprocess.run([chromium, *options], capture_output=True, check=True, timeout=120)
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout.decode(), re.DOTALL)
    assert found, done.stdout.decode()[-500:]
    answer: dict[str, Any] = json.loads(html.unescape(found[1]))
    return answer
