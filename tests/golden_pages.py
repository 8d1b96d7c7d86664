"""The bytes of reports must stay as they are when code moves.

`python -m tests.golden_pages --commit 2585637` does two small pipelines, has that commit's code and this version write
the reports of the same ledgers and stores, whole ones and ones that have lost a kind of artifact, and prints which
pages differ.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import ArtifactStore
from tests.golden import ROOT, SPECS, put_tree
from tests.unit.shared.report.conftest import run

#: Writes a page beside each ledger `NAME.json` in the folder, of the store `NAME`.
WRITE_PAGES = """
import sys
from pathlib import Path
from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.report.page import write_page
from distill_queue.shared.store.folder_store import ArtifactStore

for path in sorted(Path(sys.argv[1]).glob("*.json")):
    status = PipelineStatus.model_validate_json(path.read_text())
    write_page(status, ArtifactStore(path.with_suffix("")), Path(sys.argv[2]) / f"{path.stem}.html")
"""


def finish_pipelines(folder: Path) -> None:
    """Do each pipeline, and keep its ledger and its store; and copies of the store without a kind of artifact."""
    folder.mkdir()
    for spec in map(PipelineSpec.model_validate, SPECS):
        status, whole = run(spec, folder / spec.name)
        (folder / f"{spec.name}.json").write_text(status.model_dump_json())
        for kind in sorted({stage.kind for stage in status.plan.stages}):
            name = f"{spec.name}-without-{kind}"
            store = ArtifactStore(shutil.copytree(whole, folder / name))
            for stage in status.plan.stages:
                if stage.kind == kind:
                    shutil.rmtree(store.folder(stage.ref))
            shutil.copyfile(folder / f"{spec.name}.json", folder / f"{name}.json")


def write_pages(tree: Path, pipelines: Path, pages: Path) -> dict[str, bytes]:
    """The page of each pipeline as a version of the code writes it."""
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-P", "-c", WRITE_PAGES, pipelines, pages], env=environment, check=True)
    return {page.name: page.read_bytes() for page in pages.glob("*.html")}


def main() -> None:
    """Compare the pages of this version with a commit's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", required=True, help="the earlier version, as git names it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="golden-pages-") as name:
        folder = Path(name)
        put_tree(given.commit, folder / "tree")
        finish_pipelines(folder / "pipelines")
        earlier = write_pages(folder / "tree", folder / "pipelines", folder / "earlier")
        this = write_pages(ROOT, folder / "pipelines", folder / "this")
    different = [page for page in sorted(earlier | this) if earlier.get(page) != this.get(page)]
    sys.stdout.write("\n".join([*different, f"{len(different)} of {len(earlier)} pages differ from {given.commit}\n"]))
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
