"""Whether each crate has a licence that deny.toml allows: reads `cargo metadata` on standard input."""

import json
import re
import sys
import tomllib

with open("deny.toml", "rb") as file:
    ALLOWED = set(tomllib.load(file)["licenses"]["allow"])


def is_allowed(expression: str) -> bool:
    """An SPDX expression, with the old `/` for OR."""
    expression = expression.replace("/", " OR ")
    for term in sorted(re.findall(r"[A-Za-z0-9.+-]+ WITH [A-Za-z0-9.+-]+", expression), key=len, reverse=True):
        expression = expression.replace(term, str(term in ALLOWED))
    words = re.findall(r"[()]|[A-Za-z0-9.+-]+", expression)
    keep = {"(": "(", ")": ")", "AND": "and", "OR": "or", "True": "True", "False": "False"}
    text = " ".join(keep.get(word, str(word in ALLOWED)) for word in words)
    return bool(re.fullmatch(r"[()a-zTF ]+", text)) and bool(eval(text))  # Only the words above are left.


packages = json.load(sys.stdin)["packages"]
bad = [f"{p['name']} {p['version']}: {p['license']}" for p in packages
       if p["source"] and not (p["license"] and is_allowed(p["license"]))]
print(f"licences: {len(packages)} crates, {len(bad)} not allowed")
sys.exit("\n".join(bad) if bad else 0)
