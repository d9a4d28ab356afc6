"""What stands around the code: workflows, citation, release notes; they name what is there."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def steps(workflow: Path) -> list[dict]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_workflows_call_targets_and_tools_that_are_here():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    called = []
    for workflow in WORKFLOWS:
        for step in steps(workflow):
            run = step.get("run", "")
            called += re.findall(r"^make ([\w-]+)", run)
            for script in re.findall(r"python (tools/\S+)", run):
                assert (ROOT / script).is_file(), script
    assert {"test", "test-lowest", "demo", "dist", "docs"} <= set(called)
    for target in called:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_workflows_try_the_pythons_that_setup_cfg_allows():
    (test,) = (path for path in WORKFLOWS if path.name == "test.yml")
    jobs = yaml.safe_load(test.read_text(encoding="utf-8"))["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]
    assert "python_requires = >=3.10,<3.14" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def test_forms_and_hooks_are_whole():
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        values = yaml.safe_load(form.read_text(encoding="utf-8"))
        if form.name != "config.yml":
            assert values["name"] and values["description"], form
            assert len({field["id"] for field in values["body"]}) == len(values["body"]) > 1
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [hook["id"] for hook in hooks["repos"][0]["hooks"]] == ["ruff-format", "ruff", "mypy"]


def test_citation():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0" and cited["license"] == "Apache-2.0"
    paper = cited["preferred-citation"]
    assert paper["year"] == 2020 and len(paper["authors"]) == 4
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert paper["title"] in " ".join(readme.split())


def test_release_notes():
    path = ROOT / "tools/release_notes.py"
    spec = importlib.util.spec_from_file_location("release_notes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    changelog = "# Changelog\n\n## 0.2.0 (2026-12-01)\n\n- New.\n\n## 0.1.0\n\n- Old.\n- More.\n"
    assert module.release_notes(changelog, "0.2.0") == "- New.\n"
    assert module.release_notes(changelog, "0.1.0") == "- Old.\n- More.\n"
    with pytest.raises(LookupError, match=r"no heading for 0\.3\.0"):
        module.release_notes(changelog, "0.3.0")
    ours = module.CHANGELOG.read_text(encoding="utf-8")
    assert "Preprocessing" in module.release_notes(ours, "0.1.0")
