"""Hooks of MkDocs: pages that are generated from the code, and links that work in the repository and on the site."""

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

import commands  # noqa: E402
import database  # noqa: E402
import decisions  # noqa: E402
import python_api  # noqa: E402
import shipped_studies  # noqa: E402
import study_file  # noqa: E402

GENERATED = {
    "reference/commands.md": commands.page,
    "reference/study-file.md": study_file.page,
    "reference/studies.md": shipped_studies.page,
    "reference/python.md": python_api.page,
    "reference/database.md": database.page,
    "decisions/index.md": decisions.page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, README as the first page, the changelog and the examples."""
    for name, page in GENERATED.items():
        files.append(File.generated(config, name, content=page()))
    files.append(File.generated(config, "index.md", content=_from_root((ROOT / "README.md").read_text())))
    files.append(
        File.generated(config, "changelog.md", content=_from_root((ROOT / "CHANGELOG.md").read_text()))
    )
    for path in sorted((ROOT / "examples").rglob("*")):
        if (
            path.is_file()
            and path.suffix in {".ipynb", ".py", ".toml", ".md"}
            and "__pycache__" not in path.parts
        ):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page whose links to files outside docs/ lead to their copies on the site."""
    del config, files
    up = "../" * page.file.src_uri.count("/")
    markdown = re.sub(r"\]\((?:\.\./)+examples/", f"]({up}examples/", markdown)
    markdown = re.sub(r"\]\((?:\.\./)+CHANGELOG\.md", f"]({up}changelog.md", markdown)
    markdown = markdown.replace("](examples/attention_unet)", "](examples/attention_unet/README.md)")
    markdown = re.sub(r"\]\((?:\.\./)+docs/", f"]({up}", markdown)
    return markdown.replace("](decisions)", "](decisions/index.md)")


def _from_root(markdown: str) -> str:
    """Return a page of the repository's root with links as seen from docs/."""
    markdown = markdown.replace("](docs/", "](").replace('src="docs/', 'src="')
    markdown = markdown.replace("](CHANGELOG.md)", "](changelog.md)")
    return markdown.replace("](examples)", "](python.md)")
