"""Facts of a host; a fingerprint that outlives a reboot; limits of control groups; the revision of the code."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from workbench.machine import host


def test_facts_are_json_and_name_the_machine():
    facts = host.host_facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cores"] >= 1 and set(host.physical_cores()) <= set(facts["usable_cpus"])
    assert facts["memory_bytes"] > 2**28 and facts["page_bytes"] >= 4096
    assert {"numpy", "numba", "torch"} <= facts["packages"].keys()
    levels = [cache["level"] for cache in facts["caches"]]
    assert levels == sorted(set(levels))


def test_the_fingerprint_outlives_a_reboot():
    facts = host.host_facts()
    rebooted = facts | {
        "boot_id": "other",
        "kernel": "other",
        "frequency_mhz": 1.0,
        "steal_s": 9.0,
        "hostname": "other",
    }
    assert host.fingerprint(rebooted) == host.fingerprint(facts)
    assert len(host.fingerprint(facts)) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"cpu_model": "other"}, {"cores": 77}, {"cpu_limit": 0.5}, {"memory_bytes": 2**45}, {"packages": {}},
        {"caches": []}, {"gpus": [{"name": "H200"}]}, {"transparent_huge_pages": "other"},
    ],
)  # fmt: skip
def test_the_fingerprint_follows_hardware_limits_and_versions(change):
    facts = host.host_facts()
    assert host.fingerprint(facts | change) != host.fingerprint(facts)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_limits_of_control_groups_version_2(tmp_path):
    root = write(tmp_path, {
        "proc/self/cgroup": "0::/outer/inner\n",
        "sys/fs/cgroup/outer/inner/cpu.max": "max 100000\n",
        "sys/fs/cgroup/outer/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/outer/inner/memory.max": "1073741824\n",
        "sys/fs/cgroup/outer/memory.max": "max\n",
    })  # fmt: skip
    assert host.cpu_limit(root) == 1.5
    assert host.memory_limit_bytes(root) == 2**30


def test_limits_of_control_groups_version_1(tmp_path):
    root = write(tmp_path, {
        "proc/self/cgroup": "4:memory:/box\n3:cpuset:/\n1:cpu,cpuacct:/box\n0::/\n",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "4294967296\n",
    })  # fmt: skip
    assert host.cpu_limit(root) is None
    assert host.memory_limit_bytes(root) == 2**32


def test_no_control_groups(tmp_path):
    assert host.cpu_limit(tmp_path) is None and host.memory_limit_bytes(tmp_path) is None


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_the_revision_is_that_of_the_checkout_only(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        done = subprocess.run(
            ["git", "-C", str(tmp_path), *who, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    file = tmp_path / "host.py"
    file.write_text("a = 1\n")
    monkeypatch.setattr(host, "__file__", str(file))
    assert host.code_revision() is None
    git("init", "-q")
    assert host.code_revision() is None  # in somebody's repository, but not part of it
    git("add", "host.py")
    git("commit", "-q", "-m", "one")
    assert host.code_revision() == git("rev-parse", "HEAD")
    file.write_text("a = 2\n")
    assert host.code_revision() == git("rev-parse", "HEAD") + "-dirty"


def test_without_git_there_is_no_revision(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert host.code_revision() is None
