"""pyproject.toml, environment.yml, the locks and the workflows agree with each other."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

BASE = "requirements.lock"
GPU = "requirements-gpu.lock"
JAX = "requirements-jax.lock"
LOCKS = (BASE, GPU, JAX)
PYTHONS = ("3.11", "3.12", "3.13")


def declared(root, *extras):
    """The requirements of pyproject.toml, by name."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def locked(root, lock):
    """The pins of a lock: pairs of a requirement and its hashes."""
    text = (root / lock).read_text().replace("\\\n", " ")
    pins = []
    for line in text.splitlines():
        pin, *hashes = line.split("--hash=")
        pins.append((Requirement(pin.strip()), [value.strip() for value in hashes]))
    return pins


def version_for(pins, name, python):
    """The version that a lock gives a package on Linux and one Python."""
    place = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "implementation_name": "cpython",
    }
    fitting = [
        next(iter(pin.specifier)).version
        for pin, _ in pins
        if canonicalize_name(pin.name) == name and (not pin.marker or pin.marker.evaluate(place))
    ]
    assert len(fitting) == 1, f"{name} on Python {python}: {fitting}"
    return fitting[0]


# --- environment.yml ------------------------------------------------------------------------


def conda(root):
    return yaml.safe_load((root / "environment.yml").read_text())


def test_conda_has_the_packages_of_pyproject(root):
    (pip,) = [item["pip"] for item in conda(root)["dependencies"] if isinstance(item, dict)]
    assert pip == ["-e .[book,test]"]


def test_conda_has_the_same_python(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    (python,) = [
        item
        for item in conda(root)["dependencies"]
        if isinstance(item, str) and item.startswith("python")
    ]
    assert Requirement(python).specifier == SpecifierSet(project["requires-python"])


# --- the locks ------------------------------------------------------------------------------


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_every_range(root, python):
    pins = locked(root, BASE)
    for name, requirement in declared(root, "book", "test").items():
        version = version_for(pins, name, python)
        assert requirement.specifier.contains(version), f"{name} {version}"


@pytest.mark.parametrize("python", PYTHONS)
def test_jax_lock_satisfies_its_range(root, python):
    version = version_for(locked(root, JAX), "jax", python)
    assert declared(root, "jax")["jax"].specifier.contains(version)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_has_hashes(root, lock):
    pins = locked(root, lock)
    assert pins
    for pin, hashes in pins:
        assert [part.operator for part in pin.specifier] == ["=="], pin.name
        assert hashes, pin.name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), pin.name


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_no_address(root, lock):
    text = (root / lock).read_text()
    assert "//" not in text and "@" not in text
    assert not re.search(r"index|find-links|trusted", text)


def test_a_laptop_gets_no_cuda(root):
    names = {canonicalize_name(pin.name) for pin, _ in locked(root, BASE)}
    assert "tensorflow" in names
    assert not [name for name in names if re.search("nvidia|cuda|cudnn", name)]


def test_the_gpu_lock_holds_nvidia_alone_and_all_that_tensorflow_asks_for(root):
    from importlib.metadata import requires

    names = {canonicalize_name(pin.name) for pin, _ in locked(root, GPU)}
    asked = [Requirement(line) for line in requires("tensorflow")]
    cuda = {
        canonicalize_name(requirement.name): requirement.specifier
        for requirement in asked
        if requirement.marker
        and requirement.marker.evaluate({"extra": "and-cuda"})
        and not requirement.marker.evaluate({"extra": ""})
    }
    assert names == cuda.keys()
    for pin, _ in locked(root, GPU):
        (exact,) = pin.specifier
        assert cuda[canonicalize_name(pin.name)].contains(exact.version), pin.name


@pytest.mark.parametrize("lock", (GPU, JAX))
def test_an_add_on_repeats_nothing_of_the_base(root, lock):
    base = {canonicalize_name(pin.name) for pin, _ in locked(root, BASE)}
    assert not base & {canonicalize_name(pin.name) for pin, _ in locked(root, lock)}


# --- the workflows --------------------------------------------------------------------------


def workflows(root):
    found = sorted((root / ".github" / "workflows").glob("*.yml"))
    return {path.name: (path.read_text(), yaml.safe_load(path.read_text())) for path in found}


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_the_four_workflows_are_there(root):
    assert workflows(root).keys() == {"nightly.yml", "notebooks.yml", "publish.yml", "test.yml"}


def test_actions_are_pinned_to_a_commit_with_its_version_beside_it(root):
    for name, (text, workflow) in workflows(root).items():
        used = [step["uses"] for step in steps(workflow) if "uses" in step]
        assert used, name
        for action in used:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), f"{name}: {action}"
        pinned = re.findall(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", text, flags=re.MULTILINE)
        assert len(pinned) == len(used), f"{name}: a pin has no version beside it"


def test_an_action_has_one_version_everywhere(root):
    used = {
        step["uses"]
        for _, flow in workflows(root).values()
        for step in steps(flow)
        if "uses" in step
    }
    assert len(used) == len({action.split("@")[0] for action in used})


def test_permissions_are_minimal(root):
    allowed = {("publish.yml", "deploy"): {"pages": "write", "id-token": "write"}}
    for name, (_, workflow) in workflows(root).items():
        assert workflow["permissions"] == {"contents": "read"}, name
        for job, content in workflow["jobs"].items():
            assert content.get("permissions", {}) == allowed.get((name, job), {}), f"{name}: {job}"


def test_no_workflow_keeps_the_token_or_runs_without_end(root):
    for name, (_, workflow) in workflows(root).items():
        for job in workflow["jobs"].values():
            assert job["timeout-minutes"] <= 90, name
        for step in steps(workflow):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name


def test_the_workflows_call_the_commands_of_the_makefile(root):
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), flags=re.MULTILINE))
    called = {}
    for name, (_, workflow) in workflows(root).items():
        commands = "\n".join(step.get("run", "") for step in steps(workflow))
        called[name] = re.findall(r"\bmake ([a-z-]+)", commands)
        assert set(called[name]) <= targets, name
    assert set(called["test.yml"]) >= {"lint", "book", "test", "test-jax"}
    assert "book" in called["publish.yml"]
    assert "notebooks" in called["notebooks.yml"]


def test_each_push_is_tested_on_every_python(root):
    _, workflow = workflows(root)["test.yml"]
    # YAML 1.1 reads the key `on` as true.
    assert {"push", "pull_request"} <= set(workflow[True])
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == list(PYTHONS)


def test_the_book_is_published_from_main_alone_and_the_notebooks_run_weekly(root):
    _, publish = workflows(root)["publish.yml"]
    assert publish[True]["push"]["branches"] == ["main"]
    _, notebooks = workflows(root)["notebooks.yml"]
    (schedule,) = notebooks[True]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", schedule["cron"])


def test_ci_calls_the_two_commands_of_the_readme(root):
    script = (root / ".ci" / "run").read_text()
    assert script.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script
    called = re.findall(r"^make ([a-z-]+)", script, flags=re.MULTILINE)
    assert {"book", "test", "lint", "test-jax"} <= set(called)
    assert called[-1] == "test", "the closing summary is that of the whole"


def test_the_nightly_run_misses_no_file_of_rare_cases(root):
    _, workflow = workflows(root)["nightly.yml"]
    (job,) = workflow["jobs"].values()
    parts = " ".join(job["strategy"]["matrix"]["tests"]).split()
    covered = {
        file
        for part in parts
        for path in root.glob(part)
        for file in (path.rglob("*.py") if path.is_dir() else [path])
    }
    rare = {
        file
        for file in (root / "tests").rglob("test_*.py")
        if re.search(r"^@(given|pytest\.mark\.rare)\b", file.read_text(), flags=re.MULTILINE)
    }
    assert len(rare) > 10 and rare <= covered
