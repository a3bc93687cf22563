"""The documentation: every command in it parses, and every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_parsing import parse_error

REPOSITORY = Path(__file__).resolve().parents[1]
ROOT_PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*ROOT_PAGES, *sorted(set((REPOSITORY / "docs").rglob("*.md")) - {REPOSITORY / "docs" / "api" / "index.md"})]
LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")


def page_name(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def code_lines(page: Path) -> Iterator[str]:
    """Lines of shell code, fenced or indented; lines that end in a backslash are joined."""
    language: str | None = None
    pending = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = re.match(r"\s*```(\w*)", line)
        if fence:
            language = (fence.group(1) or "text") if language is None else None
            continue
        shell = language in ("bash", "sh", "console") or (language is None and line.startswith("    "))
        if shell:
            pending += line.strip().removeprefix("$ ")
            if pending.endswith("\\"):
                pending = pending[:-1]
                continue
            yield pending
            pending = ""


def commands(page: Path) -> Iterator[list[str]]:
    """Every nnUNetv2_* command of a page, also where it stands in $(...) or after another command."""
    for line in code_lines(page):
        inner = re.findall(r"\$\(([^()]*)\)", line)
        outer = re.sub(r"\$\([^()]*\)", "SUBSTITUTED", line)
        for part in [*inner, *re.split(r"&&|\|\||[;|]", outer)]:
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words = words[1:]
            if words and words[0].startswith("nnUNetv2_"):
                yield words


COMMANDS = [
    pytest.param(command, id=f"{page_name(page)}:{shlex.join(command)[:80]}")
    for page in PAGES
    for command in commands(page)
]


def test_pages_hold_commands() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_command_parses(command: list[str]) -> None:
    assert parse_error(command) is None


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {words[1] for line in code_lines(page) if (words := line.split()) and words[0] == "make" and len(words) > 1}
    assert named <= targets


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    return {anchor(found) for found in re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"https?:|mailto:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} in {page_name(page)}"
        assert not fragment or fragment in anchors(target), f"{link} in {page_name(page)}"


def test_index_names_every_page() -> None:
    index = REPOSITORY / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(index.read_text("utf-8"))}
    assert {page_name(page) for page in PAGES if page not in (*ROOT_PAGES, index)} == {
        page_name(path) for path in linked if path.suffix == ".md"
    }


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_pages_name_no_folder_of_this_machine(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(work|root|tmp)/", page.read_text(encoding="utf-8"))


def test_commands_are_found_in_every_form(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "nnUNetv2_text in prose\n\n```bash\nexport a=$(nnUNetv2_one)\n"
        "b=1 nnUNetv2_two -i \\\n  'x y' && nnUNetv2_three # no\n"
        "```\n\n```json\nnnUNetv2_json\n```\n\n    nnUNetv2_four --cases $(ls; pwd)\n",
        encoding="utf-8",
    )
    assert list(commands(page)) == [
        ["nnUNetv2_one"],
        ["nnUNetv2_two", "-i", "x y"],
        ["nnUNetv2_three"],
        ["nnUNetv2_four", "--cases", "SUBSTITUTED"],
    ]


SOURCES = [
    path
    for folder in ("nnunetv2_promise", "trainers", "network_architectures", "tests", "benchmarks")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]
NAMED_FILE = re.compile(
    r"(?<![\w/.{<])(?:docs|tests|trainers|network_architectures|nnunetv2_promise)/[\w./-]+\.(?:md|py|json)\b"
)


def test_files_that_docstrings_and_pages_name_exist() -> None:
    pages = [REPOSITORY / "setup.py", *PAGES, *SOURCES]
    named = {(page_name(page), name) for page in pages for name in NAMED_FILE.findall(page.read_text(encoding="utf-8"))}
    assert len(named) > 10
    assert {(page, name) for page, name in named if not (REPOSITORY / name).is_file()} == set()


@pytest.mark.parametrize("path", SOURCES, ids=page_name)
def test_sources_name_no_page_outside_of_the_repository(path: Path) -> None:
    assert not re.search(r"\b(DESIGN|INTERACTIVE|STYLE)(\.md| section)", path.read_text(encoding="utf-8"))
