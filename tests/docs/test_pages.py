"""The book on a code host: pages with everything written out, of today's sources, whose links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SHOWN_AS_THEY_ARE = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "kernels" / "README.md",
    *sorted((DOCS / "read").glob("*.md")),
]


def test_the_pages_are_of_todays_sources(make_pages):
    made = dict(make_pages.pages())
    kept = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "read").glob("*.md")}
    assert set(kept) == set(made)
    stale = [name for name in made if made[name] != kept[name]]
    assert not stale, f"out of date, `python docs/make_pages.py` makes them again: {', '.join(stale)}"


def test_every_page_of_the_book_is_written_out_with_all_its_code(make_pages):
    for source in DOCS.glob("*.md"):
        text, shown = source.read_text(encoding="utf-8"), 0
        page = DOCS / "read" / ("README.md" if source.stem == "index" else source.name)
        written = page.read_text(encoding="utf-8")
        for one in make_pages.listings(text):
            assert one.text in written
            shown += 1
        assert shown == text.count("```{literalinclude}")
        assert written.count("```math") == text.count("$$") // 2
        prose = re.sub(r"^```\w.*?^```$|\$`[^`\n]+`\$|(?<!\})`[^`\n]+`", "", written, flags=re.MULTILINE | re.DOTALL)
        unknown = re.findall(r"```\{|^:::|\{\w+\}`|\{\{|\]\([^)]*\)\{|\$\$|(?<![`$])\$\w", prose, re.MULTILINE)
        assert unknown == [], f"{page.name}: a code host would show this as it stands"


def test_a_code_host_renders_listings_and_formulas_in_the_places_where_they_are(make_pages):
    """A fence inside a listing would end it, and what lies between two fences would be shown as code."""
    for page in (DOCS / "read").glob("*.md"):
        fences = re.findall(r"^```.*$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert all((fence == "```") == bool(i % 2) for i, fence in enumerate(fences)), page.name


def test_pieces_of_a_file_are_found_and_missing_ones_named(make_pages):
    method = make_pages.listing("../minidiff/diffusion/process.py", {"pyobject": "Process.predict"})
    assert method.text.startswith("def predict(") and method.path == "minidiff/diffusion/process.py"
    lines = (ROOT / method.path).read_text(encoding="utf-8").splitlines()
    assert lines[method.line - 1].strip() == method.text.splitlines()[0]
    manager = make_pages.listing("../minidiff/autograd.py", {"pyobject": "no_grad"})
    assert manager.text.startswith("@"), "decorators belong to what they decorate"
    with pytest.raises(ValueError, match=r"minidiff/autograd\.py has no Tensor\.forwards"):
        make_pages.listing("../minidiff/autograd.py", {"pyobject": "Tensor.forwards"})
    with pytest.raises(ValueError, match="has no line with 'T = 2000'"):
        make_pages.listing("chapter1/two_moons.py", {"start-at": '"T = 2000"'})


def test_formulas_images_and_numbers_are_written_for_code_hosts(make_pages):
    text = "A $x_0$ of `$HOME`, *with $\\hat x$*\n\n![one](figures/orders.png){.chart}\n\n$$\na = \\\\\nb\n$$\n"
    assert make_pages.written_out(text) == (
        "A $`x_0`$ of `$HOME`, *with $`\\hat x`$*\n\n![one](../figures/orders.png)\n\n```math\na = \\\\\nb\n```\n"
    )


# ---- links ----------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What headings are called in an address, as GitHub and GitLab do it."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", SHOWN_AS_THEY_ARE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_images_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$|`[^`\n]+`(?!\])", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    for target in targets:
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file() and file.is_relative_to(ROOT), f"{page.name} leads to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} leads to {target}, which has no such heading"
    assert targets or page.name in ("CONTRIBUTING.md", "README.md")


def test_readme_leads_to_pages_that_show_their_code():
    pages = re.findall(r"\]\((docs/[^)#]*\.md)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(pages) > 5
    assert [page for page in pages if not page.startswith("docs/read/")] == []
