"""Make the picture of a marked recording that the README shows, from the page that `eegdm demo`
writes of its unseen synthetic recording: the strongest event as traces, above the probabilities of
the event classes over the whole recording.

    eegdm demo && python examples/marked_recording.py docs/images/marked-recording.png
"""

from __future__ import annotations

import argparse
import base64
import io
import re
from pathlib import Path

from PIL import Image

COLOURS = 64
"""Of the palette: lines on white need few, and the file stays small."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--prediction", type=Path, default=Path("runs/synthetic/demo/prediction"))
    args = parser.parse_args()
    (page,) = args.prediction.rglob("*_report.html")
    timeline, strongest = pictures(page.read_text(encoding="utf-8"))[:2]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    stacked(strongest, timeline).quantize(COLOURS).save(args.out, optimize=True)
    print(f"wrote {args.out}: {args.out.stat().st_size / 1000:.0f} kB")


def pictures(page: str) -> list[Image.Image]:
    """The pictures of a page, in its order."""
    found = re.findall(r'<img width="\d+" src="data:image/png;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB") for data in found]


def stacked(*parts: Image.Image) -> Image.Image:
    """Pictures one below the other, on white."""
    size = max(part.width for part in parts), sum(part.height for part in parts)
    whole, top = Image.new("RGB", size, "white"), 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole


if __name__ == "__main__":
    main()
