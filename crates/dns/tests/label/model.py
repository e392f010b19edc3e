"""Labels of the texts on standard input, one in hexadecimal digits a line.

A model of DC/OS's rule in other words than those of the program: it works on whole texts.
"""

import re
import sys

SIZE = 63


def label(text):
    text = text.lower() if text.isascii() else bytes(b + 32 if 65 <= b <= 90 else b for b in text)
    text = re.sub(rb"[_.]", b"-", text)
    text = re.sub(rb"[^a-z0-9-]+", b"", text)
    text = re.sub(rb"^-+", b"", text)
    head = re.sub(rb"-+$", b"", text[:SIZE])
    tail = re.sub(rb"-", b"", text[SIZE:])
    return head + tail[: SIZE - len(head)]


for line in sys.stdin:
    print(label(bytes.fromhex(line.strip())).decode("ascii"))
