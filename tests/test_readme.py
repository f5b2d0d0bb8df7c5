"""Every Python example of README runs as it is written, and prints what README says it prints."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"

# A heading, or a fenced block: its language and its text.
_HEADING_OR_BLOCK = re.compile(
    r"^\#+[ ](?P<heading>[^\n]+)$ | ^```(?P<language>\w*)[^\n]*\n (?P<text>.*?) ^```[ ]*$ (?P<gap>\s*)",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)


@dataclass
class Example:
    """A block of Python, and the output that README shows right below it, if it does."""

    name: str
    source: str
    output: str | None = None


def examples(markdown: str) -> list[Example]:
    """The blocks of Python in order, named by the heading above them."""
    found: list[Example] = []
    heading = "top"
    may_show_output_at = -1
    for match in _HEADING_OR_BLOCK.finditer(markdown):
        if match["heading"]:
            heading = match["heading"].strip()
        elif match["language"] == "python":
            found.append(Example(_unused(heading, found), match["text"]))
            may_show_output_at = match.end()
        elif match["language"] == "text" and match.start() == may_show_output_at:
            found[-1].output = match["text"]
    return found


def _unused(heading: str, found: list[Example]) -> str:
    """The heading, with a number if it has a block already."""
    names = {example.name for example in found}
    numbered = [heading, *(f"{heading} {number}" for number in range(2, len(found) + 2))]
    return next(name for name in numbered if name not in names)


EXAMPLES = examples(README.read_text(encoding="utf-8"))


def test_readme_has_examples() -> None:
    """Without examples the test below would pass by doing nothing."""
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_readme_example_runs(example: Example, tmp_path: Path) -> None:
    """Pasted in a file and run there, it does what README says."""
    script = tmp_path / "example.py"
    script.write_text(example.source, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    if example.output is not None:
        assert result.stdout == example.output


def test_readme_pictures_are_there_and_small() -> None:
    """Each is a PNG that the README names, of less than 150 KB; none lies there unused."""
    named = set(re.findall(r"\.readme/[\w.-]+", README.read_text(encoding="utf-8")))
    pictures = {f".readme/{file.name}": file.read_bytes() for file in (README.parent / ".readme").iterdir()}
    assert named == set(pictures)
    for picture in pictures.values():
        assert picture.startswith(b"\x89PNG\r\n")
        assert len(picture) < 150_000


SAMPLE = """
```python
nameless = 1
```
# First
```python
print("a")
# Not a heading.
```

```text
a
```
```text
not its output
```
## Second `one`
```python
b
```
In between.
```text
not its output
```
```sh
python3
```
```python
c
```
"""


def test_examples_are_found_with_their_output() -> None:
    """A block is named by the heading above it; output is what follows it directly."""
    assert examples(SAMPLE) == [
        Example("top", "nameless = 1\n"),
        Example("First", 'print("a")\n# Not a heading.\n', "a\n"),
        Example("Second `one`", "b\n"),
        Example("Second `one` 2", "c\n"),
    ]
